//! Moving what was committed from the write-ahead log into the file, beside the writer instead of in its way.
//!
//! SQLite would do it inside every so many commits, and those would take ten times as long. Here a second connection
//! does it as it goes. While somebody writes without a pause the log cannot start anew, so that it grows: past
//! [`WAL_BYTES_MAX`] the writer finishes the little that is left itself, and the log is empty again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, SqliteConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::BUSY_TIMEOUT;
use crate::task;

/// How often the log is moved, if there is anything in it.
const PAUSE: Duration = Duration::from_millis(250);
/// How large the log may grow: about a second's writes at the highest rate.
const WAL_BYTES_MAX: u64 = 64 << 20;
/// The log's size is looked at once in so many commits.
const COMMITS_PER_LOOK: u32 = 64;

/// The task that moves the log, and what it is told.
#[derive(Debug)]
pub(super) struct Checkpointer {
    commits: Arc<AtomicU32>,
    since_look: u32,
    wal: PathBuf,
    task: JoinHandle<()>,
    /// Ends the task, also when this is dropped.
    stop: DropGuard,
}

impl Checkpointer {
    pub(super) fn start(path: &Path, options: SqliteConnectOptions) -> Self {
        let commits = Arc::new(AtomicU32::new(0));
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let stop = CancellationToken::new();
        let task = task::spawn("store-checkpoint", run(Arc::clone(&commits), options, stop.clone()));
        Self { commits, since_look: 0, wal: wal.into(), task, stop: stop.drop_guard() }
    }

    /// To be called after each commit.
    pub(super) async fn committed(&mut self, writer: &mut SqliteConnection) {
        self.commits.fetch_add(1, Ordering::Release);
        self.since_look += 1;
        if self.since_look < COMMITS_PER_LOOK {
            return;
        }
        self.since_look = 0;
        let bytes = std::fs::metadata(&self.wal).map_or(0, |file| file.len());
        if bytes > WAL_BYTES_MAX {
            // A reader may still need the log, for minutes if it is a backup: nobody waits for that, and the next look tries
            // again.
            let patience = format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis());
            let emptied =
                sqlx::raw_sql("PRAGMA busy_timeout = 0; PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *writer).await;
            let restored = sqlx::raw_sql(AssertSqlSafe(patience)).execute(writer).await;
            if let Err(error) = emptied.and(restored) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    bytes,
                    "the write-ahead log cannot be emptied"
                );
            }
        }
    }

    /// Ends the task and waits until its connection is closed, so that the writer's is the last one: a connection that is
    /// only dropped is closed by a thread of its own, at some time.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "moving the write-ahead log has ended badly");
        }
    }
}

async fn run(commits: Arc<AtomicU32>, options: SqliteConnectOptions, stop: CancellationToken) {
    let mut connection: Option<SqliteConnection> = None;
    while stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        if commits.swap(0, Ordering::AcqRel) == 0 {
            continue;
        }
        if let Err(error) = checkpoint(&mut connection, &options).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the write-ahead log cannot be moved; will retry");
            connection = None;
        }
    }
    if let Some(connection) = connection
        && let Err(error) = connection.close().await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "the connection that moves the log cannot be closed");
    }
}

async fn checkpoint(
    connection: &mut Option<SqliteConnection>,
    options: &SqliteConnectOptions,
) -> Result<(), sqlx::Error> {
    let connection = match connection {
        Some(open) => open,
        None => connection.insert(options.connect().await?),
    };
    // Passive: it takes what nobody is using, and never makes the writer wait.
    sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_of_a_large_log_does_not_hold_the_writer_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).busy_timeout(BUSY_TIMEOUT);
        let options = options.journal_mode(sqlx::sqlite::SqliteJournalMode::Wal).pragma("wal_autocheckpoint", "0");
        let (mut writer, mut reader) = (options.connect().await.unwrap(), options.connect().await.unwrap());
        sqlx::raw_sql("CREATE TABLE t (a)").execute(&mut writer).await.unwrap();
        sqlx::raw_sql("BEGIN; SELECT * FROM t").execute(&mut reader).await.unwrap();
        let fill = "INSERT INTO t SELECT zeroblob(80 << 20)";
        sqlx::raw_sql(fill).execute(&mut writer).await.unwrap();
        let mut checkpointer = Checkpointer::start(&path, options);
        // Who waits does so each time; a machine that stands still does not.
        let mut shortest = Duration::MAX;
        for _ in 0..3 {
            let begun = tokio::time::Instant::now();
            for _ in 0..2 * COMMITS_PER_LOOK {
                checkpointer.committed(&mut writer).await;
            }
            shortest = shortest.min(begun.elapsed());
        }
        assert!(shortest < BUSY_TIMEOUT, "it was looked at twice, and nobody waited");
        let patience: i64 = sqlx::query_scalar("PRAGMA busy_timeout").fetch_one(&mut writer).await.unwrap();
        assert_eq!(u128::try_from(patience), Ok(BUSY_TIMEOUT.as_millis()), "for everything else it waits");
        sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
        // The other connection may be moving it just now.
        let emptied = async {
            while std::fs::metadata(&checkpointer.wal).unwrap().len() > 0 {
                checkpointer.committed(&mut writer).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), emptied).await.expect("it is emptied when nobody reads it");
        checkpointer.stop().await;
    }
}
