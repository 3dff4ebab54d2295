//! A stored object: its ready-to-send JSON beside what is asked of it without reading the JSON again.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::body;
use super::error::BackendError;
use super::pairs::Pairs;

/// Which of the tables given to [`super::Store::open`]: its position in that list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId(pub usize);

/// What the store knows of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The SQL table, for example `paas_plans`: lower-case letters, digits and underscores.
    pub name: String,
    /// Objects not written for this long are removed; `None` keeps them for ever.
    pub retention_seconds: Option<u32>,
    /// Dotted paths whose values are kept in [`Meta::fields`].
    pub selectable_fields: Vec<String>,
    /// Whether the bodies are sealed before they reach the database.
    pub sealed: bool,
}

impl Table {
    /// The name, if it is one that can stand in a statement as it is: whatever else it could be is refused.
    pub(super) fn plain_name(&self) -> Result<&str, BackendError> {
        let name = self.name.as_str();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(plain) {
            Ok(name)
        } else {
            Err(BackendError::TableName(name.to_owned()))
        }
    }
}

/// The full name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: KindId,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name within kind and namespace.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace` (empty for cluster-scoped kinds).
    pub fn new(kind: KindId, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// One state of an object, as it was committed. Never changes; a later state is another `Object`.
#[derive(Debug)]
pub struct Object {
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`: the store-wide revision of the write that made this state.
    pub revision: u64,
    /// `metadata.generation`, 0 if it has none.
    pub generation: i64,
    /// `metadata.creationTimestamp`, or the time of the first write if it has none.
    pub created: Timestamp,
    /// When this state was written.
    pub modified: Timestamp,
    /// The whole object as JSON, with `metadata.resourceVersion`, ready to send.
    pub body: Bytes,
    /// What selectors, garbage collection and deletion ask for.
    pub meta: Meta,
    /// The watch line of the write that made this state; `body` is a slice of it.
    pub(super) line: Bytes,
}

impl Object {
    /// The object's full name.
    pub fn key(&self, kind: KindId) -> Key {
        Key::new(kind, &*self.namespace, &*self.name)
    }

    /// The body parsed. For a patch, which needs the tree; everything else should send [`Object::body`].
    pub fn value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body under another `resourceVersion`: what a watch with a selector sends as `DELETED` when an update makes
    /// the object leave the selection.
    pub fn body_with_revision(&self, revision: u64) -> Bytes {
        body::restamp(&self.body, revision)
    }

    /// The body as a column's value. It is text, so that in SQL it can be looked into.
    pub(super) fn text(&self) -> Result<&str, BackendError> {
        std::str::from_utf8(&self.body).map_err(|error| BackendError::Damaged(error.to_string()))
    }

    /// The same state with what is to stand in the database in place of its body.
    pub(super) fn with_stored_body(&self, body: Bytes) -> Self {
        Self {
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.name),
            uid: Arc::clone(&self.uid),
            revision: self.revision,
            generation: self.generation,
            created: self.created,
            modified: self.modified,
            meta: Meta { deletion_timestamp: self.meta.deletion_timestamp.clone(), ..Meta::default() },
            line: body.clone(),
            body,
        }
    }

    /// About how many bytes of memory this state holds, for the bounds of the ring.
    pub(super) fn weight(&self) -> usize {
        // The struct, its three counted strings and the allocations' own overhead.
        self.line.len() + 320
    }
}

/// What is asked about an object without reading its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// `metadata.labels`.
    pub labels: Pairs,
    /// The values of [`Table::selectable_fields`] that the object has, by dotted path; scalars as text.
    pub fields: Pairs,
    /// `metadata.ownerReferences`.
    pub owners: Box<[Owner]>,
    /// `metadata.finalizers`.
    pub finalizers: Box<[Arc<str>]>,
    /// `metadata.deletionTimestamp`: set while finalizers hold a deleted object.
    /// In a box, since few objects have it and every object would need the room of another 64 bytes.
    pub deletion_timestamp: Option<Box<Timestamp>>,
}

/// One of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `uid`: what ownership is decided by.
    pub uid: Arc<str>,
    /// `apiVersion`.
    pub api_version: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`.
    pub name: Arc<str>,
    /// Whether it is the managing controller.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}
