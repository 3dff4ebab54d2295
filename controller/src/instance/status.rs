//! What is said of an instance, beside what its node's agent reports.

use crds::Instance;
use crds::condition::{self, READY, Verdict};
use crds::instance::{InstancePhase, InstanceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::{Observed, Place};
use crate::node::Side;
use crate::step::is_deleted;

pub(crate) const SCHEDULED: &str = "Scheduled";
/// The reason when an instance's node is silent.
pub(super) const SILENT: &str = "NodeSilent";

/// What is said of an instance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

pub(super) fn status(instance: &Instance, observed: &Observed) -> Status {
    let present = instance.status.clone().unwrap_or_default();
    let generation = instance.metadata.generation;
    let verdicts = [scheduled(&observed.place), ready(instance, &present, &observed.place)];
    Status {
        observed_generation: generation,
        conditions: condition::set(&present.conditions, &verdicts, generation, observed.now),
    }
}

fn scheduled(place: &Place) -> Verdict {
    match place {
        Place::Waiting => Verdict::new(SCHEDULED, Some(false), "Pending", "it is being given a node"),
        Place::Unschedulable(why) => Verdict::new(SCHEDULED, Some(false), "Unschedulable", why.clone()),
        // The scheduler tells of the placement itself.
        Place::On(node, _) => Verdict::new(SCHEDULED, Some(true), "Placed", format!("on {node}")),
    }
}

fn ready(instance: &Instance, status: &InstanceStatus, place: &Place) -> Verdict {
    let say = |ready: Option<bool>, reason: &'static str, otherwise: &str| {
        let message = status.message.clone().filter(|message| !message.is_empty());
        Verdict::new(READY, ready, reason, message.unwrap_or_else(|| otherwise.to_owned()))
    };
    match place {
        Place::On(_, Side::Silent(_)) => return say(None, SILENT, "its node is silent"),
        Place::On(_, Side::Gone) => return say(None, "NodeGone", "its node is no more"),
        _ if is_deleted(instance) => return say(Some(false), "Stopping", "it is being stopped"),
        Place::Waiting => return say(Some(false), "Pending", "it waits for a node"),
        Place::Unschedulable(why) => return Verdict::new(READY, Some(false), "Unschedulable", why.clone()),
        Place::On(..) => {}
    }
    match status.phase {
        InstancePhase::Running if status.ready && status.routed => {
            say(Some(true), "Running", "it answers and gets requests")
        }
        InstancePhase::Running if status.ready => say(Some(false), "Starting", "it answers and gets no requests yet"),
        InstancePhase::Running => say(Some(false), "Unhealthy", "it does not answer well"),
        InstancePhase::Pending => say(Some(false), "Pending", "its node has not begun with it"),
        InstancePhase::Pulling => say(Some(false), "Pulling", "its image is being fetched"),
        InstancePhase::Starting => say(Some(false), "Starting", "its first good answer is waited for"),
        InstancePhase::Draining => say(Some(false), "Stopping", "it finishes the requests that it has"),
        InstancePhase::Stopped => say(Some(false), "Stopped", "its container is gone"),
        InstancePhase::Failed => say(Some(false), "Failed", "it could not be kept running"),
        InstancePhase::Unknown => say(None, SILENT, "its node has not told of it yet"),
    }
}
