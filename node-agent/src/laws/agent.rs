//! An agent without its loop, which a law takes through its days one plan at a time.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use jiff::SignedDuration;

use crate::desired::Desired;
use crate::execute::{Done, Execution};
use crate::fake::Fake;
use crate::history::Histories;
use crate::machine::{ContainerState, Containers, Routes};
use crate::observed::{History, Observed, Subject, address};
use crate::plan::{Plan, Purpose, Step, after, plan, purpose};

/// An agent without its loop: what it sees, and the machine.
pub(super) struct Agent {
    pub(super) machine: Arc<Fake>,
    pub(super) histories: Histories,
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    /// Whether probes have come back since it was started.
    pub(super) probed: bool,
    /// What probes say next, last first.
    pub(super) health: Vec<bool>,
    /// Whether connections are open to all that runs.
    pub(super) connected: Option<bool>,
}

impl Agent {
    /// One that has just been started: it knows what is on the machine and on disk.
    pub(super) fn start(machine: &Arc<Fake>, folder: &Path, desired: Desired) -> Self {
        let histories = Histories::new(folder).unwrap();
        let mut observed =
            Observed { now: machine.state().now, history: histories.load().unwrap(), ..Observed::default() };
        let containers = machine.containers().now_or_never().unwrap().unwrap();
        let networks = machine.networks().now_or_never().unwrap().unwrap();
        observed.listed(containers, networks);
        let (health, connected) = (Vec::new(), None);
        Self { machine: Arc::clone(machine), histories, desired, observed, probed: false, health, connected }
    }

    /// Time passes, probes come back (but not before the first plan), and the next plan is made.
    pub(super) fn plan(&mut self, by: SignedDuration) -> Plan {
        let now = {
            let mut state = self.machine.state();
            state.now = after(state.now, by);
            state.now
        };
        let running: Vec<String> = self
            .observed
            .containers
            .values()
            .filter(|one| one.state == ContainerState::Running)
            .map(|one| one.id.clone())
            .filter(|_| self.probed)
            .collect();
        self.probed = true;
        for id in running {
            let health = self.observed.health.entry(id).or_default();
            health.ready = self.health.pop().unwrap_or(true);
            health.was_ready |= health.ready;
            health.failures = u32::from(!health.ready);
        }
        let all = self.observed.containers.values().filter_map(address);
        let connected: Option<BTreeSet<_>> = self.connected.map(|open| all.filter(|_| open).collect());
        self.machine.state().connected = connected.clone().unwrap_or_default();
        self.observed.count(&self.desired, now, connected.as_ref());
        let plan = plan(&self.desired, &self.observed);
        self.check_routes(&plan);
        plan
    }

    /// Whether probes have good news of all that runs.
    pub(super) fn is_well(&self) -> bool {
        let mut running = self.observed.containers.values().filter(|one| one.state == ContainerState::Running);
        running.all(|one| self.observed.health_of(one).ready)
    }

    /// Requests are never led away from an instance that serves them and is to go on doing so.
    fn check_routes(&self, plan: &Plan) {
        let mut state = self.machine.state();
        let Some(live) = state.live.clone() else { return };
        for step in plan.steps.values().flatten() {
            let Step::Route(routes) = step else { continue };
            for container in self.observed.containers.values() {
                let Some(address) = address(container) else { continue };
                let serves = |routes: &Routes| routes.sites.values().any(|site| site.backends.contains(&address));
                let wanted = purpose(&self.desired, &self.observed, container) == Purpose::Wanted;
                let well = self.observed.health_of(container).ready;
                if wanted && well && serves(&live) && !serves(routes) {
                    state.violations.push(format!("requests are led away from {}, which serves them", container.id));
                }
            }
        }
    }

    /// Carries steps out, so many at most; says how many it were, and whether that was all.
    pub(super) fn carry_out(&mut self, plan: Plan, most: usize) -> (usize, bool) {
        let mut count = 0;
        for (subject, mut steps) in plan.steps {
            let complete = count + steps.len() <= most;
            steps.truncate(most - count);
            count += steps.len();
            let execution = Execution {
                containers: Arc::clone(&self.machine),
                router: Arc::clone(&self.machine),
                histories: self.histories.clone(),
                now: self.observed.now,
                history: match &subject {
                    Subject::Instance(uid) => self.observed.history.get(uid).cloned().unwrap_or_default(),
                    _ => History::default(),
                },
                attempts: 0,
            };
            let done: Done = execution.run(subject, steps).now_or_never().unwrap();
            self.observed.done(done);
            if !complete {
                return (count, false);
            }
        }
        (count, true)
    }
}
