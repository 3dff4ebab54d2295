//! The logs of builds, kept by the uid of the Build. A piece may be sent again: the log is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Error, Series};

/// The longest log that is kept of one build. What comes after is counted and not kept: the first error is what
/// people look for, and a build that prints more than this prints it in circles.
pub const BUILD_LOG_BYTES_MAX: u64 = 64 << 20;
/// How much is read at a time.
const READ_BYTES: u64 = 256 << 10;

/// A part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildLog {
    /// The bytes.
    pub text: Vec<u8>,
    /// Where the next part begins.
    pub next: u64,
    /// How many bytes were not kept, known once the end of what was kept is reached.
    pub left_out: u64,
}

/// A piece of a log, as it is sent.
pub(super) struct Piece {
    pub(super) build: String,
    /// How many bytes of the log stand before it.
    pub(super) offset: u64,
    pub(super) text: Vec<u8>,
}

/// What of a piece is new.
pub(super) struct Fresh<'a> {
    /// Where the log ends with it.
    pub(super) end: i64,
    /// What is kept of it: nothing past the longest log.
    pub(super) text: &'a [u8],
}

impl Piece {
    /// What of it is new after the first `kept` bytes of the log; `None` if nothing is, or if it leaves a gap.
    pub(super) fn after(&self, kept: i64) -> Result<Option<Fresh<'_>>, Error> {
        let kept = kept.cast_unsigned();
        let end = self.offset + self.text.len() as u64;
        if self.offset > kept || end <= kept {
            return Ok(None);
        }
        let position = i64::try_from(end).or(Err(Error::Position(end)))?;
        let passed = usize::try_from(kept - self.offset).or(Err(Error::Position(self.offset)))?;
        let room = usize::try_from(BUILD_LOG_BYTES_MAX.saturating_sub(kept)).unwrap_or(usize::MAX);
        let text = self.text.get(passed..).unwrap_or_default();
        Ok(Some(Fresh { end: position, text: text.get(..room).unwrap_or(text) }))
    }
}

impl Series {
    /// Keeps a piece of a log and says how many bytes of the log are kept.
    ///
    /// What is kept already is passed over. A piece that leaves a gap is not taken; the answer says from where on the
    /// log must be sent again.
    pub async fn append_build_log(&self, build: &str, offset: u64, text: &[u8]) -> Result<u64, Error> {
        offset.checked_add(text.len() as u64).ok_or(Error::Position(offset))?;
        let piece = Piece { build: build.to_owned(), offset, text: text.to_vec() };
        let end = offset + text.len() as u64;
        let kept = self.append(piece).await?;
        if kept == end
            && let Some(follower) = self.followers().get(build)
        {
            // Of a piece that was kept already nobody is told again.
            follower.send_if_modified(|known| {
                let more = *known < end;
                *known = end.max(*known);
                more
            });
        }
        Ok(kept)
    }

    /// Reads a log from a byte on, at most some 256 KiB at a time; nothing is read at its end.
    pub async fn read_build_log(&self, build: &str, from: u64) -> Result<BuildLog, Error> {
        let start = i64::try_from(from).or(Err(Error::Position(from)))?;
        let pieces = self.pieces(build, start).await?;
        let mut log = BuildLog { text: Vec::new(), next: from, left_out: 0 };
        for (start, text) in pieces {
            let start = start.cast_unsigned();
            let passed = usize::try_from(log.next.saturating_sub(start)).unwrap_or(usize::MAX);
            if start > log.next || passed >= text.len() {
                continue;
            }
            log.text.extend_from_slice(&text[passed..]);
            log.next = start + text.len() as u64;
            if log.text.len() as u64 >= READ_BYTES {
                break;
            }
        }
        if log.next >= BUILD_LOG_BYTES_MAX {
            log.left_out = self.build_log_bytes(build).await?.saturating_sub(BUILD_LOG_BYTES_MAX);
        }
        Ok(log)
    }

    /// How many bytes of a log have come.
    pub async fn build_log_bytes(&self, build: &str) -> Result<u64, Error> {
        Ok(self.kept(build).await?.map_or(0, i64::cast_unsigned))
    }

    /// A number that is different after more of a log was kept. Waiting on it misses nothing: read first, then wait.
    pub fn follow_build_log(&self, build: &str) -> watch::Receiver<u64> {
        let mut followers = self.followers();
        followers.retain(|_, follower| follower.receiver_count() > 0);
        followers.entry(build.to_owned()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Removes the logs of builds that are gone. `builds` is asked for those that there are after the logs were
    /// listed, so that a log that is begun in the meantime is not taken for an orphan; `None` leaves all alone.
    pub async fn clear_build_logs(&self, builds: impl FnOnce() -> Option<BTreeSet<String>>) -> Result<(), Error> {
        let kept = self.builds().await?;
        let Some(builds) = builds() else { return Ok(()) };
        for build in kept {
            if !builds.contains(&build) {
                self.remove(&build).await?;
            }
        }
        Ok(())
    }

    fn followers(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<u64>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
