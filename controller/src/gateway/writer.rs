//! Writes what a node's agent reports into the status of the objects: the newest report of each object, in order, and
//! only what is different from what is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::{Application, Build, Instance, Node};
use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::report;
use crate::hub::{Hub, Reacts};
use crate::world::Key;

/// How many objects of one node are written at a time: enough to share one commit of the store.
const AT_ONCE: usize = 16;
/// The first pause after the API server could not be asked, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// An object with a status that agents report on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Node(Key),
    Application(Key),
    Build(Key),
    Instance(Key),
}

/// What is to be written of one object.
#[derive(Debug)]
struct Pending {
    uid: String,
    /// Fields of the status; of each the newest.
    fields: Map<String, Value>,
}

/// One node's reports. It holds at most one entry for each object that the node was given, so its size is bounded by
/// the assignment's.
#[derive(Default)]
pub(super) struct Writer {
    pending: Mutex<BTreeMap<Subject, Pending>>,
    added: Notify,
}

impl Writer {
    /// Takes in fields of an object's status. Those of an earlier report that were not written yet are replaced.
    pub(super) fn add(&self, subject: Subject, uid: &str, fields: Value) {
        let Value::Object(fields) = fields else { return };
        let mut pending = self.lock();
        let entry = pending.entry(subject).or_insert_with(|| Pending { uid: uid.to_owned(), fields: Map::new() });
        if entry.uid != uid {
            *entry = Pending { uid: uid.to_owned(), fields: Map::new() };
        }
        entry.fields.extend(fields);
        drop(pending);
        self.added.notify_one();
    }

    /// Writes what is added until it is cancelled.
    pub(super) async fn run(&self, hub: &Hub, metrics: &Metrics, ended: &CancellationToken) {
        let mut pause = PAUSE;
        loop {
            let batch = std::mem::take(&mut *self.lock());
            if batch.is_empty() {
                tokio::select! {
                    () = self.added.notified() => {}
                    () = ended.cancelled() => return,
                }
                continue;
            }
            let writes = batch.into_iter().map(|(subject, entry)| attempt(hub, metrics, subject, entry));
            let tried: Vec<Option<(Subject, Pending)>> =
                futures::stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
            let failed: Vec<(Subject, Pending)> = tried.into_iter().flatten().collect();
            if failed.is_empty() {
                pause = PAUSE;
                continue;
            }
            for (subject, entry) in failed {
                self.give_back(subject, entry);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ended.cancelled() => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Keeps what could not be written, under whatever came since.
    fn give_back(&self, subject: Subject, mut entry: Pending) {
        let mut pending = self.lock();
        if let Some(newer) = pending.remove(&subject) {
            if newer.uid == entry.uid {
                entry.fields.extend(newer.fields);
            } else {
                entry = newer;
            }
        }
        pending.insert(subject, entry);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one report; gives it back if it must be tried again.
async fn attempt(hub: &Hub, metrics: &Metrics, subject: Subject, entry: Pending) -> Option<(Subject, Pending)> {
    let error = write(hub, metrics, &subject, &entry).await.err()?;
    tracing::warn!(?subject, %error, "a report cannot be written; trying again");
    Some((subject, entry))
}

async fn write(hub: &Hub, metrics: &Metrics, subject: &Subject, entry: &Pending) -> Result<(), kube::Error> {
    match subject {
        Subject::Node(key) => patch::<Node>(hub, metrics, key, entry, |_| true).await,
        Subject::Application(key) => patch::<Application>(hub, metrics, key, entry, |_| true).await,
        Subject::Instance(key) => patch::<Instance>(hub, metrics, key, entry, |_| true).await,
        // A build that has ended stays as it ended, whatever arrives late.
        Subject::Build(key) => patch::<Build>(hub, metrics, key, entry, is_open).await,
    }
}

/// Whether a build may still be reported on.
pub(super) fn is_open(build: &Build) -> bool {
    build.status.as_ref().is_none_or(|status| !status.phase.is_final())
}

async fn patch<K: Reacts>(
    hub: &Hub,
    metrics: &Metrics,
    key: &Key,
    entry: &Pending,
    open: impl Fn(&K) -> bool,
) -> Result<(), kube::Error> {
    let cache = K::cache(&hub.world);
    let Some(object) = cache.get(key) else { return Ok(()) };
    if object.meta().uid.as_deref() != Some(&entry.uid) || !open(&object) {
        return Ok(());
    }
    let status = status_of(&object)?;
    let Some(change) = report::difference(&status, &Value::Object(entry.fields.clone())) else {
        return Ok(());
    };
    // The uid makes the server refuse if the name belongs to another object by now.
    let patch = Patch::Merge(json!({ "metadata": { "uid": entry.uid }, "status": change }));
    let request = Request::new(K::url_path(&(), key.namespace()))
        .patch_subresource("status", &key.name, &PatchParams::default(), &patch)
        .map_err(kube::Error::BuildRequest)?;
    let epoch = cache.epoch();
    match hub.client.request::<K>(request).await {
        Ok(object) => {
            metrics.written(K::KIND);
            hub.absorb(object, epoch);
            Ok(())
        }
        // It is gone. A conflict is tried again: either others write the object too, or it is another by now, which the
        // cache will say.
        Err(kube::Error::Api(answer)) if answer.code == 404 => Ok(()),
        // What the agent says breaks the schema, which no repetition mends.
        Err(kube::Error::Api(answer)) if matches!(answer.code, 400 | 422) => {
            tracing::warn!(kind = K::KIND, %key, answer = answer.message, "a report was refused");
            metrics.refused("invalid");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn status_of<K: Reacts>(object: &Arc<K>) -> Result<Value, kube::Error> {
    let mut object = serde_json::to_value(&**object).map_err(kube::Error::SerdeError)?;
    Ok(object.get_mut("status").map(Value::take).unwrap_or_default())
}
