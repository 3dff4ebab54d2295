//! A machine in memory, for tests and simulation: the same traits as Docker and Nginx, and every future is ready at once.
//!
//! It watches over the order of things too: whoever stops a container to which requests are sent is remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use node_protocol::{PartState, UsageSample};

use crate::machine::{
    Container, ContainerSpec, ContainerState, Containers, Engine, Error, EventStream, ExecSpec, Image, Live, LogQuery,
    Network, NetworkSpec, Output, OutputStream, Process, Router, RouterError, Routes,
};
use crate::observed::address;
use crate::plan::after;

/// What is on the machine.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) now: Timestamp,
    /// All containers, this node's and others'.
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) networks: BTreeMap<String, Network>,
    /// Images that are here, by reference.
    pub(crate) images: BTreeMap<String, Image>,
    /// References that a registry has.
    pub(crate) registry: BTreeSet<String>,
    pub(crate) live: Option<Routes>,
    /// What should never have been done.
    pub(crate) violations: Vec<String>,
    /// How many containers and addresses were made.
    pub(crate) made: u32,
    /// Addresses to which connections are open.
    pub(crate) connected: BTreeSet<SocketAddr>,
    /// When requests were sent to an address last.
    pub(crate) routed_at: BTreeMap<SocketAddr, Timestamp>,
    /// Which of the next changes fail, as if the engine did not answer.
    pub(crate) faults: VecDeque<bool>,
    /// Whether it never answers who it is and what its containers use.
    pub(crate) stuck: bool,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Fake {
    node: String,
    state: Mutex<State>,
}

impl Fake {
    pub(crate) fn new(node: &str, state: State) -> Self {
        Self { node: node.to_owned(), state: Mutex::new(state) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for ever if it is stuck.
    async fn answers(&self) {
        let stuck = self.state().stuck;
        if stuck {
            std::future::pending::<()>().await;
        }
    }

    /// A container of this node by id or name.
    fn ours(&self, state: &State, id: &str) -> Option<String> {
        let found = state.containers.values().find(|one| one.id == id || one.name == id)?;
        (found.labels.get(crate::labels::NODE) == Some(&self.node)).then(|| found.id.clone())
    }
}

impl State {
    fn address(&mut self) -> IpAddr {
        self.made += 1;
        let [_, _, high, low] = self.made.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    /// Fails if it is to.
    fn fault(&mut self) -> Result<(), Error> {
        match self.faults.pop_front() {
            Some(true) => Err(Error::Unreachable("it was to fail here".to_owned())),
            _ => Ok(()),
        }
    }

    /// Notes it if somebody is still connected to this container, and has not had the time that is given for it.
    fn must_have_drained(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else { return };
        let drain = container.labels.get(crate::labels::DRAIN).and_then(|text| text.parse().ok()).unwrap_or(0);
        let Some(at) = address(container).filter(|at| self.connected.contains(at)) else { return };
        let over = self.routed_at.get(&at).map(|last| after(*last, SignedDuration::from_millis(drain)));
        if over.is_some_and(|over| self.now < over) {
            self.violations.push(format!("cut off who was connected to {id}"));
        }
    }

    /// Notes it if requests are sent to this container.
    fn must_not_be_routed(&mut self, id: &str, what: &str) {
        let Some(at) = self.containers.get(id).and_then(address) else { return };
        let routed = self.live.as_ref().is_some_and(|live| live.sites.values().any(|site| site.backends.contains(&at)));
        if routed {
            self.violations.push(format!("{what} {id} while requests were sent to it"));
        }
    }
}

impl Containers for Fake {
    async fn engine(&self) -> Result<Engine, Error> {
        self.answers().await;
        Ok(Engine::default())
    }

    fn events(&self) -> EventStream {
        Box::pin(futures::stream::pending())
    }

    async fn containers(&self) -> Result<Vec<Container>, Error> {
        let state = self.state();
        let ours = |one: &&Container| one.labels.get(crate::labels::NODE) == Some(&self.node);
        Ok(state.containers.values().filter(ours).cloned().collect())
    }

    async fn container(&self, id: &str) -> Result<Option<Container>, Error> {
        let state = self.state();
        Ok(self.ours(&state, id).and_then(|id| state.containers.get(&id).cloned()))
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, Error> {
        let mut state = self.state();
        state.fault()?;
        if let Some(taken) = state.containers.values().find(|one| one.name == spec.name) {
            let (id, uid) = (taken.id.clone(), crate::labels::UID);
            let same = taken.labels.get(uid) == spec.labels.get(uid);
            let ours = self.ours(&state, &id).filter(|_| same);
            return ours.ok_or_else(|| Error::Conflict(format!("{} is taken", spec.name)));
        }
        if !state.images.values().any(|image| image.id == spec.image) {
            return Err(Error::NotFound(format!("no image {}", spec.image)));
        }
        if !state.networks.contains_key(&spec.network) {
            return Err(Error::NotFound(format!("no network {}", spec.network)));
        }
        state.made += 1;
        let id = format!("c{}", state.made);
        let container = Container {
            id: id.clone(),
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            state: ContainerState::Created,
            started_at: None,
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            image: spec.image.clone(),
            address: None,
        };
        state.containers.insert(id.clone(), container);
        Ok(id)
    }

    async fn start(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.fault()?;
        let id = self.ours(&state, id).ok_or_else(|| Error::NotFound(format!("no container {id}")))?;
        let (address, now) = (state.address(), state.now);
        if let Some(container) = state.containers.get_mut(&id).filter(|one| one.state != ContainerState::Running) {
            container.state = ContainerState::Running;
            container.started_at = Some(now);
            container.address = Some(address);
        }
        Ok(())
    }

    async fn stop(&self, id: &str, _: Duration) -> Result<(), Error> {
        let mut state = self.state();
        state.fault()?;
        let Some(id) = self.ours(&state, id) else { return Ok(()) };
        state.must_not_be_routed(&id, "stopped");
        state.must_have_drained(&id);
        let now = state.now;
        if let Some(container) = state.containers.get_mut(&id).filter(|one| one.state == ContainerState::Running) {
            container.state = ContainerState::Exited;
            container.finished_at = Some(now);
            container.exit_code = Some(143);
            container.address = None;
        }
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.fault()?;
        let Some(id) = self.ours(&state, id) else { return Ok(()) };
        state.must_not_be_routed(&id, "removed");
        state.containers.remove(&id);
        Ok(())
    }

    async fn networks(&self) -> Result<Vec<Network>, Error> {
        Ok(self.state().networks.values().cloned().collect())
    }

    async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), Error> {
        let network = Network { name: spec.name.clone(), labels: spec.labels.clone() };
        self.state().fault()?;
        self.state().networks.insert(spec.name.clone(), network);
        Ok(())
    }

    async fn remove_network(&self, name: &str) -> Result<(), Error> {
        self.state().fault()?;
        self.state().networks.remove(name);
        Ok(())
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let state = self.state();
        let by_id = || state.images.values().find(|image| image.id == reference);
        Ok(state.images.get(reference).or_else(by_id).cloned())
    }

    async fn pull(&self, reference: &str) -> Result<(), Error> {
        let mut state = self.state();
        state.fault()?;
        if !state.registry.contains(reference) {
            return Err(Error::NotFound(format!("no image {reference} in any registry")));
        }
        let tags = vec![format!("{reference}:latest")];
        let image = Image { id: format!("sha256:{reference}"), tags, ..Image::default() };
        state.images.insert(reference.to_owned(), image);
        Ok(())
    }

    async fn built_images(&self) -> Result<Vec<Image>, Error> {
        Ok(Vec::new())
    }

    async fn unfinished_images(&self) -> Result<Vec<Image>, Error> {
        Ok(Vec::new())
    }

    fn pulled_images(&self) -> BTreeMap<String, Timestamp> {
        BTreeMap::new()
    }

    async fn written(&self) -> Result<BTreeMap<String, u64>, Error> {
        Ok(BTreeMap::new())
    }

    async fn remove_image(&self, reference: &str) -> Result<(), Error> {
        self.state().images.remove(reference);
        Ok(())
    }

    fn logs(&self, id: &str, _: &LogQuery) -> OutputStream {
        let words = Bytes::from(format!("the last words of {id}\n"));
        Box::pin(futures::stream::iter([Ok(Output { errors: false, bytes: words })]))
    }

    async fn exec(&self, id: &str, _: &ExecSpec) -> Result<Process, Error> {
        Err(Error::Refused(format!("no program can be run in {id}: there is no machine")))
    }

    async fn resize(&self, process: &str, _: u16, _: u16) -> Result<(), Error> {
        Err(Error::NotFound(process.to_owned()))
    }

    async fn exit_code(&self, process: &str) -> Result<Option<i64>, Error> {
        Err(Error::NotFound(process.to_owned()))
    }

    async fn usage(&self, _: &str) -> Result<UsageSample, Error> {
        self.answers().await;
        Ok(UsageSample::default())
    }
}

impl Router for Fake {
    async fn apply(&self, routes: &Routes) -> Result<Live, RouterError> {
        let mut state = self.state();
        state.fault().map_err(|error| RouterError(error.to_string()))?;
        let now = state.now;
        let before = state.live.replace(routes.clone()).into_iter().flat_map(|routes| routes.sites.into_values());
        let led: Vec<SocketAddr> = before.flat_map(|site| site.backends).collect();
        state.routed_at.extend(led.into_iter().map(|address| (address, now)));
        Ok(Live::default())
    }

    async fn version(&self) -> Option<String> {
        None
    }

    async fn state(&self) -> PartState {
        PartState { healthy: true, message: String::new() }
    }
}
