//! Gives instances their nodes: one decision at a time against a ledger, any number of them being stored at once.

mod ledger;
mod place;
#[cfg(test)]
pub(crate) mod tests;

pub use ledger::{Ledger, amount, request};
pub use place::{Amount, Candidate, Closed, Refusal, Refused, Request, place};

use std::sync::Arc;
use std::time::Duration;

use crds::Instance;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::execute;
use crate::hub::Hub;
use crate::step::{Note, Step, Target, is_deleted};
use crate::world::Key;

/// Decisions that are being stored at the same time. The store commits them in groups; more would only make a group
/// that is already large larger.
const STORING_MAX: usize = 256;
/// After a decision could not be stored: its instance has changed, and its news is a few milliseconds away.
const AGAIN: Duration = Duration::from_millis(20);

/// Whether the scheduler has anything to do with an instance.
pub(crate) fn wants_node(instance: &Instance) -> bool {
    instance.spec.node_name.is_none() && !is_deleted(instance)
}

/// Looks at all instances without a node again, because there is more room than before.
pub(crate) fn wake(hub: &Hub) {
    let waiting = hub.world.ledger().waiting();
    for key in waiting {
        hub.queues.unscheduled.add(key.clone());
        hub.queues.instances.add(key);
    }
}

/// Schedules until shutdown.
pub(crate) async fn run(hub: Arc<Hub>, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(STORING_MAX));
    let mut storing = tokio::task::JoinSet::new();
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = storing.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a placement ended without being stored");
                }
                continue;
            }
            key = hub.queues.unscheduled.next() => key,
        };
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
        let instance = hub.world.instances.get(&key).filter(|instance| wants_node(instance));
        let chosen = instance.as_ref().map(|instance| hub.world.ledger().assume(&key, instance));
        let (Some(instance), Some(Ok(node))) = (instance, chosen) else {
            // Nothing to do, or no room: the instance's status says which, and more room wakes us.
            hub.queues.unscheduled.done(&key);
            continue;
        };
        let hub = Arc::clone(&hub);
        storing.spawn(async move {
            let _permit = permit;
            store(&hub, &key, &instance, &node).await;
            hub.queues.unscheduled.done(&key);
        });
    }
    while storing.join_next().await.is_some() {}
}

/// Writes a decision down, if the instance still is as it was seen.
async fn store(hub: &Hub, key: &Key, instance: &Instance, node: &str) {
    let step =
        Step::Patch { of: Target::exactly(instance), patch: serde_json::json!({ "spec": { "nodeName": node } }) };
    match execute::execute(hub, &step).await {
        Ok(()) => {
            hub.metrics.placed.inc();
            let message = format!("placed on {node}");
            hub.events.tell(instance, &Note { warning: false, reason: "Scheduled".to_owned(), message });
        }
        Err(error) => {
            tracing::debug!(%key, node, %error, "a placement could not be stored");
            hub.world.ledger().forget(key);
            hub.queues.unscheduled.add_after(key.clone(), AGAIN);
        }
    }
}
