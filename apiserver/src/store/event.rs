//! One committed change of one object.

use std::sync::Arc;

use bytes::Bytes;

use super::object::Object;
use super::{body, object::KindId};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It did not exist before.
    Created,
    /// It has another body.
    Updated,
    /// It is gone; the event's object is its last state.
    Deleted,
}

impl Change {
    /// The type of the watch event.
    pub fn watch_type(self) -> &'static str {
        match self {
            Self::Created => "ADDED",
            Self::Updated => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// The word for it in the log of changes.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }

    /// What a word of the log stands for; the database allows these three only.
    pub(super) fn from_operation(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "updated" => Self::Updated,
            _ => Self::Deleted,
        }
    }
}

/// A committed change, shared by the ring and all watchers.
#[derive(Debug)]
pub struct Event {
    /// The store-wide revision of the change: dense and strictly rising.
    pub revision: u64,
    /// The kind of the object.
    pub kind: KindId,
    /// What happened.
    pub change: Change,
    /// The new state; for a deletion the last one, stamped with this revision.
    pub object: Arc<Object>,
    /// The state before; `None` for a creation.
    pub previous: Option<Arc<Object>>,
}

impl Event {
    /// The event as a line of a watch stream (`{"type":…,"object":…}` and a newline). It was encoded when the change
    /// was committed: every watcher shares the same bytes, and the object's body is a slice of them.
    pub fn line(&self) -> Bytes {
        self.object.line.clone()
    }

    /// The line that a watcher whose selection the object has just entered gets.
    pub fn line_entered(&self) -> Bytes {
        if self.change == Change::Created { self.line() } else { body::line("ADDED", &self.object.body) }
    }

    /// The line that a watcher whose selection the object has just left gets: the old state under the new revision.
    /// `None` for a creation, which leaves nothing.
    pub fn line_left(&self) -> Option<Bytes> {
        let previous = self.previous.as_ref()?;
        if self.change == Change::Deleted {
            return Some(self.line());
        }
        Some(body::line("DELETED", &previous.body_with_revision(self.revision)))
    }
}

impl Object {
    /// The object as a line of type `ADDED`, for the initial state of a watch.
    pub fn added_line(&self) -> Bytes {
        if self.line.starts_with(br#"{"type":"ADDED""#) { self.line.clone() } else { body::line("ADDED", &self.body) }
    }
}
