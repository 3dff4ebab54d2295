//! The end of a container: out of the routes, drained, stopped, removed; also of one that nobody assigns.

use jiff::SignedDuration;

use super::purpose::{Purpose, VANISHED_GRACE, purpose};
use super::{Plan, Step, after};
use crate::desired::Desired;
use crate::labels;
use crate::machine::{Container, ContainerState};
use crate::observed::{Observed, Subject, address, label};

/// A container without open connections is stopped before its drain time is over, but not before this: a request that
/// the old Nginx generation has just accepted must have found its way.
const DRAIN_MIN: SignedDuration = SignedDuration::from_millis(500);
/// How long a stop waits for an Nginx that cannot be told: past it the instance ends without it.
const ROUTER_PATIENCE: SignedDuration = SignedDuration::from_mins(5);

/// The end of a container: out of the routes, drained, stopped, removed. Gives no steps while it is waited for.
pub(super) fn end(observed: &Observed, container: &Container, plan: &mut Plan) -> Vec<Step> {
    let remove = Step::Remove { container: container.id.clone() };
    match container.state {
        ContainerState::Created | ContainerState::Exited => return vec![remove],
        ContainerState::Removing | ContainerState::Unknown => return Vec::new(),
        ContainerState::Running => {}
    }
    let stop = vec![Step::Stop { container: container.id.clone() }, remove];
    let wanted_since = observed.stopping.get(&container.id).copied().unwrap_or(observed.now);
    if address(container).is_some_and(|address| observed.live.leads_to(address)) {
        // The route without it is not live yet.
        return if plan.reached(observed, after(wanted_since, ROUTER_PATIENCE)) { stop } else { Vec::new() };
    }
    let since = observed.draining.get(&container.id).copied().unwrap_or(observed.now);
    let drain = label(container, labels::DRAIN).and_then(|text| text.parse().ok()).unwrap_or_default();
    let over = plan.reached(observed, after(since, SignedDuration::from_millis(drain)));
    let idle = observed.idle.contains(&container.id) && plan.reached(observed, after(since, DRAIN_MIN));
    if over || idle { stop } else { Vec::new() }
}

/// A container of an instance that is not assigned.
pub(super) fn unassigned(desired: &Desired, observed: &Observed, container: &Container, plan: &mut Plan) {
    let Some(uid) = label(container, labels::UID) else { return };
    if desired.instances.contains_key(uid) || container.labels.contains_key(labels::HELPER) {
        return;
    }
    if purpose(desired, observed, container) == Purpose::Doubtful {
        let since = observed.vanished.get(&container.id).copied().unwrap_or(observed.now);
        if !desired.partial {
            plan.wake_at(after(since, VANISHED_GRACE));
        }
        return;
    }
    let mut steps = end(observed, container, plan);
    if !steps.is_empty() {
        steps.push(Step::Forget);
    }
    plan.add(observed, Subject::Instance(uid.to_owned()), steps);
}
