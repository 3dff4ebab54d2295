//! Keeps what is observed up to date: takes in what Docker, probes and steps say, and counts time. No I/O.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use jiff::Timestamp;

use crate::desired::Desired;
use crate::execute::{Done, Outcome, retry_at};
use crate::labels;
use crate::machine::{Container, ContainerState, Error, Network, Routes};
use crate::observed::{Failure, ImageState, LiveRoutes, Observed, Subject, address, label};
use crate::plan::{Purpose, purpose};

impl Observed {
    /// Takes in all containers and networks. What a step is busy with is newer than any list.
    pub(crate) fn listed(&mut self, containers: Vec<Container>, networks: Vec<Network>) {
        let busy = |container: &Container| {
            label(container, labels::UID).is_some_and(|uid| self.busy.contains(&Subject::Instance(uid.to_owned())))
        };
        let mut all: std::collections::BTreeMap<String, Container> = containers
            .into_iter()
            .filter(|container| !busy(container) && !container.labels.contains_key(labels::HELPER))
            .map(|container| (container.id.clone(), container))
            .collect();
        for (id, container) in &self.containers {
            if busy(container) {
                all.insert(id.clone(), container.clone());
            }
        }
        self.containers = all;
        self.networks = networks.into_iter().map(|network| (network.name.clone(), network)).collect();
        self.tidy();
    }

    /// Takes in one container; `None`: it is gone.
    pub(crate) fn container_is(&mut self, id: &str, container: Option<Container>) {
        match container {
            Some(container) if !container.labels.contains_key(labels::HELPER) => {
                self.containers.insert(id.to_owned(), container);
            }
            Some(_) => {}
            None => {
                self.containers.remove(id);
            }
        }
        self.tidy();
    }

    /// Takes in what steps have changed.
    pub(crate) fn done(&mut self, done: Done) {
        self.busy.remove(&done.subject);
        let mut partly_failed = None;
        for outcome in done.outcomes {
            match outcome {
                Outcome::Image(key, Some(state)) => {
                    self.images.insert(key, state);
                }
                Outcome::Image(key, None) => self.images.retain(|asked, state| {
                    *asked != key && !matches!(state, ImageState::Here(image) if image.id == key)
                }),
                Outcome::Container(id, container) => self.container_is(&id, container),
                Outcome::Network(name, Some(network)) => {
                    self.networks.insert(name, network);
                }
                Outcome::Network(name, None) => {
                    self.networks.remove(&name);
                }
                Outcome::History(uid, Some(history)) => {
                    self.history.insert(uid, history);
                }
                Outcome::History(uid, None) => {
                    self.history.remove(&uid);
                }
                Outcome::Live(routes, live) => {
                    partly_failed = live.failed.values().next().cloned();
                    self.live_is(routes, live.failed);
                }
            }
        }
        match done.error.or(partly_failed.map(Error::Refused)) {
            None => {
                self.failures.remove(&done.subject);
            }
            Some(error) => {
                let attempts = self.failures.get(&done.subject).map_or(0, |failure| failure.attempts);
                tracing::warn!(subject = ?done.subject, %error, attempts, "steps failed");
                let failure = Failure {
                    attempts: attempts + 1,
                    retry_at: retry_at(self.now, attempts),
                    message: error.to_string(),
                };
                self.failures.insert(done.subject, failure);
            }
        }
    }

    /// Routes were made live, but for those that failed: they are what they were.
    fn live_is(&mut self, routes: Routes, failed: std::collections::BTreeMap<String, String>) {
        let mut sites = routes.sites.clone();
        for application in failed.keys() {
            match self.live.sites.get(application) {
                Some(before) => sites.insert(application.clone(), before.clone()),
                None => sites.remove(application),
            };
        }
        self.live = LiveRoutes { asked: Some(routes), sites, failed };
    }

    /// Counts since when containers are in doubt, to end, and without new requests.
    pub(crate) fn count(&mut self, desired: &Desired, now: Timestamp, connected: Option<&BTreeSet<SocketAddr>>) {
        self.now = now;
        let containers: Vec<Container> = self.containers.values().cloned().collect();
        for container in &containers {
            let id = &container.id;
            let uid = label(container, labels::UID).unwrap_or_default();
            if desired.instances.contains_key(uid) || desired.partial {
                self.vanished.remove(id);
            } else {
                self.vanished.entry(id.clone()).or_insert(now);
            }
            let at = address(container);
            if purpose(desired, self, container) != Purpose::Unwanted {
                self.stopping.remove(id);
                self.draining.remove(id);
                self.idle.remove(id);
                continue;
            }
            self.stopping.entry(id.clone()).or_insert(now);
            if at.is_some_and(|at| self.live.leads_to(at)) {
                self.draining.remove(id);
                self.idle.remove(id);
                continue;
            }
            self.draining.entry(id.clone()).or_insert(now);
            match (connected, at) {
                (Some(connected), Some(at)) if !connected.contains(&at) => {
                    self.idle.insert(id.clone());
                }
                _ => {
                    self.idle.remove(id);
                }
            }
        }
    }

    /// Whether a container is waited for until its requests are done.
    pub(crate) fn drains(&self) -> bool {
        self.draining
            .keys()
            .any(|id| self.containers.get(id).is_some_and(|container| container.state == ContainerState::Running))
    }

    /// Forgets what is noted of containers that are gone or have ended.
    fn tidy(&mut self) {
        let containers = &self.containers;
        let there = |id: &String| containers.contains_key(id);
        let running = |id: &String| containers.get(id).is_some_and(|one| one.state == ContainerState::Running);
        self.health.retain(|id, _| running(id));
        self.written.retain(|id, _| running(id));
        self.vanished.retain(|id, _| there(id));
        self.stopping.retain(|id, _| there(id));
        self.draining.retain(|id, _| there(id));
        self.idle.retain(there);
    }

    /// Forgets failures and images that nothing asks for any more.
    pub(crate) fn assigned(&mut self, desired: &Desired) {
        let wanted: BTreeSet<String> = desired.instances.values().map(crate::desired::image_key).collect();
        self.images.retain(|key, _| wanted.contains(key));
        self.failures.retain(|subject, _| match subject {
            Subject::Instance(uid) => desired.instances.contains_key(uid),
            Subject::Image(key) => wanted.contains(key),
            Subject::Network(_) | Subject::Routes => true,
        });
    }
}
