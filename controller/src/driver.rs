//! Runs reconcilers: takes keys from a kind's queue, asks for a plan, carries it out, publishes what was seen.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::error::Error;
use crate::execute;
use crate::hub::{Hub, Reacts};
use crate::reconcile::Reconcile;
use crate::step::{Note, Step, Target};
use crate::task::panic_message;
use crate::world::Key;

/// Objects of one kind that are worked on at the same time. They mostly wait for the store, which commits whatever is
/// queued at once: more of them make its groups larger, and each costs a few KiB.
const WORKERS: usize = 32;

/// Works on a kind until shutdown.
pub(crate) async fn run<K: Reconcile + Reacts>(hub: Arc<Hub>, shutdown: CancellationToken) {
    let failures = Arc::new(Failures::default());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        workers.spawn(work::<K>(Arc::clone(&hub), Arc::clone(&failures), shutdown.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        if let Err(error) = ended {
            tracing::error!(kind = K::KIND, %error, "a worker ended; another takes its place");
            if !shutdown.is_cancelled() {
                workers.spawn(work::<K>(Arc::clone(&hub), Arc::clone(&failures), shutdown.clone()));
            }
        }
    }
}

async fn work<K: Reconcile + Reacts>(hub: Arc<Hub>, failures: Arc<Failures>, shutdown: CancellationToken) {
    let queue = hub.queues.of(K::NOUN);
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            key = queue.next() => key,
        };
        let generation = K::cache(&hub.world).get(&key).and_then(|object| object.meta().generation);
        let span =
            tracing::info_span!("reconcile", kind = K::KIND, namespace = key.namespace, name = key.name, generation);
        let started = Instant::now();
        let result = reconcile::<K>(&hub, &key).instrument(span.clone()).await;
        hub.metrics.seconds.with_label_values(&[K::KIND]).observe(started.elapsed().as_secs_f64());
        let label = result.as_ref().map_or_else(Error::label, |_| "ok");
        hub.metrics.reconciles.with_label_values(&[K::KIND, label]).inc();
        match result {
            Ok(recheck) => {
                failures.forget(&key);
                if let Some(delay) = recheck {
                    queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                let retry = error.retry(failures.count(&key));
                if error.is_worth_telling() {
                    let _in = span.enter();
                    tracing::warn!(error = &error as &dyn std::error::Error, ?retry, "cannot reconcile; trying again");
                }
                queue.add_after(key.clone(), retry);
            }
        }
        queue.done(&key);
    }
}

/// Brings one object a step of the way.
async fn reconcile<K: Reconcile + Reacts>(hub: &Hub, key: &Key) -> Result<Option<Duration>, Error> {
    let Some(object) = K::cache(&hub.world).get(key) else { return Ok(None) };
    let now = hub.clock.now();
    let decided = catch_unwind(AssertUnwindSafe(|| {
        let observed = object.observe(&hub.world, &hub.settings, now);
        let status = serde_json::to_value(object.status(&observed)).unwrap_or(Value::Null);
        (object.plan(&observed), status, object.recheck(&observed))
    }));
    let (steps, status, recheck) = decided.map_err(|panic| Error::Panicked(panic_message(&*panic).to_owned()))?;
    let mut result = Ok(());
    for step in &steps {
        if let Step::Emit(note) = step {
            tracing::info!(reason = note.reason, message = note.message, "decided");
            hub.events.tell(&*object, note);
            continue;
        }
        hub.metrics.steps.with_label_values(&[K::KIND]).inc();
        tracing::debug!(?step, "step");
        result = execute::execute(hub, step).await;
        if result.is_err() {
            break;
        }
    }
    // What was seen is told also where something could not be done: it may be the reason why.
    publish(hub, &*object, status).await?;
    result.map(|()| recheck)
}

/// Publishes a status if it says anything new, and tells of conditions that changed.
async fn publish<K: Reconcile + Reacts>(hub: &Hub, object: &K, patch: Value) -> Result<(), Error> {
    let before = serde_json::to_value(object).ok().and_then(|mut object| object.get_mut("status").map(Value::take));
    let before = before.unwrap_or(Value::Null);
    let mut after = before.clone();
    json_patch::merge(&mut after, &patch);
    if after == before || (before.is_null() && after == Value::Object(serde_json::Map::new())) {
        return Ok(());
    }
    let patch = serde_json::json!({ "status": patch });
    match execute::merge::<K>(hub, &Target::of(object), Some("status"), patch).await {
        Ok(()) => {}
        // It is gone, or another object has its name: then there is nothing to tell it.
        Err(Error::Changed(_)) => return Ok(()),
        Err(error) => return Err(error),
    }
    for note in changed_conditions(&before, &after) {
        hub.events.tell(object, &note);
    }
    Ok(())
}

/// What the difference between two statuses tells a person.
fn changed_conditions(before: &Value, after: &Value) -> Vec<Note> {
    let conditions = |status: &Value| -> Vec<Condition> {
        status.get("conditions").and_then(|list| serde_json::from_value(list.clone()).ok()).unwrap_or_default()
    };
    let old = conditions(before);
    let mut notes = Vec::new();
    for condition in conditions(after) {
        let same = old.iter().any(|old| {
            old.type_ == condition.type_ && old.status == condition.status && old.reason == condition.reason
        });
        if !same && !QUIET.contains(&condition.reason.as_str()) {
            let warning = is_trouble(&condition);
            notes.push(Note { warning, reason: condition.reason, message: condition.message });
        }
    }
    // `Ready` sums the others up, often in the same words.
    notes.dedup_by(|left, right| left.reason == right.reason);
    notes
}

/// Reasons that mean waiting for what is under way. They make no event: the deed that is waited for does.
const QUIET: &[&str] =
    &["Progressing", "Starting", "Pending", "Building", "Pulling", "Waiting", "NoInstances", "Usable"];

/// Conditions whose `True` is the bad news.
const ADVERSE: &[&str] = &["CapacityPressure", "DiskPressure"];

fn is_trouble(condition: &Condition) -> bool {
    let bad = if ADVERSE.contains(&condition.type_.as_str()) { "True" } else { "False" };
    condition.status == bad && !matches!(condition.reason.as_str(), "Stopped" | "Deleting" | "Cancelled")
        || condition.status == "Unknown"
}

/// How often each key failed in a row. Only keys that fail are in it.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<Key, u32>>);

impl Failures {
    fn count(&self, key: &Key) -> u32 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        *count
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
