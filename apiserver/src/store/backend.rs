//! What the store asks of a database.
//!
//! All thinking is done before: preconditions, revisions and bodies are settled when a batch reaches the backend,
//! which has only to make it durable as one transaction, and to read everything back at the start.

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::audit::{AuditLine, AuditReader};
use super::error::BackendError;
use super::event::{Change, Event};
use super::object::{KindId, Object, Table};
use super::postgres::Follower;
use super::seal::Shelf;
use super::tokens::{Ended, Token};

/// A database that the store lives in. Only the store's writer task calls it, one call at a time.
pub trait Backend: Send + 'static {
    /// Prepares the database for these tables and reads everything the store keeps in memory. The objects go through
    /// `objects` in portions, so that they are put in their place while more are read.
    fn load(
        &mut self,
        tables: &[Table],
        objects: mpsc::Sender<Portion>,
    ) -> impl Future<Output = Result<Loaded, BackendError>> + Send;

    /// Makes a batch durable, all or nothing. After an error nothing of it may ever become visible.
    fn commit(&mut self, batch: &Batch) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes the oldest changes from the log, at most [`Compaction::rows_max`] of them, and records up to where in the
    /// same transaction. Returns the revision up to which the log is now compacted.
    fn compact(&mut self, compaction: Compaction) -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// Inserts or replaces a token, and writes the line of the audit log about that in the same transaction. A token that is
    /// revoked stays so.
    fn save_token(
        &mut self,
        token: &Token,
        line: Option<&Arc<AuditLine>>,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Notes when a token was used.
    fn touch_token(&mut self, id: &str, at: Timestamp) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes tokens that have ended.
    fn remove_tokens(&mut self, ended: Ended) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Writes lines of the audit log that belong to no batch.
    fn note(&mut self, lines: &[Arc<AuditLine>]) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes the oldest lines of the audit log: those from before a time, and those that are too many; some of them, so
    /// that it takes milliseconds. The answer is how many.
    fn trim_audit(&mut self, before: Timestamp) -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// What reads the audit log, beside the writer.
    fn audit_reader(&self) -> Arc<dyn AuditReader>;

    /// Leaves the database tidy. Nothing is called after it.
    fn close(&mut self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Whether other servers write to the same database. If so, [`Backend::commit`] without [`Backend::lock`] answers
    /// with [`BackendError::Behind`] when one of them was faster.
    fn is_shared(&self) -> bool {
        false
    }

    /// Takes the right to commit next, and returns what others have committed after `revision`. It lasts until the next
    /// call of [`Backend::commit`] or [`Backend::unlock`].
    fn lock(&mut self, revision: u64) -> impl Future<Output = Result<News, BackendError>> + Send {
        ready(Ok(News::none(revision)))
    }

    /// Gives that right up.
    fn unlock(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// What others have committed after `revision`.
    fn news(&mut self, revision: u64) -> impl Future<Output = Result<News, BackendError>> + Send {
        ready(Ok(News::none(revision)))
    }

    /// The master keys that what is stored may be sealed with.
    fn master_keys(&mut self) -> impl Future<Output = Result<Vec<KnownKey>, BackendError>> + Send {
        ready(Ok(Vec::new()))
    }

    /// Inserts or replaces one of them.
    fn save_master_key(&mut self, _key: &KnownKey) -> impl Future<Output = Result<(), BackendError>> + Send {
        ready(Ok(()))
    }

    /// Inserts one if there is none yet, whichever of several servers does so first.
    fn save_first_master_key(&mut self, _key: &KnownKey) -> impl Future<Output = Result<(), BackendError>> + Send {
        ready(Ok(()))
    }

    /// Removes one of them.
    fn forget_master_key(&mut self, _id: &str) -> impl Future<Output = Result<(), BackendError>> + Send {
        ready(Ok(()))
    }

    /// Some rows with bodies, those behind `after` in their order; none behind the last.
    fn bodies(
        &mut self,
        _shelf: &Shelf,
        _after: Option<&BodyRow>,
    ) -> impl Future<Output = Result<Vec<BodyRow>, BackendError>> + Send {
        ready(Ok(Vec::new()))
    }

    /// Replaces the bodies of rows by those of others, as far as they still are what was read.
    fn replace_bodies(
        &mut self,
        _shelf: &Shelf,
        _rows: &[(BodyRow, BodyRow)],
    ) -> impl Future<Output = Result<(), BackendError>> + Send {
        ready(Ok(()))
    }

    /// Makes sure that nothing is left in the database's files of what was replaced.
    fn scrub(&mut self, _shelves: &[Shelf]) -> impl Future<Output = Result<(), BackendError>> + Send {
        ready(Ok(()))
    }

    /// What hears of others' commits, if there are others.
    fn follower(&self) -> Option<Follower> {
        None
    }
}

/// One transaction: the changes in the order of their revisions, which are dense, and what remains of them.
#[derive(Debug)]
pub struct Batch {
    /// The revision of the last change.
    pub revision: u64,
    /// When it is written.
    pub time: Timestamp,
    /// Every change, for the log.
    pub events: Vec<Arc<Event>>,
    /// For each object that the batch touches, its last state; `None` removes it. In the order of kind, namespace and name.
    pub finals: Vec<Final>,
    /// What is noted of it in the audit log.
    pub audit: Vec<Arc<AuditLine>>,
}

/// A master key that something may be sealed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// [`MasterKey::id`](super::MasterKey::id).
    pub id: String,
    /// When it was first used.
    pub created: Timestamp,
    /// Whether everything that is to be sealed is, with this key or another one.
    pub complete: bool,
}

/// A row with bodies, as they stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyRow {
    /// The revision of a change; 0 for the present state of an object.
    pub revision: u64,
    /// The kind's table.
    pub table: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The bodies: one of an object, `last` and `previous` of a change.
    pub bodies: Vec<Option<String>>,
}

/// What a batch leaves of one object.
#[derive(Debug)]
pub struct Final {
    /// The kind.
    pub kind: KindId,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
    /// The last state, or that there is none.
    pub object: Option<Arc<Object>>,
}

/// Which changes leave the log.
#[derive(Clone, Copy, Debug)]
pub struct Compaction {
    /// The log is compacted up to here.
    pub from: u64,
    /// Changes up to here go whatever their age.
    pub through: u64,
    /// Changes from before this time go too,
    pub older_than: Timestamp,
    /// if they lie up to here.
    pub aged_through: u64,
    /// But at most this many at once.
    pub rows_max: u64,
}

/// An object as it is stored.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The revision of the last write.
    pub revision: u64,
    /// The creation's time.
    pub created: Timestamp,
    /// The last write's time.
    pub modified: Timestamp,
    /// The whole object.
    pub body: Bytes,
}

/// Some objects of one kind, as they are read at the start.
#[derive(Debug)]
pub struct Portion {
    /// The kind.
    pub kind: KindId,
    /// The objects.
    pub objects: Vec<StoredObject>,
}

/// A change as it is stored. The log is an undo log: together with the present state, the states before each change
/// give all states between, without storing any twice.
#[derive(Clone, Debug)]
pub struct StoredChange {
    /// The revision.
    pub revision: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The kind.
    pub kind: KindId,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// What happened.
    pub change: Change,
    /// The last state of a deleted object; `None` for the other changes.
    pub last: Option<Vec<u8>>,
    /// The state before and when that was written; `None` for a creation.
    pub previous: Option<(Vec<u8>, Timestamp)>,
}

/// Everything that is read at the start, but for the objects.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The last committed revision.
    pub revision: u64,
    /// The log has all changes after this revision.
    pub compacted: u64,
    /// The changes after this revision were read: the newest, as far as they are not too large together.
    pub log_from: u64,
    /// The log, oldest first; changes of kinds that were not asked for are left out.
    pub changes: Vec<StoredChange>,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// Which of their changes these are; 0 where nobody else changes them.
    pub tokens_version: i64,
}

/// What other servers have committed.
#[derive(Debug)]
pub enum News {
    /// All of it.
    Changes(Changes),
    /// More than the log still has: everything has to be read again.
    Lost,
}

impl News {
    /// That nobody has committed anything.
    fn none(revision: u64) -> Self {
        Self::Changes(Changes { revision, changes: Vec::new(), tokens_version: 0, tokens: None })
    }
}

/// What other servers have committed, up to a revision.
#[derive(Debug)]
pub struct Changes {
    /// The revision that they lead to.
    pub revision: u64,
    /// The changes, oldest first; those of kinds that this server does not have are left out.
    pub changes: Vec<MadeState>,
    /// Which of the tokens' changes are known with this.
    pub tokens_version: i64,
    /// All tokens, if they have changed.
    pub tokens: Option<Vec<Token>>,
}

/// A change with the state that it made.
#[derive(Debug)]
pub struct MadeState {
    /// The revision.
    pub revision: u64,
    /// When it was written.
    pub time: Timestamp,
    /// The kind.
    pub kind: KindId,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// What happened.
    pub change: Change,
    /// The state after it; for a deletion the last one.
    pub body: Bytes,
}

/// Where a shared database is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// The last committed revision.
    pub(super) revision: u64,
    /// The log has all changes after this revision.
    pub(super) compacted: u64,
    /// Counts the changes of tokens.
    pub(super) tokens_version: i64,
}

/// What a backend answers when nobody takes what it reads: the builder has failed, and says why itself.
pub(super) fn stopped() -> BackendError {
    BackendError::Damaged("reading was given up".into())
}
