//! What every backend's store must do, and what it must survive.

mod cluster;
mod contract;
mod crash;
mod history;
mod large;
mod proxy;
mod replicas;
mod seal;
mod sqlite;
mod tokens;
mod upgrade;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

/// A namespaced kind with a selectable field, which is sealed: so all that follows holds for sealed kinds, and for others.
const THINGS: KindId = KindId(0);
/// A kind whose objects expire.
const EVENTS: KindId = KindId(1);
/// A cluster-scoped kind.
const PLANS: KindId = KindId(2);

/// Nothing takes this long on the slowest machine; it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a store lives; it can be opened again after it was closed.
enum Bed {
    Memory(Memory),
    Sqlite(tempfile::TempDir),
    Postgres(cluster::Database),
}

impl Bed {
    fn memory() -> Self {
        Self::Memory(Memory::new())
    }

    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    fn postgres() -> Self {
        Self::Postgres(cluster::Database::new())
    }

    async fn open(&self) -> Store {
        self.open_with(settings()).await
    }

    async fn open_with(&self, settings: Settings) -> Store {
        match self {
            Self::Memory(memory) => Store::open(memory.clone(), tables(), settings).await.unwrap(),
            Self::Sqlite(folder) => {
                let backend = Sqlite::open(folder.path().join("store.sqlite")).await.unwrap();
                Store::open(backend, tables(), settings).await.unwrap()
            }
            Self::Postgres(database) => {
                let backend = Postgres::connect(&database.url()).await.unwrap();
                Store::open(backend, tables(), settings).await.unwrap()
            }
        }
    }
}

fn tables() -> Vec<Table> {
    vec![
        Table {
            name: "core_configmaps".into(),
            selectable_fields: vec!["spec.node".into()],
            sealed: true,
            ..Table::default()
        },
        Table { name: "core_events".into(), retention_seconds: Some(3_600), ..Table::default() },
        Table { name: "paas_plans".into(), ..Table::default() },
    ]
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn settings() -> Settings {
    Settings { clock: Clock::settable(start()), keys: Some(ring(&[0])), ..Settings::default() }
}

/// Master keys that are no secret: 32 times the same byte each.
fn ring(bytes: &[u8]) -> Arc<KeyRing> {
    Arc::new(KeyRing::new(bytes.iter().map(|byte| master_key(*byte)).collect()).unwrap())
}

fn master_key(byte: u8) -> MasterKey {
    MasterKey::parse(&base64::engine::general_purpose::STANDARD.encode([byte; 32])).unwrap()
}

fn thing(namespace: &str, name: &str) -> Key {
    Key::new(THINGS, namespace, name)
}

/// An object with this name and some content.
fn body(key: &Key, content: impl Into<Value>) -> Value {
    let mut body = json!({
        "apiVersion": "v1", "kind": "Thing",
        "metadata": { "name": key.name, "uid": format!("uid-{}-{key}", key.kind.0) },
        "spec": { "content": content.into() },
    });
    if !key.namespace.is_empty() {
        body["metadata"]["namespace"] = json!(key.namespace);
    }
    body
}

fn create(key: &Key, content: impl Into<Value>) -> Write {
    Write::Create { key: key.clone(), body: body(key, content) }
}

fn replace(key: &Key, expected_revision: u64, content: impl Into<Value>) -> Write {
    Write::Replace { key: key.clone(), expected_revision, body: body(key, content) }
}

fn remove(key: &Key, expected_revision: u64) -> Write {
    Write::Remove { key: key.clone(), expected_revision, body: None }
}

/// The objects of a snapshot by name, with the content and the revision of each.
fn contents(snapshot: &Snapshot) -> BTreeMap<(String, String), (Value, u64)> {
    let entry = |object: &Arc<Object>| {
        let name = (object.namespace.to_string(), object.name.to_string());
        (name, (object.value()["spec"]["content"].clone(), object.revision))
    };
    snapshot.iter().map(entry).collect()
}

/// What the watch gives until it has given `count` events.
async fn take(watch: &mut Watch, count: usize) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    while events.len() < count {
        let more = tokio::time::timeout(PATIENCE, watch.next()).await;
        events.extend(more.expect("the watch gives what was committed").expect("the watch is not evicted"));
    }
    assert_eq!(events.len(), count);
    events
}

/// The state that the events lead to, from nothing.
fn replay<'a>(events: impl IntoIterator<Item = &'a Arc<Event>>) -> BTreeMap<(String, String), (Value, u64)> {
    let mut state: BTreeMap<(String, String), Arc<Object>> = BTreeMap::new();
    for event in events {
        let object = &event.object;
        let name = (object.namespace.to_string(), object.name.to_string());
        let before = match event.change {
            Change::Created | Change::Updated => state.insert(name, Arc::clone(object)),
            Change::Deleted => state.remove(&name),
        };
        let (before, said) = (before.as_ref().map(|o| (o.revision, &o.body)), event.previous.as_ref());
        assert_eq!(before, said.map(|o| (o.revision, &o.body)), "an event names the state before it");
        assert_eq!(object.revision, event.revision);
        assert_eq!(event.change == Change::Created, event.previous.is_none());
    }
    let entry = |object: Arc<Object>| (object.value()["spec"]["content"].clone(), object.revision);
    state.into_iter().map(|(name, object)| (name, entry(object))).collect()
}
