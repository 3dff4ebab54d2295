//! What the agent shows to the session and to metrics: the board it writes on, and what others read there.

use std::collections::BTreeMap;
use std::sync::Arc;

use node_protocol::{Assignment, Observation, PartState};
use tokio::sync::watch;

/// What the agent has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// The revision, none before the first assignment.
    pub(crate) revision: Option<u64>,
    /// The digest of its items.
    pub(crate) digest: Option<String>,
    /// Counts updates that did not fit: the gateway must send everything.
    pub(crate) misfits: u64,
}

/// What the agent shows to the session and to metrics.
pub(crate) struct Shown {
    /// What it has accepted.
    pub(crate) held: watch::Receiver<Held>,
    /// All it sees.
    pub(crate) observation: watch::Receiver<Arc<Observation>>,
    /// Whether Docker works.
    pub(crate) engine: watch::Receiver<PartState>,
    /// Containers that run, by the instance's uid.
    pub(crate) running: watch::Receiver<BTreeMap<String, String>>,
}

/// Where the agent writes what it shows.
pub(super) struct Board {
    held: watch::Sender<Held>,
    observation: watch::Sender<Arc<Observation>>,
    engine: watch::Sender<PartState>,
    running: watch::Sender<BTreeMap<String, String>>,
}

impl Board {
    /// One on which nothing stands but what is held.
    pub(super) fn new(held: Held) -> (Self, Shown) {
        let (held, held_seen) = watch::channel(held);
        let (observation, observation_seen) = watch::channel(Arc::default());
        let (engine, engine_seen) = watch::channel(PartState { healthy: false, message: "not asked yet".to_owned() });
        let (running, running_seen) = watch::channel(BTreeMap::new());
        let shown =
            Shown { held: held_seen, observation: observation_seen, engine: engine_seen, running: running_seen };
        (Self { held, observation, engine, running }, shown)
    }

    /// This assignment is accepted.
    pub(super) fn accepted(&self, assignment: &Assignment) {
        self.held.send_modify(|held| {
            held.revision = Some(assignment.revision);
            held.digest = Some(assignment.digest());
        });
    }

    /// An update did not fit.
    pub(super) fn misfit(&self) {
        self.held.send_modify(|held| held.misfits += 1);
    }

    /// How Docker is.
    pub(super) fn engine(&self, healthy: bool, message: &str) {
        show(&self.engine, PartState { healthy, message: message.to_owned() });
    }

    /// Which containers run, by the instance's uid.
    pub(super) fn running(&self, running: BTreeMap<String, String>) {
        show(&self.running, running);
    }

    /// All that is seen. What is not `known` yet is shown only where something was shown before.
    pub(super) fn observation(&self, observation: Observation, known: bool) {
        if known || self.observation.borrow().revision != 0 {
            show(&self.observation, Arc::new(observation));
        }
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> Held {
        self.held.borrow().clone()
    }
}

/// Wakes whoever waits only where something is new.
fn show<T: PartialEq>(place: &watch::Sender<T>, value: T) {
    place.send_if_modified(|before| {
        let changed = *before != value;
        *before = value;
        changed
    });
}
