//! From what the database holds to what the store keeps in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use jiff::Timestamp;

use tokio::sync::{Semaphore, mpsc, watch};

use super::audit::{READS_MAX, Waiting};
use super::backend::{Backend, Loaded, MadeState, Portion, StoredChange, StoredObject};
use super::body;
use super::cache::{Place, State};
use super::error::Error;
use super::event::{Change, Event};
use super::log::Logged;
use super::meta::Reader;
use super::metrics::Metrics;
use super::object::{KindId, Object, Table};
use super::pairs::Interner;
use super::replica::Following;
use super::ring::{Channel, RingLimits};
use super::tokens::TokenCache;
use super::{Settings, Shared, gauge};

/// Portions of rows that wait to be built: two are read while one is worked on.
const PORTIONS_MAX: usize = 2;

/// How the line of an update begins.
const MODIFIED: &[u8] = br#"{"type":"MODIFIED""#;

impl Shared {
    /// Builds the memory of a store. Checks on the way that what is stored fits together.
    pub(super) async fn load<B: Backend>(
        backend: &mut B,
        tables: Vec<Table>,
        settings: Settings,
        metrics: Metrics,
        following: Option<Following>,
    ) -> Result<Self, Error> {
        let Read { builder, state, logged, rest } =
            read(backend, &tables, settings.ring.clone(), settings.clock.now()).await?;
        let tokens = TokenCache::default();
        tokens.replace(rest.tokens);
        let shared = Self {
            tables,
            readers: builder.readers,
            reached: watch::Sender::new(state.revision),
            state: RwLock::new(state),
            interner: builder.interner,
            tokens,
            clock: settings.clock,
            metrics,
            ring: settings.ring,
            log: settings.log,
            logged: Mutex::new(logged),
            keys: settings.keys,
            compacted: AtomicU64::new(rest.compacted),
            upkeep: AtomicBool::new(true),
            audit: backend.audit_reader(),
            waiting: Waiting::default(),
            audit_reads: Semaphore::new(READS_MAX),
            following,
        };
        shared.know_tokens(rest.tokens_version);
        shared.gauge();
        Ok(shared)
    }

    /// Reads everything anew, because others have committed more than can be taken over change by change. Watchers have
    /// to start again.
    pub(super) async fn reload<B: Backend>(&self, backend: &mut B) -> Result<(), Error> {
        let Read { state, logged, rest, .. } = read(backend, &self.tables, self.ring.clone(), self.clock.now()).await?;
        let mut woken: Vec<Arc<Channel>> = Vec::new();
        let old = {
            let mut current = self.state_mut();
            for kind in &current.kinds {
                woken.extend(kind.ring.abandon().map(Arc::clone));
            }
            std::mem::replace(&mut *current, state)
        };
        // Freed when no lock is held.
        drop(old);
        for channel in woken {
            channel.changed.notify_waiters();
        }
        self.tokens.replace(rest.tokens);
        self.know_tokens(rest.tokens_version);
        *self.logged() = logged;
        self.set_compacted(rest.compacted);
        self.reached.send_replace(rest.revision);
        self.gauge();
        Ok(())
    }

    fn gauge(&self) {
        let state = self.state();
        for (kind, table) in state.kinds.iter().zip(&self.tables) {
            self.metrics.objects.with_label_values(&[&table.name]).set(gauge(kind.objects.len() as u64));
        }
        self.metrics.revision.set(gauge(state.revision));
        self.metrics.compacted.set(gauge(self.compacted()));
    }
}

/// What was read of a database.
struct Read {
    builder: Builder,
    state: State,
    logged: Logged,
    /// Without the changes, which are in the rings.
    rest: Loaded,
}

/// Reads everything.
async fn read<B: Backend>(backend: &mut B, tables: &[Table], ring: RingLimits, now: Timestamp) -> Result<Read, Error> {
    // The backend reads while a thread builds: two processors share the work, and only a few portions of rows are
    // in memory beside what is made of them.
    let (portions, arriving) = mpsc::channel(PORTIONS_MAX);
    let builder = Builder::new(tables);
    let building = tokio::task::spawn_blocking(move || builder.build(arriving));
    let loaded = backend.load(tables, portions).await;
    let (builder, kinds) = building.await.map_err(|_stopped| Error::Closed)??;
    let loaded = loaded?;
    let finishing = move || assemble(builder, kinds, loaded, &ring, now);
    tokio::task::spawn_blocking(finishing).await.map_err(|_stopped| Error::Closed)?
}

fn assemble(
    builder: Builder,
    kinds: ByKind,
    mut rest: Loaded,
    ring: &RingLimits,
    now: Timestamp,
) -> Result<Read, Error> {
    let mut state = State::new(rest.revision, rest.log_from, kinds.len());
    let mut logged = Logged::new(rest.log_from);
    for (index, objects) in kinds.into_iter().enumerate() {
        for object in objects {
            if object.revision > rest.revision {
                let message = format!("{}/{} is newer than the store", object.namespace, object.name);
                return Err(Error::damaged(message));
            }
            state.load(KindId(index), object);
        }
    }
    for event in builder.events(&mut state, std::mem::take(&mut rest.changes))? {
        logged.push(&event);
        if let Some(kind) = state.kinds.get_mut(event.kind.0) {
            kind.ring.push(event, ring, now);
        }
    }
    Ok(Read { builder, state, logged, rest })
}

/// What an object is made of.
struct StoredRow<'a> {
    kind: KindId,
    namespace: &'a str,
    name: &'a str,
    body: &'a [u8],
    /// When it was created, if the body does not say.
    created: Timestamp,
    modified: Timestamp,
    /// What made this state.
    change: Change,
}

fn object(readers: &[Reader], interner: &Interner, row: &StoredRow<'_>) -> Result<Object, Error> {
    let StoredRow { kind, namespace, name, body, created, modified, change } = *row;
    let damaged = |what: &str| Error::damaged(format!("{namespace}/{name}: {what}"));
    let reader = readers.get(kind.0).ok_or_else(|| damaged("no such kind"))?;
    let revision = body::revision(body).ok_or_else(|| damaged("no revision in the body"))?;
    let read = reader.read_bytes(body, interner).map_err(|error| damaged(&error.to_string()))?;
    if read.name.as_deref() != Some(name) || read.namespace.as_deref().unwrap_or("") != namespace {
        return Err(damaged("the body has another name"));
    }
    let (line, body) = body::loaded(change, body);
    Ok(Object {
        namespace: interner.get(namespace),
        name: name.into(),
        uid: read.uid,
        revision,
        generation: read.generation,
        created: read.created.unwrap_or(created),
        modified,
        body,
        meta: read.meta,
        line,
    })
}

/// The state that another server's change made.
pub(super) fn made(
    readers: &[Reader],
    interner: &Interner,
    made: &MadeState,
    previous: Option<&Object>,
) -> Result<Object, Error> {
    let MadeState { revision, time, kind, namespace, name, change, body } = made;
    let created = previous.map_or(*time, |previous| previous.created);
    let row = StoredRow { kind: *kind, namespace, name, body, created, modified: *time, change: *change };
    let object = object(readers, interner, &row)?;
    if object.revision == *revision {
        Ok(object)
    } else {
        Err(Error::damaged(format!(
            "{namespace}/{name}: the change {revision} led to the revision {}",
            object.revision
        )))
    }
}

/// The objects of each kind.
type ByKind = Vec<Vec<Arc<Object>>>;

/// Makes objects of what is stored.
struct Builder {
    readers: Vec<Reader>,
    interner: Interner,
}

impl Builder {
    fn new(tables: &[Table]) -> Self {
        Self { readers: tables.iter().map(Reader::new).collect(), interner: Interner::default() }
    }

    /// Builds what arrives, until all has. Runs on a thread of its own.
    fn build(self, mut arriving: mpsc::Receiver<Portion>) -> Result<(Self, ByKind), Error> {
        let mut kinds = vec![Vec::new(); self.readers.len()];
        while let Some(Portion { kind, objects }) = arriving.blocking_recv() {
            let built = kinds.get_mut(kind.0).ok_or_else(|| Error::damaged("no such kind"))?;
            for row in objects {
                built.push(Arc::new(self.stored(kind, &row)?));
            }
        }
        Ok((self, kinds))
    }

    fn stored(&self, kind: KindId, row: &StoredObject) -> Result<Object, Error> {
        let revision = row.revision;
        // Where the log does not reach, a watcher can only see the object as part of its initial state: as if created.
        let change = Change::Created;
        let StoredObject { namespace, name, created, modified, body, .. } = row;
        let (created, modified) = (*created, *modified);
        let row = StoredRow { kind, namespace, name, body, created, modified, change };
        let object = object(&self.readers, &self.interner, &row)?;
        if object.revision != revision {
            let message = format!("{}/{} is at revision {revision}", object.namespace, object.name);
            return Err(Error::damaged(format!("{message}, but its body at {}", object.revision)));
        }
        Ok(object)
    }

    /// Replays the undo log backwards from the present state, which gives each change the state it made; then turns it
    /// round.
    fn events(&self, state: &mut State, changes: Vec<StoredChange>) -> Result<Vec<Arc<Event>>, Error> {
        let made_by: HashMap<u64, Change> = changes.iter().map(|change| (change.revision, change.change)).collect();
        let mut before: BTreeMap<(KindId, String, String), Option<Arc<Object>>> = BTreeMap::new();
        let mut events = Vec::with_capacity(changes.len());
        for change in changes.into_iter().rev() {
            let StoredChange { revision, time, kind, namespace, name, change, last, previous } = change;
            let damaged = |what: &str| Error::damaged(format!("the change {revision} of {namespace}/{name}: {what}"));
            let key = (kind, namespace.clone(), name.clone());
            let after = match before.remove(&key) {
                Some(object) => object,
                None => state.get(kind, Place(&namespace, &name)).map(Arc::clone),
            };
            let build = |body: &[u8], created, modified| {
                let change = body::revision(body).and_then(|revision| made_by.get(&revision).copied());
                let change = change.unwrap_or(Change::Created);
                let row = StoredRow { kind, namespace: &namespace, name: &name, body, created, modified, change };
                object(&self.readers, &self.interner, &row).map(Arc::new)
            };
            let object = match (change, after, last) {
                (Change::Deleted, None, Some(last)) => build(&last, time, time)?,
                (Change::Created, Some(object), None) => object,
                (Change::Updated, Some(object), None) if object.line.starts_with(MODIFIED) => object,
                (Change::Updated, Some(object), None) => {
                    // It was built as if created: its line says so, and its watchers should see an update.
                    let object = build(&object.body, object.created, object.modified)?;
                    state.load(kind, Arc::clone(&object));
                    object
                }
                _ => return Err(damaged("it does not lead to the state after it")),
            };
            if object.revision != revision {
                return Err(damaged("the state it made has another revision"));
            }
            let previous = match (change, previous) {
                (Change::Created, None) => None,
                (Change::Updated | Change::Deleted, Some((body, modified))) => {
                    Some(build(&body, object.created, modified)?)
                }
                _ => return Err(damaged("it does not start from the state before it")),
            };
            before.insert(key, previous.clone());
            events.push(Arc::new(Event { revision, kind, change, object, previous }));
        }
        events.reverse();
        Ok(events)
    }
}
