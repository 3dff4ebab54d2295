//! The logs of builds, kept by the uid of the Build. A piece may be sent again: the log is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use sqlx::Row;
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

impl Series {
    /// Keeps a piece of a log and says how many bytes of the log are kept.
    ///
    /// What is kept already is passed over. A piece that leaves a gap is not taken; the answer says from where on the
    /// log must be sent again.
    pub async fn append_build_log(&self, build: &str, offset: u64, text: &[u8]) -> Result<u64, Error> {
        let position = |bytes: u64| i64::try_from(bytes).or(Err(Error::Position(bytes)));
        let end = offset.checked_add(text.len() as u64).ok_or(Error::Position(offset))?;
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let kept: Option<i64> = sqlx::query("SELECT kept FROM paas_build_log_heads WHERE build = $1")
            .bind(build)
            .fetch_optional(&mut *transaction)
            .await?
            .map(|row| row.try_get(0))
            .transpose()?;
        let kept = kept.map_or(0, i64::cast_unsigned);
        if offset > kept || end <= kept {
            return Ok(kept);
        }
        sqlx::query(
            "INSERT INTO paas_build_log_heads (build, kept) VALUES ($1, $2)
             ON CONFLICT (build) DO UPDATE SET kept = excluded.kept",
        )
        .bind(build)
        .bind(position(end)?)
        .execute(&mut *transaction)
        .await?;
        let fresh = usize::try_from(kept - offset).or(Err(Error::Position(offset)))?;
        let room = usize::try_from(BUILD_LOG_BYTES_MAX.saturating_sub(kept)).unwrap_or(usize::MAX);
        let piece = &text[fresh..];
        let piece = &piece[..piece.len().min(room)];
        if !piece.is_empty() {
            sqlx::query("INSERT INTO paas_build_logs (build, start, text) VALUES ($1, $2, $3)")
                .bind(build)
                .bind(position(kept)?)
                .bind(piece)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        if let Some(follower) = self.followers().get(build) {
            follower.send_replace(end);
        }
        Ok(end)
    }

    /// Reads a log from a byte on, at most some 256 KiB at a time; nothing is read at its end.
    pub async fn read_build_log(&self, build: &str, from: u64) -> Result<BuildLog, Error> {
        let start = i64::try_from(from).or(Err(Error::Position(from)))?;
        // The piece that `from` lies in, and those after it.
        let rows = sqlx::query(
            "SELECT start, text FROM paas_build_logs WHERE build = $1 AND start >= COALESCE(
                 (SELECT MAX(start) FROM paas_build_logs WHERE build = $1 AND start <= $2), 0)
             ORDER BY start LIMIT 256",
        )
        .bind(build)
        .bind(start)
        .fetch_all(&self.readers)
        .await?;
        let mut log = BuildLog { text: Vec::new(), next: from, left_out: 0 };
        for row in rows {
            let start = row.try_get::<i64, _>(0)?.cast_unsigned();
            let text: &[u8] = row.try_get(1)?;
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
        let row = sqlx::query("SELECT kept FROM paas_build_log_heads WHERE build = $1")
            .bind(build)
            .fetch_optional(&self.readers)
            .await?;
        let kept: Option<i64> = row.map(|row| row.try_get(0)).transpose()?;
        Ok(kept.map_or(0, i64::cast_unsigned))
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
        let rows =
            sqlx::query("SELECT build FROM paas_build_log_heads ORDER BY build").fetch_all(&self.readers).await?;
        let Some(builds) = builds() else { return Ok(()) };
        for row in rows {
            let build: String = row.try_get(0)?;
            if !builds.contains(&build) {
                sqlx::query("DELETE FROM paas_build_log_heads WHERE build = $1")
                    .bind(&build)
                    .execute(&self.writer)
                    .await?;
            }
        }
        Ok(())
    }

    fn followers(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<u64>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
