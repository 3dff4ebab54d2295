//! Series: what comes in a stream and is too much for a resource's status. The logs of builds, so far.
//!
//! A database file of its own: what is written here must never hold up a change of a resource.

mod build_logs;
#[cfg(test)]
mod tests;

pub use build_logs::{BUILD_LOG_BYTES_MAX, BuildLog};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlSafeStr};
use tokio::sync::watch;

/// Readers at a time; more wait. Each read is one short query.
const READERS: u32 = 4;

/// What goes wrong with the database of the series.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A statement failed.
    #[error("the database of the series failed")]
    Database(#[from] sqlx::Error),
    /// Its tables could not be made.
    #[error("the database of the series could not be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A position beyond what a log can have.
    #[error("{0} is no position in a log")]
    Position(u64),
}

/// The series; clones are the same ones.
#[derive(Clone)]
pub struct Series {
    /// SQLite has one writer.
    writer: SqlitePool,
    readers: SqlitePool,
    followers: Arc<Mutex<BTreeMap<String, watch::Sender<u64>>>>,
}

impl Series {
    /// Opens `series.sqlite` in a folder, making it if there is none.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("series.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An agent forgets what it was told is kept.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let first = include_str!("../../../migrations/sqlite-series/0001_build_logs.sql");
        let migrations = vec![Migration::new(
            1,
            "build logs".into(),
            MigrationType::Simple,
            AssertSqlSafe(first).into_sql_str(),
            false,
        )];
        Migrator::with_migrations(migrations).run(&writer).await?;
        let readers = SqlitePoolOptions::new().max_connections(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers, followers: Arc::default() })
    }

    /// Closes the database; what is under way is finished.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
