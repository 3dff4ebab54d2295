//! The probes that run: one for each container that should answer, from its start to its end. How a container is asked
//! is in `probe.rs`.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::SIGNALS;
use crate::desired::Desired;
use crate::labels;
use crate::observed::{Health, Observed, address, label};
use crate::plan::{Purpose, purpose};
use crate::probe::{self, Finding, Target};

/// The probes that run, by container.
pub(super) struct Probes {
    running: BTreeMap<String, (Target, AbortHandle)>,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Finding>,
    findings: mpsc::Receiver<Finding>,
}

impl Probes {
    /// None yet.
    pub(super) fn new() -> Self {
        let (sender, findings) = mpsc::channel(SIGNALS);
        Self { running: BTreeMap::new(), tasks: JoinSet::new(), sender, findings }
    }

    /// Begins and ends probes as containers begin and end.
    pub(super) fn follow(&mut self, desired: &Desired, observed: &mut Observed) {
        while self.tasks.try_join_next().is_some() {}
        let wanted = self.wanted(desired, observed);
        self.running.retain(|id, (target, task)| {
            let stays = wanted.get(id) == Some(target);
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, target) in wanted {
            if !self.running.contains_key(&id) {
                observed.health.remove(&id);
                let task = self.tasks.spawn(probe::watch(target.clone(), Health::default(), self.sender.clone()));
                self.running.insert(id, (target, task));
            }
        }
    }

    fn wanted(&self, desired: &Desired, observed: &Observed) -> BTreeMap<String, Target> {
        let mut wanted = BTreeMap::new();
        for container in observed.containers.values() {
            let purpose = purpose(desired, observed, container);
            if purpose == Purpose::Unwanted {
                continue;
            }
            let task = desired.instances.get(label(container, labels::UID).unwrap_or_default());
            let known = self.running.get(&container.id).map(|(target, _)| target.probe.clone());
            let probe = task.map(|task| task.health.clone()).or(known.filter(|_| purpose == Purpose::Doubtful));
            if let (Some(address), Some(probe)) = (address(container), probe) {
                let started_at = container.started_at;
                wanted.insert(
                    container.id.clone(),
                    Target { container: container.id.clone(), address, probe, started_at },
                );
            }
        }
        wanted
    }

    /// The next finding.
    pub(super) async fn next(&mut self) -> Option<Finding> {
        self.findings.recv().await
    }

    /// A finding that is there already.
    pub(super) fn try_next(&mut self) -> Option<Finding> {
        self.findings.try_recv().ok()
    }

    /// Notes a finding, unless its probe has ended since.
    pub(super) fn note(&self, finding: Finding, observed: &mut Observed) {
        if self.running.contains_key(&finding.container) {
            observed.health.insert(finding.container, finding.health);
        }
    }
}
