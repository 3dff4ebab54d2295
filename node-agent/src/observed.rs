//! What the agent sees: of the machine, of its probes, of its routes, and what it remembers of each instance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crds::instance::LastExit;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::labels;
use crate::machine::{Container, ContainerState, Image, Network, Routes, Site};

/// What a step is about. Two steps about the same thing never run at the same time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// Uid of an instance.
    Instance(String),
    /// How an image is asked for.
    Image(String),
    /// Name of a network.
    Network(String),
    /// The routes, all of them.
    Routes,
}

/// What is known of an image that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageState {
    /// It is here.
    Here(Image),
    /// It is not here.
    Absent,
    /// It could not be fetched.
    Unavailable {
        /// Docker's words.
        message: String,
        /// When it is tried again.
        retry_at: Timestamp,
        /// How often it was tried.
        attempts: u32,
    },
}

/// What the probes of a running container say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether it answers well.
    pub(crate) ready: bool,
    /// Whether it has since it was started.
    pub(crate) was_ready: bool,
    /// How many probes failed in a row.
    pub(crate) failures: u32,
    /// What the last failed one saw.
    pub(crate) message: Option<String>,
    /// Whether that was a port that nobody listens on.
    pub(crate) port_closed: bool,
}

/// Why an instance is not started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    /// One CamelCase word.
    pub(crate) reason: String,
    /// For a person.
    pub(crate) message: String,
}

/// What is remembered of an instance, in a file of its own: it must survive the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct History {
    /// When it was last restarted, oldest first; at most [`History::KEPT`].
    pub(crate) restarted: Vec<Timestamp>,
    /// How often it was restarted.
    pub(crate) restarts: i64,
    /// How often in a row Docker would not start it.
    pub(crate) start_failures: u32,
    /// What Docker said then.
    pub(crate) start_error: Option<String>,
    /// How it ended last.
    pub(crate) last_exit: Option<LastExit>,
    /// Set when it is not started any more.
    pub(crate) failed: Option<Failed>,
}

impl History {
    /// Three within the window decide; some more for a person who looks into the file.
    pub(crate) const KEPT: usize = 8;

    /// Notes a restart.
    pub(crate) fn restart(&mut self, at: Timestamp) {
        self.restarts += 1;
        self.restarted.push(at);
        if self.restarted.len() > Self::KEPT {
            self.restarted.remove(0);
        }
    }
}

/// That steps about something failed, and when they are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How often in a row.
    pub(crate) attempts: u32,
    /// When they are tried again.
    pub(crate) retry_at: Timestamp,
    /// What was wrong.
    pub(crate) message: String,
}

/// What the router serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveRoutes {
    /// What it was last asked for, successfully or in part.
    pub(crate) asked: Option<Routes>,
    /// The sites that are live.
    pub(crate) sites: BTreeMap<String, Site>,
    /// What is wrong with sites that are not as asked.
    pub(crate) failed: BTreeMap<String, String>,
}

impl LiveRoutes {
    /// Whether requests are sent to this address. Unknown, after a start of the agent, counts as yes.
    pub(crate) fn leads_to(&self, address: SocketAddr) -> bool {
        self.asked.is_none() || self.sites.values().any(|site| site.backends.contains(&address))
    }
}

/// What the agent sees at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// The moment.
    pub(crate) now: Timestamp,
    /// Containers by id.
    pub(crate) containers: BTreeMap<String, Container>,
    /// Networks by name.
    pub(crate) networks: BTreeMap<String, Network>,
    /// Images by how they are asked for.
    pub(crate) images: BTreeMap<String, ImageState>,
    /// Probes by container.
    pub(crate) health: BTreeMap<String, Health>,
    /// Bytes that running containers have written, by container, as last counted.
    pub(crate) written: BTreeMap<String, u64>,
    /// What is remembered, by instance.
    pub(crate) history: BTreeMap<String, History>,
    /// What the router serves.
    pub(crate) live: LiveRoutes,
    /// Since when a container is not assigned, by id.
    pub(crate) vanished: BTreeMap<String, Timestamp>,
    /// Since when a container that is to end should get no new requests, by id.
    pub(crate) stopping: BTreeMap<String, Timestamp>,
    /// Since when a container that is to end gets no new requests, by id.
    pub(crate) draining: BTreeMap<String, Timestamp>,
    /// Containers to which no connection is open.
    pub(crate) idle: BTreeSet<String>,
    /// What steps are under way about.
    pub(crate) busy: BTreeSet<Subject>,
    /// What steps failed about.
    pub(crate) failures: BTreeMap<Subject, Failure>,
}

impl Observed {
    /// The containers of an instance, newest last. There is one, but for a change under way or a stranger's hand.
    pub(crate) fn of_instance<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |container| label(container, labels::UID) == Some(uid))
    }

    /// What the probes say of a container.
    pub(crate) fn health_of(&self, container: &Container) -> Health {
        self.health.get(&container.id).cloned().unwrap_or_default()
    }

    /// The containers that run, by the uid of their instance.
    pub(crate) fn running(&self) -> BTreeMap<String, String> {
        let running = self.containers.values().filter(|container| address(container).is_some());
        running
            .filter_map(|container| Some((label(container, labels::UID)?.to_owned(), container.id.clone())))
            .collect()
    }
}

/// A label of a container.
pub(crate) fn label<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container.labels.get(name).map(String::as_str)
}

/// Where a running container is reached.
pub(crate) fn address(container: &Container) -> Option<SocketAddr> {
    if container.state != ContainerState::Running {
        return None;
    }
    let port = label(container, labels::PORT)?.parse().ok()?;
    Some(SocketAddr::new(container.address?, port))
}
