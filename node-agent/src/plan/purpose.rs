//! What a container is there for, and whether it is still of use for that. What follows from it is said elsewhere.

use jiff::SignedDuration;
use node_protocol::RunState;

use super::after;
use crate::desired::{self, Desired};
use crate::labels;
use crate::machine::{Container, ContainerState};
use crate::observed::{Observed, label};

/// How long a container that vanished from the assignment is kept: an assignment that was sent in a hurry or to the
/// wrong node can be corrected in that time.
pub(super) const VANISHED_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// An instance that fails so many times its number of probes after it was ready is restarted.
const RESTART_FACTOR: u32 = 3;

/// What a container is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is wanted as it is.
    Wanted,
    /// It is not assigned, but perhaps that is a mistake.
    Doubtful,
    /// It is to end.
    Unwanted,
}

/// What a container is there for.
pub(crate) fn purpose(desired: &Desired, observed: &Observed, container: &Container) -> Purpose {
    let uid = label(container, labels::UID).unwrap_or_default();
    match desired.instances.get(uid) {
        Some(task) if task.state == RunState::Stop => Purpose::Unwanted,
        // An Instance never changes. If its task does, then only because its values were read anew, by a server that does
        // not know with which ones it was started: that is no reason to take down what works.
        Some(task) if task.keep || container.state == ContainerState::Running => Purpose::Wanted,
        Some(task) if label(container, labels::SPEC_HASH) == Some(desired::spec_hash(task).as_str()) => Purpose::Wanted,
        Some(_) => Purpose::Unwanted,
        None if desired.partial => Purpose::Doubtful,
        None => {
            let since = observed.vanished.get(&container.id).copied().unwrap_or(observed.now);
            if observed.now < after(since, VANISHED_GRACE) { Purpose::Doubtful } else { Purpose::Unwanted }
        }
    }
}

/// Whether it was ready once and has failed for so long that only a restart may help.
pub(super) fn is_sick(desired: &Desired, observed: &Observed, container: &Container) -> bool {
    let uid = label(container, labels::UID).unwrap_or_default();
    let health = observed.health_of(container);
    desired.to_run(uid).is_some_and(|task| {
        health.was_ready && !health.ready && health.failures >= task.health.failures.max(1) * RESTART_FACTOR
    })
}

/// Whether it has written more than its plan's disk holds.
pub(super) fn is_full(desired: &Desired, observed: &Observed, container: &Container) -> bool {
    let uid = label(container, labels::UID).unwrap_or_default();
    let written = observed.written.get(&container.id).copied().unwrap_or(0);
    desired.to_run(uid).is_some_and(|task| task.disk_bytes > 0 && written > task.disk_bytes)
}
