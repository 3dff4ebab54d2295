//! Series: what comes in a stream and is too much for a resource's status. The logs of builds, so far.
//!
//! A database file of its own, or tables of their own in PostgreSQL: what is written here must never hold up a change of
//! a resource.

mod build_logs;
mod postgres;
mod sqlite;
#[cfg(test)]
mod tests;

pub use build_logs::{BUILD_LOG_BYTES_MAX, BuildLog};

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use self::build_logs::Piece;
use self::postgres::Postgres;
use self::sqlite::Sqlite;

/// Connections at a time; more callers wait. Each query is a short one.
const POOL_MAX: u32 = 4;

// What is the same in all databases.
const SET_HEAD: &str = "INSERT INTO paas_build_log_heads (build, kept) VALUES ($1, $2) \
     ON CONFLICT (build) DO UPDATE SET kept = excluded.kept";
const ADD_PIECE: &str = "INSERT INTO paas_build_logs (build, start, text) VALUES ($1, $2, $3)";
/// The piece that a position lies in, and those after it.
const PIECES: &str = "SELECT start, text FROM paas_build_logs WHERE build = $1 AND start >= COALESCE( \
     (SELECT MAX(start) FROM paas_build_logs WHERE build = $1 AND start <= $2), 0) ORDER BY start LIMIT 256";
const HEAD: &str = "SELECT kept FROM paas_build_log_heads WHERE build = $1";
const BUILDS: &str = "SELECT build FROM paas_build_log_heads ORDER BY build";
const REMOVE: &str = "DELETE FROM paas_build_log_heads WHERE build = $1";

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
    /// The address of the database is none. It is not repeated: it may hold a password.
    #[error("the address of the database must be postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Address,
    /// The program ends.
    #[error("the database of the series is being closed")]
    Ended,
}

/// Where they are kept.
#[derive(Clone)]
enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// The series; clones are the same ones.
#[derive(Clone)]
pub struct Series {
    database: Database,
    followers: Arc<Mutex<BTreeMap<String, watch::Sender<u64>>>>,
}

impl Series {
    /// Opens `series.sqlite` in a folder, making it if there is none.
    pub async fn open(folder: &Path) -> Result<Self, Error> {
        Ok(Self::of(Database::Sqlite(Sqlite::open(folder).await?)))
    }

    /// Opens the tables in a PostgreSQL database, making them if there are none.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Ok(Self::of(Database::Postgres(Postgres::connect(url).await?)))
    }

    fn of(database: Database) -> Self {
        Self { database, followers: Arc::default() }
    }

    /// Closes the database; what is under way is finished.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.close().await,
            Database::Postgres(postgres) => postgres.close().await,
        }
    }

    async fn append(&self, piece: Piece) -> Result<u64, Error> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.append(&piece).await,
            Database::Postgres(postgres) => postgres.append(piece).await,
        }
    }

    async fn pieces(&self, build: &str, start: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.pieces(build, start).await,
            Database::Postgres(postgres) => postgres.pieces(build, start).await,
        }
    }

    async fn kept(&self, build: &str) -> Result<Option<i64>, Error> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.kept(build).await,
            Database::Postgres(postgres) => postgres.kept(build).await,
        }
    }

    async fn builds(&self) -> Result<Vec<String>, Error> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.builds().await,
            Database::Postgres(postgres) => postgres.builds().await,
        }
    }

    async fn remove(&self, build: &str) -> Result<(), Error> {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.remove(build).await,
            Database::Postgres(postgres) => postgres.remove(build).await,
        }
    }
}
