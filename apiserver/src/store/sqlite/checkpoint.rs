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
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::task::JoinHandle;

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
}

impl Checkpointer {
    pub(super) fn start(path: &Path, options: SqliteConnectOptions) -> Self {
        let commits = Arc::new(AtomicU32::new(0));
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let task = task::spawn("store-checkpoint", run(Arc::clone(&commits), options));
        Self { commits, since_look: 0, wal: wal.into(), task }
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
            // A refusal means that a reader still needs the log; the next look tries again.
            if let Err(error) = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(writer).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    bytes,
                    "the write-ahead log cannot be emptied"
                );
            }
        }
    }

    /// Ends the task and waits until its connection is gone.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // It ends by being aborted, which is what this waits for.
        (&mut self.task).await.ok();
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(commits: Arc<AtomicU32>, options: SqliteConnectOptions) {
    let mut connection: Option<SqliteConnection> = None;
    loop {
        tokio::time::sleep(PAUSE).await;
        if commits.swap(0, Ordering::AcqRel) == 0 {
            continue;
        }
        if let Err(error) = checkpoint(&mut connection, &options).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the write-ahead log cannot be moved; will retry");
            connection = None;
        }
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
