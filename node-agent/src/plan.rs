//! What to do next, from what should be and what is. Pure: equal inputs give equal plans.
//!
//! Steps about one subject are carried out in order, steps about different ones at the same time. Each may be carried
//! out twice, and the agent may end behind any of them: the next plan goes on from what is then there.

mod end;
mod instance;
mod purpose;
mod routes;

pub(crate) use purpose::{Purpose, purpose};
pub(crate) use routes::is_probed;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::desired::Desired;
use crate::labels;
use crate::machine::{ContainerSpec, NetworkSpec, Routes};
use crate::observed::{Failed, Observed, Subject, label};

/// One thing to do. Every step is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// See whether an image is here.
    Look {
        /// How it is asked for.
        image: String,
    },
    /// Fetch an image.
    Pull {
        /// How it is asked for.
        image: String,
        /// Its reference.
        reference: String,
    },
    /// Make a network unless it is there.
    EnsureNetwork(NetworkSpec),
    /// Make a container unless it is there.
    Create(Box<ContainerSpec>),
    /// Start a container.
    Start {
        /// Its name or id.
        container: String,
    },
    /// Write down how it ended, and that it is restarted now.
    NoteRestart {
        /// The container's id.
        container: String,
    },
    /// Write down that it is not started any more.
    GiveUp {
        /// The container's id.
        container: String,
        /// Why.
        failed: Failed,
    },
    /// End a container's process.
    Stop {
        /// The container's id.
        container: String,
    },
    /// Remove a container.
    Remove {
        /// Its id.
        container: String,
    },
    /// Forget what was remembered of an instance.
    Forget,
    /// Make routes live.
    Route(Routes),
    /// Remove a network.
    RemoveNetwork {
        /// Its name.
        name: String,
    },
}

/// What to do, and when to look again for time's sake alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The steps, in order, by what they are about.
    pub(crate) steps: BTreeMap<Subject, Vec<Step>>,
    /// When time alone will change the plan.
    pub(crate) wake: Option<Timestamp>,
}

impl Plan {
    fn add(&mut self, observed: &Observed, subject: Subject, steps: Vec<Step>) {
        if steps.is_empty() || observed.busy.contains(&subject) {
            return;
        }
        match observed.failures.get(&subject) {
            Some(failure) if failure.retry_at > observed.now => self.wake_at(failure.retry_at),
            _ => {
                self.steps.entry(subject).or_default().extend(steps);
            }
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// True once `at` has come; until then the plan wakes for it.
    fn reached(&mut self, observed: &Observed, at: Timestamp) -> bool {
        let reached = observed.now >= at;
        if !reached {
            self.wake_at(at);
        }
        reached
    }
}

/// What to do next.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let wanted_routes = routes::routes(desired, observed);
    let known = observed.live.asked.is_some() || is_probed(desired, observed);
    let retry = !observed.live.failed.is_empty() && observed.failures.contains_key(&Subject::Routes);
    if known && (observed.live.asked.as_ref() != Some(&wanted_routes) || retry) {
        plan.add(observed, Subject::Routes, vec![Step::Route(wanted_routes)]);
    }
    for task in desired.instances.values() {
        instance::instance(desired, observed, task, &mut plan);
    }
    for container in observed.containers.values() {
        end::unassigned(desired, observed, container, &mut plan);
    }
    networks(desired, observed, &mut plan);
    plan
}

/// Networks of projects that have nothing here any more.
fn networks(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let namespaces = desired.namespaces();
    for network in observed.networks.values() {
        let Some(namespace) = network.labels.get(labels::NAMESPACE) else { continue };
        let used = namespaces.contains(namespace.as_str())
            || observed.containers.values().any(|container| label(container, labels::NAMESPACE) == Some(namespace));
        if !used {
            let step = Step::RemoveNetwork { name: network.name.clone() };
            plan.add(observed, Subject::Network(network.name.clone()), vec![step]);
        }
    }
}

/// A later time; the end of time if there is none.
pub(crate) fn after(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}
