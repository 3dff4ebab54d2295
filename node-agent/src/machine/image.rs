//! An image as the engine has it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id, `sha256:…`.
    pub id: String,
    /// Its references.
    pub tags: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The TCP ports it exposes.
    pub ports: BTreeSet<u16>,
    /// The user its process runs as; empty = root.
    pub user: String,
    /// Its entry point.
    pub entrypoint: Vec<String>,
    /// Its command.
    pub command: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Instructions for whoever builds from it, which the builder would carry out unread.
    pub triggers: Vec<String>,
}

impl Image {
    /// Whether a text found it only because its id begins like that, and not because it is its name.
    pub fn is_found_by_id(&self, text: &str) -> bool {
        let hex = self.id.strip_prefix("sha256:").unwrap_or_default();
        let begins = self.id.starts_with(text) || hex.starts_with(text);
        begins && !self.tags.iter().any(|tag| tag == text || tag.strip_suffix(":latest") == Some(text))
    }
}
