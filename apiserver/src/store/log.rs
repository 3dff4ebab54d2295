//! How large the log of changes in the database is. Each change holds the state before it, so that a number of changes alone
//! would bound nothing: one tenant's large objects could fill the memory of the next start.

use std::collections::VecDeque;

use super::event::{Change, Event};

/// How many bytes of the log are read at the start, or taken over from other servers at once, as they stand in the database;
/// what lies before is treated as if it had left the log. As much as [`LogLimits::bytes_max`](super::LogLimits) when all of it
/// is sealed, which takes a third more.
pub(super) const READ_BYTES_MAX: u64 = 64 << 20;

/// The revision up to which the log is not read: `$1` unless the changes after it have more than `$2` bytes.
pub(super) const BEGINS: &str = "SELECT COALESCE(max(revision), $1) FROM (SELECT revision, \
     sum(COALESCE(octet_length(last), 0) + COALESCE(octet_length(previous), 0)) OVER (ORDER BY revision DESC) AS bytes \
     FROM store_changes) AS sized WHERE bytes > $2";

/// The sizes of the changes that the log has, the oldest first: 16 bytes for each.
#[derive(Debug, Default)]
pub(super) struct Logged {
    changes: VecDeque<(u64, u64)>,
    bytes: u64,
    /// Nothing is known of the changes up to here, and nobody asks for them.
    begins: u64,
}

impl Logged {
    /// A log that was not read up to there.
    pub(super) fn new(begins: u64) -> Self {
        Self { begins, ..Self::default() }
    }

    pub(super) fn push(&mut self, event: &Event) {
        let last = if event.change == Change::Deleted { event.object.body.len() } else { 0 };
        let previous = event.previous.as_ref().map_or(0, |object| object.body.len());
        let bytes = (last + previous) as u64;
        self.changes.push_back((event.revision, bytes));
        self.bytes += bytes;
    }

    /// Up to where changes have to go so that the others have no more than so many bytes.
    pub(super) fn through(&self, bytes_max: u64) -> u64 {
        let mut rest = self.bytes;
        let going = self.changes.iter().take_while(|(_, bytes)| {
            let goes = rest > bytes_max;
            rest = rest.saturating_sub(*bytes);
            goes
        });
        going.last().map_or(self.begins, |(revision, _)| *revision)
    }

    /// How many bytes the changes have together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The changes up to there are gone.
    pub(super) fn forget(&mut self, through: u64) {
        while let Some((_, bytes)) = self.changes.pop_front_if(|(revision, _)| *revision <= through) {
            self.bytes -= bytes;
        }
    }
}
