//! The store: every object of every kind, in memory for reading and in a database for keeping.
//!
//! - **Writes** go through one task ([`writer`](self)), which takes whatever is queued, checks each precondition
//!   against memory and against the writes before it in the same group, commits the group as one transaction, and only
//!   then shows it: to readers, to watchers, and to those who asked. Revisions are dense and in commit order.
//! - **Reads** come from memory. An object is its ready-to-send JSON; a [`Snapshot`] is free and never changes.
//! - **Watchers** are positions in a bounded ring of recent changes. It is rebuilt from the database after a restart,
//!   so that clients go on where they were.
//! - **A tenant is part of the key, not a filter**: every call names a namespace, but for those that are called
//!   `…_across_namespaces`, which are for controllers and administrators.

mod audit;
mod backend;
mod body;
mod cache;
mod copy;
mod error;
mod event;
mod load;
mod log;
mod maintenance;
mod memory;
mod meta;
mod metrics;
mod number;
mod object;
mod pairs;
mod postgres;
mod replica;
mod ring;
mod seal;
mod snapshot;
mod sqlite;
#[cfg(test)]
mod tests;
mod token_rows;
mod tokens;
mod transfer;
mod watch;
mod writer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

pub use self::audit::{AuditEntry, AuditLine, AuditQuery, AuditReader};
pub use self::backend::{
    Backend, Batch, BodyRow, Changes, Compaction, Final, KnownKey, Loaded, MadeState, News, Portion, StoredChange,
    StoredObject,
};
pub use self::copy::{begin_anew, check_sqlite, copy_sqlite};
pub use self::error::{BackendError, Error, Evicted, Expired, Stale};
pub use self::event::{Change, Event};
pub use self::maintenance::LogLimits;
pub use self::memory::Memory;
pub use self::object::{Key, KindId, Meta, Object, Owner, Table};
pub use self::pairs::Pairs;
pub use self::postgres::{Follower, Postgres};
pub use self::ring::RingLimits;
pub use self::seal::{KeyRing, MasterKey, SealError, Shelf};
pub use self::snapshot::Snapshot;
pub use self::sqlite::Sqlite;
pub use self::tokens::{Bond, Ended, NewToken, Purpose, Token, TokenHash, Tokens};
pub use self::transfer::{Direction, Moved, export, transfer};
pub use self::watch::Watch;

use self::body::Draft;
use self::cache::{Place, State};
use self::log::Logged;
use self::meta::Reader;
use self::metrics::Metrics;
use self::pairs::Interner;
use self::replica::Following;
use self::seal::Sealed;
use self::tokens::TokenCache;
use self::writer::{Action, Content, Prepared, Request, Writer};
use crate::clock::Clock;
use crate::task;

/// A change that is asked for. Every write names what it expects to find.
#[derive(Clone, Debug)]
pub enum Write {
    /// There must be no object of that name.
    Create {
        /// The name.
        key: Key,
        /// The whole object; a `metadata.resourceVersion` in it is ignored.
        body: Value,
    },
    /// The object must be at that revision.
    Replace {
        /// The name.
        key: Key,
        /// The revision it must be at.
        expected_revision: u64,
        /// The whole object; a `metadata.resourceVersion` in it is ignored.
        body: Value,
    },
    /// The object must be at that revision.
    Remove {
        /// The name.
        key: Key,
        /// The revision it must be at.
        expected_revision: u64,
        /// The state that watchers of the deletion see; `None` is the present one.
        body: Option<Value>,
    },
}

/// What a store is opened with besides its tables.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where it takes the time from.
    pub clock: Clock,
    /// Where its metrics go.
    pub registry: prometheus::Registry,
    /// How many recent changes are kept in memory for each kind.
    pub ring: RingLimits,
    /// How many recent changes are kept in the database.
    pub log: LogLimits,
    /// What sensitive bodies are sealed with in the database. Without keys they are not.
    pub keys: Option<Arc<KeyRing>>,
}

/// A handle of an open store; clones are handles of the same. When the last one is dropped, what was asked for is
/// still written, and the database is closed.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

/// What the handles, the watchers and the writer share.
#[derive(Debug)]
struct Shared {
    tables: Vec<Table>,
    readers: Vec<Reader>,
    state: RwLock<State>,
    interner: Interner,
    tokens: TokenCache,
    clock: Clock,
    metrics: Metrics,
    ring: RingLimits,
    log: LogLimits,
    /// What of the log the database has.
    logged: Mutex<Logged>,
    keys: Option<Arc<KeyRing>>,
    compacted: AtomicU64,
    /// The revision of `state`, to wait for.
    reached: tokio::sync::watch::Sender<u64>,
    /// Whether this server removes what has expired.
    upkeep: AtomicBool,
    /// Reads the audit log.
    audit: Arc<dyn AuditReader>,
    waiting: audit::Waiting,
    /// Turns of those who read the audit log.
    audit_reads: tokio::sync::Semaphore,
    /// `None` where one server has the database to itself.
    following: Option<Following>,
}

impl Store {
    /// Opens the store in a database and reads it into memory. The position of a table in `tables` is its [`KindId`].
    pub async fn open<B: Backend>(backend: B, tables: Vec<Table>, settings: Settings) -> Result<Self, Error> {
        let metrics = Metrics::new(&settings.registry).map_err(|error| Error::invalid(error.to_string()))?;
        let mut backend = Sealed::open(backend, settings.keys.clone(), &tables, settings.clock.now()).await?;
        let (follower, following, start) = match backend.follower() {
            None => (None, None, None),
            Some(follower) => {
                let (following, start) = Following::new();
                (Some(follower), Some(following), Some(start))
            }
        };
        let shared = Arc::new(Shared::load(&mut backend, tables, settings, metrics, following).await?);
        let (requests, queue) = mpsc::channel(writer::QUEUE_MAX);
        task::spawn("store-writer", Writer::new(backend, Arc::clone(&shared), queue).run());
        if let (Some(follower), Some(start)) = (follower, start) {
            start.follow(follower, &shared);
        }
        let store = Self { shared, requests };
        task::spawn("store-maintenance", maintenance::run(&store));
        Ok(store)
    }

    /// Opens an empty store that keeps nothing, for simulations.
    pub async fn open_in_memory(tables: Vec<Table>, settings: Settings) -> Result<Self, Error> {
        Self::open(Memory::new(), tables, settings).await
    }

    /// The tables it was opened with.
    pub fn tables(&self) -> &[Table] {
        &self.shared.tables
    }

    /// The kind kept in that table.
    pub fn kind(&self, table: &str) -> Option<KindId> {
        self.shared.tables.iter().position(|known| known.name == table).map(KindId)
    }

    /// The revision of the last committed write.
    pub fn revision(&self) -> u64 {
        self.shared.state().revision
    }

    /// The object of that name.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.shared.state().get(key.kind, Place(&key.namespace, &key.name)).map(Arc::clone)
    }

    /// The objects of a kind in one namespace (empty for cluster-scoped kinds).
    pub fn snapshot(&self, kind: KindId, namespace: &str) -> Snapshot {
        self.snapshot_of(kind, Some(namespace))
    }

    /// The objects of a kind in all namespaces: for controllers and administrators.
    pub fn snapshot_across_namespaces(&self, kind: KindId) -> Snapshot {
        self.snapshot_of(kind, None)
    }

    /// The objects of a kind in one namespace as they were at a revision: the later pages of a list. A revision that
    /// is still to come is treated as the present one.
    pub fn snapshot_at(&self, kind: KindId, namespace: &str, revision: u64) -> Result<Snapshot, Expired> {
        self.snapshot_of_revision(kind, Some(namespace), revision)
    }

    /// The objects of a kind in all namespaces as they were at a revision: for controllers and administrators.
    pub fn snapshot_at_across_namespaces(&self, kind: KindId, revision: u64) -> Result<Snapshot, Expired> {
        self.snapshot_of_revision(kind, None, revision)
    }

    fn snapshot_of(&self, kind: KindId, namespace: Option<&str>) -> Snapshot {
        let state = self.shared.state();
        let objects = state.kinds.get(kind.0).map(|kind| kind.objects.clone()).unwrap_or_default();
        Snapshot { revision: state.revision, objects, namespace: namespace.map(Arc::from) }
    }

    fn snapshot_of_revision(&self, kind: KindId, namespace: Option<&str>, revision: u64) -> Result<Snapshot, Expired> {
        let state = self.shared.state();
        let revision = revision.min(state.revision);
        let objects = match state.kinds.get(kind.0) {
            None => cache::Objects::default(),
            Some(kind) if revision < kind.ring.dropped_through() => {
                return Err(Expired { requested: revision, oldest: kind.ring.dropped_through() });
            }
            Some(kind) => State::rewind(kind, revision),
        };
        Ok(Snapshot { revision, objects, namespace: namespace.map(Arc::from) })
    }

    /// Follows the changes of a kind in one namespace (empty for cluster-scoped kinds) after a revision.
    pub fn watch(&self, kind: KindId, namespace: &str, after: u64) -> Result<Watch, Expired> {
        self.watch_from(kind, Some(namespace), after)
    }

    /// Follows the changes of a kind in all namespaces after a revision: for controllers and administrators.
    pub fn watch_across_namespaces(&self, kind: KindId, after: u64) -> Result<Watch, Expired> {
        self.watch_from(kind, None, after)
    }

    fn watch_from(&self, kind: KindId, namespace: Option<&str>, after: u64) -> Result<Watch, Expired> {
        let namespace = namespace.map(|namespace| self.shared.interner.get(namespace));
        let channel = {
            let mut state = self.shared.state_mut();
            let revision = state.revision;
            // A kind that does not exist has no changes; its watcher waits.
            let unknown = Expired { requested: after, oldest: revision };
            let ring = &mut state.kinds.get_mut(kind.0).ok_or(unknown)?.ring;
            if after < ring.dropped_through() {
                return Err(Expired { requested: after, oldest: ring.dropped_through() });
            }
            ring.channel(namespace.as_ref(), revision)
        };
        self.shared.metrics.watchers.inc();
        Ok(Watch { shared: Arc::clone(&self.shared), kind, namespace, channel, position: after })
    }

    /// Chooses whether this server removes what has expired; it does unless told otherwise. Of several servers on one
    /// database one is enough.
    pub fn set_upkeep(&self, wanted: bool) {
        self.shared.upkeep.store(wanted, Ordering::Release);
    }

    /// The objects that name `uid` as an owner, of any kind: for garbage collection.
    pub fn dependents(&self, uid: &str) -> Vec<(Key, Arc<Object>)> {
        self.shared.state().dependents(uid)
    }

    /// Performs a write. It is durable, and visible to readers, when this returns. If the future is dropped the write
    /// may happen or not, but nothing else.
    pub async fn write(&self, write: Write) -> Result<Arc<Object>, Error> {
        let write = self.shared.prepare(&write)?;
        self.ask(|answer| Request::Write { write, answer }).await
    }

    /// Writes what has been asked for, closes the database and refuses further writes. Reading goes on.
    pub async fn close(&self) -> Result<(), Error> {
        self.ask(|answer| Request::Close { answer }).await
    }

    /// Asks the writer, and waits for what comes of it.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Request) -> Result<T, Error> {
        let (answer, result) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_closed| Error::Closed)?;
        result.await.map_err(|_closed| Error::Closed)?
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_name(&self, kind: KindId) -> &str {
        self.tables.get(kind.0).map_or("", |table| &table.name)
    }

    fn compacted(&self) -> u64 {
        self.compacted.load(Ordering::Acquire)
    }

    fn logged(&self) -> MutexGuard<'_, Logged> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_compacted(&self, revision: u64) {
        self.compacted.store(revision, Ordering::Release);
        self.logged().forget(revision);
        self.metrics.compacted.set(gauge(revision));
    }

    /// Serialises and reads a write's body: in the caller's task, so that the writer does not have to.
    fn prepare(&self, write: &Write) -> Result<Prepared, Error> {
        let (key, body) = match write {
            Write::Create { key, body } | Write::Replace { key, body, .. } => (key, Some(body)),
            Write::Remove { key, body, .. } => (key, body.as_ref()),
        };
        if key.name.is_empty() {
            return Err(Error::invalid("the name is empty"));
        }
        if key.name.chars().chain(key.namespace.chars()).any(char::is_control) {
            return Err(Error::invalid("a name has a control character"));
        }
        let content = body.map(|body| self.content(key, body)).transpose()?;
        let missing = || Error::invalid("the body is missing");
        let action = match write {
            Write::Create { .. } => Action::Create(content.ok_or_else(missing)?),
            Write::Replace { expected_revision, .. } => {
                Action::Replace { expected_revision: *expected_revision, content: content.ok_or_else(missing)? }
            }
            Write::Remove { expected_revision, .. } => {
                Action::Remove { expected_revision: *expected_revision, content }
            }
        };
        let namespace = self.interner.get(&key.namespace);
        Ok(Prepared { kind: key.kind, namespace, name: key.name.as_str().into(), action, audit: None })
    }

    fn content(&self, key: &Key, body: &Value) -> Result<Content, Error> {
        let reader = self.readers.get(key.kind.0).ok_or_else(|| Error::invalid("there is no such kind"))?;
        let read = reader.read(body, &self.interner)?;
        if read.name.as_deref() != Some(&*key.name) || read.namespace.unwrap_or_default() != key.namespace {
            return Err(Error::invalid(format!("the body's name is not {key}")));
        }
        Ok(Content {
            draft: Draft::new(body)?,
            uid: read.uid,
            generation: read.generation,
            created: read.created,
            meta: read.meta,
        })
    }

    /// Shows a committed batch of this server's own.
    fn publish(&self, batch: &Batch) {
        self.show(&batch.events, batch.revision, batch.time);
        self.committed(batch.revision);
        for event in &batch.events {
            self.metrics.writes.with_label_values(&[self.table_name(event.kind), "committed"]).inc();
        }
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most some hundred writes")]
        self.metrics.batch_size.observe(batch.events.len() as f64);
    }

    /// Shows committed changes to readers and wakes their watchers.
    fn show(&self, events: &[Arc<Event>], revision: u64, now: Timestamp) {
        let mut dropped = Vec::new();
        let mut channels = Vec::new();
        {
            let mut state = self.state_mut();
            for event in events {
                state.apply(event, &self.ring, now, &mut dropped);
            }
            // There may have been changes of kinds that this server does not have.
            state.revision = revision;
            let touched: BTreeSet<_> =
                events.iter().map(|event| (event.kind, Arc::clone(&event.object.namespace))).collect();
            for (kind, namespace) in &touched {
                if let Some(kind) = state.kinds.get(kind.0) {
                    channels.extend(kind.ring.channels_of(namespace).map(Arc::clone));
                }
            }
            for kind in touched.iter().map(|(kind, _)| *kind).collect::<BTreeSet<_>>() {
                let count = state.kinds.get(kind.0).map_or(0, |kind| kind.objects.len());
                self.metrics.objects.with_label_values(&[self.table_name(kind)]).set(gauge(count as u64));
            }
        }
        {
            let mut logged = self.logged();
            for event in events {
                logged.push(event);
            }
        }
        for channel in channels {
            channel.changed.notify_waiters();
        }
        self.reached.send_replace(revision);
        self.metrics.revision.set(gauge(revision));
    }
}

/// A count as a gauge's value.
fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
