//! What can go wrong in the store.

use std::sync::Arc;

use super::object::Object;

/// Why a call of the store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A creation found an object of that name.
    #[error("the object exists already")]
    Exists {
        /// What is there.
        current: Arc<Object>,
    },
    /// There is no object of that name.
    #[error("no such object")]
    NotFound,
    /// The object has another revision than was expected.
    #[error("the object has been modified: it is at revision {}", current.revision)]
    Conflict {
        /// What is there.
        current: Arc<Object>,
    },
    /// The body cannot be stored as this object; the caller should have refused it.
    #[error("the object cannot be stored: {message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
    /// What is stored contradicts itself.
    #[error("the stored data is damaged: {message}")]
    Damaged {
        /// What does not fit.
        message: String,
    },
    /// The store has been closed, or its writer has stopped.
    #[error("the store is closed")]
    Closed,
    /// The database failed; nothing was changed.
    #[error("the database failed")]
    Backend(#[source] Arc<BackendError>),
}

impl Error {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into() }
    }

    pub(super) fn damaged(message: impl Into<String>) -> Self {
        Self::Damaged { message: message.into() }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        Self::Backend(Arc::new(error))
    }
}

/// Why the database failed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The database refused a statement, or could not be reached.
    #[error("{doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The tables could not be brought to this version's form.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A file or folder could not be used.
    #[error("cannot use {path}")]
    File {
        /// Which one.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The name cannot be a table's.
    #[error("{0:?} cannot be the name of a table")]
    TableName(String),
    /// The rows contradict each other.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The database is of no use for a store, or its address is none.
    #[error("this database cannot be used: {0}")]
    Unsuitable(String),
    /// Another server has committed first: take over what it wrote, and plan again.
    #[error("another server has written in between")]
    Behind,
    /// The database did not answer in time.
    #[error("the database does not answer")]
    Lost,
    /// The connection was lost during a commit, and nobody could say in time what became of it.
    #[error("the connection to the database was lost while this was written: look before it is written again")]
    Unknown,
    /// The master key is not the right one, or what it sealed was changed.
    #[error(transparent)]
    Seal(#[from] super::seal::SealError),
    /// A fault that a test asked for.
    #[error("injected fault")]
    Injected,
}

/// What the database said, with what was being done.
pub(super) fn failed(doing: &'static str) -> impl Fn(sqlx::Error) -> BackendError {
    move |source| BackendError::Database { doing, source }
}

impl BackendError {
    /// Whether it was the content of a row, and not the database's health, that made it fail: then the other writes
    /// of the batch may succeed without it.
    pub fn is_constraint(&self) -> bool {
        match self {
            Self::Database { source: sqlx::Error::Database(error), .. } => {
                error.is_unique_violation() || error.is_check_violation()
            }
            _ => false,
        }
    }
}

impl BackendError {
    /// Whether the database was away or busy, so that the same may succeed a little later. Nothing was changed.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Lost | Self::Behind => true,
            Self::Database { source, .. } => match source {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
                // Connection, resources, shutdown, locks, time limits, serialisation: the classes of PostgreSQL's
                // errors that are of the moment.
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["08", "53", "57", "55P03", "25P03", "40"].iter().any(|class| code.starts_with(class))
                }),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Memory may be behind what other servers have committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database does not answer: what is read may be old")]
pub struct Stale;

/// The revision lies before what is still known: the caller has to list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    /// What was asked for.
    pub requested: u64,
    /// The oldest revision that can be asked for.
    pub oldest: u64,
}

/// A watcher was so slow that changes it had not seen have left the ring: it has to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watcher was too slow: changes after revision {seen} are gone")]
pub struct Evicted {
    /// Up to where it has seen everything.
    pub seen: u64,
}
