//! What is done about an instance: little. Its Application decides whether it should be, its node does the work.

use crds::condition::{self, READY};
use crds::instance::{InstancePhase, InstanceStatus};
use crds::{FINALIZER, Instance};
use serde_json::json;

use super::status::SILENT;
use super::{Observed, Place};
use crate::node::Side;
use crate::step::{Step, Target, is_deleted};

pub(super) fn plan(instance: &Instance, observed: &Observed) -> Vec<Step> {
    let status = instance.status.clone().unwrap_or_default();
    if is_deleted(instance) {
        return if is_over(&status, &observed.place) {
            Step::release(instance, FINALIZER).into_iter().collect()
        } else {
            Vec::new()
        };
    }
    let mut steps: Vec<Step> = Step::hold(instance, FINALIZER).into_iter().collect();
    if let Place::On(node, side @ (Side::Silent(_) | Side::Gone)) = &observed.place
        && !matches!(status.phase, InstancePhase::Unknown | InstancePhase::Stopped | InstancePhase::Failed)
        && !was_said(&status)
    {
        let message = match side {
            Side::Silent(since) => format!("nothing was heard of its node {node} since {since}"),
            _ => format!("its node {node} is no more"),
        };
        steps.push(Step::PatchStatus {
            of: Target::exactly(instance),
            patch: json!({ "phase": "Unknown", "ready": false, "reason": SILENT, "message": message }),
        });
    }
    steps
}

/// Whether there is no container of it, for certain.
fn is_over(status: &InstanceStatus, place: &Place) -> bool {
    match place {
        Place::Waiting | Place::Unschedulable(_) | Place::On(_, Side::Gone) => true,
        Place::On(..) => status.phase == InstancePhase::Stopped,
    }
}

/// Whether its node's silence was noted already. If it has another phase since, its node has said so, though the
/// heartbeat has not arrived yet: the node is believed.
fn was_said(status: &InstanceStatus) -> bool {
    condition::find(&status.conditions, READY).is_some_and(|ready| ready.reason == SILENT)
}
