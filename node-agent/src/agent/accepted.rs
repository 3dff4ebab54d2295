//! The assignment that the agent holds to: put together from what the gateway sends, and kept on disk.

use std::path::Path;

use node_protocol::{Assignment, AssignmentUpdate};

use super::shown::Held;
use crate::snapshot::Snapshot;

/// What came of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is a new assignment.
    Whole,
    /// More pieces of it are to come.
    Piece,
    /// It builds on something else than what is here.
    Misfit,
}

/// The last assignment that was accepted.
pub(super) struct Accepted {
    snapshot: Snapshot,
    assignment: Assignment,
    /// Whether there is an assignment: an agent that has lost its own knows no reason to do anything.
    exists: bool,
    /// Whether only part of what was saved could be read.
    partial: bool,
    /// What came of an update in pieces whose last one has not come.
    pending: Option<Assignment>,
    /// Whether the assignment differs from what is on disk.
    unsaved: bool,
}

impl Accepted {
    /// The one that was saved in the agent's data folder.
    pub(super) fn load(data_dir: &Path) -> Self {
        let snapshot = Snapshot::new(data_dir);
        let saved = snapshot.load();
        let exists = saved.is_some();
        let partial = saved.as_ref().is_none_or(|saved| saved.partial);
        let assignment = saved.map(|saved| saved.assignment).unwrap_or_default();
        Self { snapshot, assignment, exists, partial, pending: None, unsaved: false }
    }

    /// What the gateway is told of it. What was read in part only is asked for anew, all of it.
    pub(super) fn held(&self) -> Held {
        if self.partial {
            return Held::default();
        }
        Held { revision: Some(self.assignment.revision), digest: Some(self.assignment.digest()), misfits: 0 }
    }

    pub(super) fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    pub(super) fn exists(&self) -> bool {
        self.exists
    }

    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    pub(super) fn is_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Takes an update over.
    pub(super) fn take(&mut self, update: AssignmentUpdate) -> Taken {
        // A piece builds on the pieces before it; what another connection left half told is of no use.
        let pending = self.pending.take().filter(|pending| update.base == Some(pending.revision));
        let mut assignment = pending.unwrap_or_else(|| self.assignment.clone());
        let (revision, base, more) = (update.revision, update.base, update.more);
        if !assignment.apply(update) {
            tracing::warn!(revision, base, have = self.assignment.revision, "an update does not fit; all is asked for");
            return Taken::Misfit;
        }
        if more {
            self.pending = Some(assignment);
            return Taken::Piece;
        }
        self.unsaved |= assignment != self.assignment || self.partial;
        self.assignment = assignment;
        self.exists = true;
        self.partial = false;
        Taken::Whole
    }

    /// Brings it to disk unless it is there; says whether it is there now.
    pub(super) fn save(&mut self) -> bool {
        if self.unsaved
            && let Err(error) = self.snapshot.save(&self.assignment)
        {
            tracing::error!(%error, "the assignment cannot be saved; this is tried again");
            return false;
        }
        self.unsaved = false;
        true
    }
}
