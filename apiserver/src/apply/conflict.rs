//! What others own and an apply would change.

use std::fmt::Write as _;

use super::element::Path;
use super::entry::{Entry, Operation};

/// One field that somebody else owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner, as messages name it: `"kubectl-edit" using berth.dev/v1alpha1 at 2026-01-01T00:00:00Z`.
    pub owner: String,
    /// The field.
    pub path: Path,
}

impl Conflict {
    pub(super) fn new(entry: &Entry, path: Path) -> Self {
        let mut owner = format!("{:?}", entry.manager());
        // Writing to a text cannot fail.
        let mut add = |text: std::fmt::Arguments<'_>| owner.write_fmt(text).unwrap_or_default();
        if !entry.subresource().is_empty() {
            add(format_args!(" with subresource {:?}", entry.subresource()));
        }
        if entry.operation() == Operation::Update {
            add(format_args!(" using {}", entry.api_version()));
            if let Some(time) = entry.time() {
                add(format_args!(" at {}", crate::admission::timestamp(time)));
            }
        }
        Self { owner, path }
    }
}

/// Why an apply was refused, sorted by owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(pub Vec<Conflict>);

/// In the words of Kubernetes.
impl std::fmt::Display for Conflicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let [only] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {}: {}", only.owner, only.path);
        }
        write!(f, "Apply failed with {} conflicts: ", self.0.len())?;
        let mut owner = None;
        for conflict in &self.0 {
            if owner != Some(&conflict.owner) {
                let line = if owner.is_some() { "\n" } else { "" };
                write!(f, "{line}conflicts with {}:", conflict.owner)?;
                owner = Some(&conflict.owner);
            }
            write!(f, "\n- {}", conflict.path)?;
        }
        Ok(())
    }
}
