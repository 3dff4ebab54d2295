//! From what the database holds to what the store keeps in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};

use jiff::Timestamp;

use super::backend::{Loaded, StoredChange, StoredObject};
use super::body;
use super::cache::{Place, State};
use super::error::Error;
use super::event::{Change, Event};
use super::meta::Reader;
use super::metrics::Metrics;
use super::object::{KindId, Object, Table};
use super::pairs::Interner;
use super::tokens::TokenCache;
use super::{Settings, Shared, gauge};

impl Shared {
    /// Builds the memory of a store. Checks on the way that what is stored fits together.
    pub(super) fn build(
        loaded: Loaded,
        tables: Vec<Table>,
        settings: Settings,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let interner = Interner::default();
        let readers: Vec<Reader> = tables.iter().map(Reader::new).collect();
        let mut state = State::new(loaded.revision, loaded.compacted, tables.len());
        let builder = Builder {
            made_by: loaded.changes.iter().map(|change| (change.revision, change.change)).collect(),
            readers: &readers,
            interner: &interner,
            revision: loaded.revision,
        };
        for (index, (rows, table)) in loaded.objects.into_iter().zip(&tables).enumerate() {
            let kind = KindId(index);
            for row in rows {
                state.load(kind, Arc::new(builder.stored(kind, row)?));
            }
            let count = state.kinds.get(index).map_or(0, |kind| kind.objects.len());
            metrics.objects.with_label_values(&[&table.name]).set(gauge(count as u64));
        }
        let now = settings.clock.now();
        for event in builder.events(&state, loaded.changes)? {
            if let Some(kind) = state.kinds.get_mut(event.kind.0) {
                kind.ring.push(event, &settings.ring, now);
            }
        }
        let tokens = TokenCache::default();
        for token in loaded.tokens {
            tokens.put(Arc::new(token));
        }
        metrics.revision.set(gauge(loaded.revision));
        metrics.compacted.set(gauge(loaded.compacted));
        Ok(Self {
            tables,
            readers,
            state: RwLock::new(state),
            interner,
            tokens,
            clock: settings.clock,
            metrics,
            ring: settings.ring,
            log: settings.log,
            compacted: AtomicU64::new(loaded.compacted),
        })
    }
}

struct Builder<'a> {
    /// Which change made the state of a revision, as far as the log reaches.
    made_by: HashMap<u64, Change>,
    readers: &'a [Reader],
    interner: &'a Interner,
    revision: u64,
}

impl Builder<'_> {
    fn stored(&self, kind: KindId, row: StoredObject) -> Result<Object, Error> {
        let revision = row.revision;
        let object = self.object(kind, &row.namespace, row.name, &row.body, row.created, row.modified)?;
        if object.revision != revision {
            let message = format!("{}/{} is at revision {revision}", object.namespace, object.name);
            return Err(Error::damaged(format!("{message}, but its body at {}", object.revision)));
        }
        Ok(object)
    }

    fn object(
        &self,
        kind: KindId,
        namespace: &str,
        name: String,
        body: &[u8],
        created: Timestamp,
        modified: Timestamp,
    ) -> Result<Object, Error> {
        let damaged = |what: &str| Error::damaged(format!("{namespace}/{name}: {what}"));
        let reader = self.readers.get(kind.0).ok_or_else(|| damaged("no such kind"))?;
        let revision = body::revision(body).ok_or_else(|| damaged("no revision in the body"))?;
        if revision > self.revision {
            return Err(damaged("it is newer than the store's revision"));
        }
        let read = reader.read_bytes(body, self.interner).map_err(|error| damaged(&error.to_string()))?;
        if read.name.as_deref() != Some(&*name) || read.namespace.as_deref().unwrap_or("") != namespace {
            return Err(damaged("the body has another name"));
        }
        // Where the log does not reach, a watcher can only see the object as part of its initial state.
        let change = self.made_by.get(&revision).copied().unwrap_or(Change::Created);
        let (line, body) = body::loaded(change, body);
        Ok(Object {
            namespace: self.interner.get(namespace),
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

    /// Replays the undo log backwards from the present state, which gives each change the state it made; then turns it
    /// round.
    fn events(&self, state: &State, changes: Vec<StoredChange>) -> Result<Vec<Arc<Event>>, Error> {
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
                self.object(kind, &namespace, name.clone(), body, created, modified).map(Arc::new)
            };
            let object = match (change, after, last) {
                (Change::Deleted, None, Some(last)) => build(&last, time, time)?,
                (Change::Created | Change::Updated, Some(object), None) => object,
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
