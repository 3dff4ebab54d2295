//! The loop: wait, observe, plan, execute, report.
//!
//! Everything that happens arrives at one place and is answered by one plan; what takes time runs beside the loop, one
//! task a subject, and comes back as an outcome. So a slow image pull holds up nobody else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use node_protocol::{Assignment, AssignmentUpdate, Observation, OpenStream, PartState};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::build_log::BuildLogs;
use crate::desired::{self, Desired};
use crate::execute::{Done, Execution};
use crate::garbage::{self, Needed};
use crate::history::Histories;
use crate::labels;
use crate::machine::{Builder, Container, Containers, Error, LogSink, Network, Router};
use crate::observed::{Health, History, ImageState, Observed, Subject, address, label};
use crate::plan::{self, Purpose, Step};
use crate::probe::{self, Finding, Target};
use crate::session::Dialer;
use crate::snapshot::Snapshot;
use crate::streams::Streams;
use crate::{clock, connections, firewall, status};

/// Everything is looked at anew this often: an event that was lost is made up for by then.
const RESYNC: Duration = Duration::from_secs(30);
/// How often connections of draining instances are counted.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// Time between two tries to reach a Docker that does not answer.
const ENGINE_RETRY: Duration = Duration::from_secs(1);
/// How often images that nothing needs are looked for.
const COLLECT: Duration = Duration::from_mins(10);
/// How often it is asked what containers have written: Docker reads all their folders for the answer.
const WEIGH: Duration = Duration::from_mins(5);
/// An image that cannot go yet belongs to a container that is being removed: seconds.
const COLLECT_AGAIN: Duration = Duration::from_secs(15);
/// What is taken in before the next plan: a burst of events is answered once, and never starves the plan.
const BURST: usize = 256;
/// Events and findings that may wait. A sender that finds it full waits; Docker keeps its events for that long.
pub(crate) const SIGNALS: usize = 256;

/// What the gateway asks of the agent, apart from its assignment.
pub(crate) enum Request {
    /// A new assignment, or a change of it.
    Assign(AssignmentUpdate),
    /// Open a stream, over a connection of its own.
    Open(OpenStream, Arc<Dialer>),
}

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

/// What becomes known beside the loop.
enum Signal {
    /// Docker answers, and its events flow.
    EngineUp,
    /// Docker does not answer.
    EngineDown(String),
    /// Something about this container changed.
    Changed(String),
    /// What probes found.
    Found(Finding),
}

/// What comes back from a task.
enum Returned {
    Done(Done),
    Listed(Result<(Vec<Container>, Vec<Network>), Error>),
    Inspected(String, Result<Option<Container>, Error>),
    Written(Result<BTreeMap<String, u64>, Error>),
    Collected {
        /// Whether it is to be tried again.
        left: bool,
    },
}

/// The agent's state.
#[expect(clippy::struct_excessive_bools, reason = "each says whether one thing has happened, in any order")]
pub(crate) struct Agent<C, R, B> {
    node: String,
    ports: (u16, u16),
    containers: Arc<C>,
    router: Arc<R>,
    builder: Arc<B>,
    build_logs: BuildLogs,
    snapshot: Snapshot,
    histories: Histories,
    assignment: Assignment,
    /// Whether there is an assignment: an agent that has lost its own knows no reason to do anything.
    assigned: bool,
    /// What came of an update in pieces whose last one has not come.
    pending: Option<Assignment>,
    desired: Desired,
    observed: Observed,
    /// Whether the assignment differs from what is on disk.
    unsaved: bool,
    /// Whether the machine was looked at since Docker came up: nothing is done about Docker before.
    looked: bool,
    /// Whether the firewall was put in place: nothing is started before.
    walled: bool,
    listing: bool,
    tasks: JoinSet<Returned>,
    /// What a task that ended badly was about.
    subjects: BTreeMap<tokio::task::Id, Subject>,
    probes: BTreeMap<String, (Target, AbortHandle)>,
    probe_tasks: JoinSet<()>,
    streams: Streams,
    signal_sender: mpsc::Sender<Signal>,
    signals: mpsc::Receiver<Signal>,
    finding_sender: mpsc::Sender<Finding>,
    findings: mpsc::Receiver<Finding>,
    held: watch::Sender<Held>,
    observation: watch::Sender<Arc<Observation>>,
    engine: watch::Sender<PartState>,
    running: watch::Sender<BTreeMap<String, String>>,
}

impl<C: Containers, R: Router, B: Builder> Agent<C, R, B> {
    /// An agent that knows what its data folder says.
    pub(crate) fn new(
        node: &str,
        ports: (u16, u16),
        data_dir: &Path,
        machine: (Arc<C>, Arc<R>, Arc<B>),
        build_logs: BuildLogs,
    ) -> std::io::Result<(Self, Shown)> {
        let snapshot = Snapshot::new(data_dir);
        let histories = Histories::new(data_dir)?;
        let saved = snapshot.load();
        // What was read in part only is asked for anew, all of it.
        let held = saved.as_ref().filter(|saved| !saved.partial).map_or_else(Held::default, |saved| Held {
            revision: Some(saved.assignment.revision),
            digest: Some(saved.assignment.digest()),
            misfits: 0,
        });
        let assigned = saved.is_some();
        let partial = saved.as_ref().is_none_or(|saved| saved.partial);
        let assignment = saved.map(|saved| saved.assignment).unwrap_or_default();
        let desired = Desired { partial, ..Desired::new(node, ports, &assignment) };
        let observed = Observed { now: clock::now(), history: histories.load()?, ..Observed::default() };
        let (signal_sender, signals) = mpsc::channel(SIGNALS);
        let (finding_sender, findings) = mpsc::channel(SIGNALS);
        let (held, held_seen) = watch::channel(held);
        let (observation, observation_seen) = watch::channel(Arc::default());
        let (engine, engine_seen) = watch::channel(PartState { healthy: false, message: "not asked yet".to_owned() });
        let (running, running_seen) = watch::channel(BTreeMap::new());
        let agent = Self {
            node: node.to_owned(),
            ports,
            containers: machine.0,
            router: machine.1,
            builder: machine.2,
            build_logs,
            snapshot,
            histories,
            assignment,
            assigned,
            pending: None,
            desired,
            observed,
            unsaved: false,
            looked: false,
            walled: false,
            listing: false,
            tasks: JoinSet::new(),
            subjects: BTreeMap::new(),
            probes: BTreeMap::new(),
            probe_tasks: JoinSet::new(),
            streams: Streams::default(),
            signal_sender,
            signals,
            finding_sender,
            findings,
            held,
            observation,
            engine,
            running,
        };
        let shown =
            Shown { held: held_seen, observation: observation_seen, engine: engine_seen, running: running_seen };
        Ok((agent, shown))
    }

    /// Runs until it is told to stop. Containers and routes stay as they are: another agent goes on with them.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut firewall: watch::Receiver<firewall::State>,
        shutdown: CancellationToken,
    ) {
        let mut watcher = JoinSet::new();
        watcher.spawn(watch_engine(Arc::clone(&self.containers), self.signal_sender.clone()));
        let mut resync = tokio::time::interval(RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut collect = tokio::time::interval_at(tokio::time::Instant::now() + COLLECT, COLLECT);
        let mut weigh = tokio::time::interval_at(tokio::time::Instant::now() + WEIGH, WEIGH);
        weigh.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.run_builds();
        loop {
            if !self.walled && firewall.borrow_and_update().tried {
                self.walled = true;
                self.run_builds();
            }
            let wake = self.reconcile().await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(returned) = self.tasks.join_next_with_id() => self.returned(returned),
                Some(signal) = self.signals.recv() => self.signal(signal),
                Some(finding) = self.findings.recv() => self.signal(Signal::Found(finding)),
                Some(request) = requests.recv() => self.request(request),
                () = self.builder.changed() => {}
                Ok(()) = firewall.changed() => {}
                _ = resync.tick() => {
                    self.list();
                    self.run_builds();
                    if self.unsaved {
                        self.save();
                    }
                }
                _ = collect.tick() => self.collect(),
                _ = weigh.tick() => self.weigh(),
                () = tokio::time::sleep(wake) => {}
            }
            for _ in 0..BURST {
                if let Some(returned) = self.tasks.try_join_next_with_id() {
                    self.returned(returned);
                } else if let Ok(finding) = self.findings.try_recv() {
                    self.signal(Signal::Found(finding));
                } else if let Ok(signal) = self.signals.try_recv() {
                    self.signal(signal);
                } else if let Ok(request) = requests.try_recv() {
                    self.request(request);
                } else {
                    break;
                }
            }
        }
    }

    /// Plans, sets tasks going, reports; says how long nothing needs to be done.
    async fn reconcile(&mut self) -> Duration {
        let connected = if self.observed.drains() { connections::open().await } else { None };
        self.observed.count(&self.desired, clock::now(), connected.as_ref());
        let plan = plan::plan(&self.desired, &self.observed);
        for (subject, steps) in plan.steps {
            if self.looked && self.assigned && self.walled {
                self.execute(subject, steps);
            }
        }
        self.probe();
        self.report();
        let until =
            plan.wake.map_or(RESYNC, |at| Duration::try_from(at.duration_since(self.observed.now)).unwrap_or_default());
        if self.observed.drains() { until.min(DRAIN_LOOK) } else { until }
    }

    fn execute(&mut self, subject: Subject, steps: Vec<Step>) {
        let history = match &subject {
            Subject::Instance(uid) => self.observed.history.get(uid).cloned().unwrap_or_default(),
            _ => History::default(),
        };
        let attempts = match &subject {
            Subject::Image(key) => match self.observed.images.get(key) {
                Some(ImageState::Unavailable { attempts, .. }) => *attempts,
                _ => 0,
            },
            _ => 0,
        };
        let execution = Execution {
            containers: Arc::clone(&self.containers),
            router: Arc::clone(&self.router),
            histories: self.histories.clone(),
            now: self.observed.now,
            history,
            attempts,
        };
        self.observed.busy.insert(subject.clone());
        let about = subject.clone();
        let task = self.tasks.spawn(async move { Returned::Done(execution.run(about, steps).await) });
        self.subjects.insert(task.id(), subject);
    }

    fn returned(&mut self, returned: Result<(tokio::task::Id, Returned), tokio::task::JoinError>) {
        match returned {
            Ok((task, returned)) => {
                self.subjects.remove(&task);
                match returned {
                    Returned::Done(done) => self.observed.done(done),
                    Returned::Listed(result) => self.listed(result),
                    Returned::Inspected(id, Ok(container)) => self.observed.container_is(&id, container),
                    Returned::Inspected(id, Err(error)) => {
                        tracing::debug!(id, %error, "a container cannot be inspected");
                    }
                    Returned::Written(Ok(written)) => self.observed.written = written,
                    Returned::Written(Err(error)) => tracing::debug!(%error, "what containers wrote is not known"),
                    Returned::Collected { left: true } => self.collect(),
                    Returned::Collected { left: false } => {}
                }
            }
            Err(error) => {
                // A panic fails what it was about and not the agent.
                tracing::error!(%error, "a task ended badly");
                self.listing = false;
                if let Some(subject) = self.subjects.remove(&error.id()) {
                    let error = Some(Error::Refused("the agent's own step ended badly: see its log".to_owned()));
                    self.observed.done(Done { subject, outcomes: Vec::new(), error });
                }
            }
        }
    }

    fn listed(&mut self, result: Result<(Vec<Container>, Vec<Network>), Error>) {
        self.listing = false;
        match result {
            Ok((containers, networks)) => {
                self.observed.listed(containers, networks);
                self.looked = true;
                self.set_engine(true, "");
            }
            Err(error) => self.set_engine(false, &error.to_string()),
        }
    }

    fn set_engine(&mut self, healthy: bool, message: &str) {
        let state = PartState { healthy, message: message.to_owned() };
        self.engine.send_if_modified(|before| {
            let changed = *before != state;
            *before = state.clone();
            changed
        });
    }

    fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::EngineUp => {
                tracing::info!("docker answers");
                self.list();
            }
            Signal::EngineDown(message) => {
                if self.looked {
                    tracing::warn!(message, "docker does not answer");
                }
                self.looked = false;
                self.set_engine(false, &message);
            }
            Signal::Changed(id) => {
                let containers = Arc::clone(&self.containers);
                self.tasks.spawn(async move {
                    let container = containers.container(&id).await;
                    Returned::Inspected(id, container)
                });
            }
            Signal::Found(Finding { container, health }) => {
                if self.probes.contains_key(&container) {
                    self.observed.health.insert(container, health);
                }
            }
        }
    }

    /// Looks at everything anew.
    fn list(&mut self) {
        if self.listing {
            return;
        }
        self.listing = true;
        let containers = Arc::clone(&self.containers);
        self.tasks.spawn(async move {
            let both = async { Ok((containers.containers().await?, containers.networks().await?)) };
            Returned::Listed(both.await)
        });
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Assign(update) => self.assign(update),
            Request::Open(open, dialer) => {
                let container =
                    self.observed.of_instance(&open.instance).max_by_key(|container| container.started_at).cloned();
                self.streams.open(Arc::clone(&self.containers), open, container, dialer);
            }
        }
    }

    /// Accepts an assignment: it counts once it is on disk.
    fn assign(&mut self, update: AssignmentUpdate) {
        // A piece builds on the pieces before it; what another connection left half told is of no use.
        let pending = self.pending.take().filter(|pending| update.base == Some(pending.revision));
        let mut assignment = pending.unwrap_or_else(|| self.assignment.clone());
        let (revision, base, more) = (update.revision, update.base, update.more);
        if !assignment.apply(update) {
            tracing::warn!(revision, base, have = self.assignment.revision, "an update does not fit; all is asked for");
            self.held.send_modify(|held| held.misfits += 1);
            return;
        }
        if more {
            self.pending = Some(assignment);
            return;
        }
        self.assigned = true;
        self.unsaved |= assignment != self.assignment || self.desired.partial;
        self.assignment = assignment;
        let before = std::mem::replace(&mut self.desired, Desired::new(&self.node, self.ports, &self.assignment));
        if !before.images.is_subset(&self.desired.images) {
            self.collect();
        }
        self.observed.assigned(&self.desired);
        self.save();
        self.run_builds();
    }

    /// Saves the assignment, and only then acknowledges it. One that cannot be saved is carried out all the same.
    fn save(&mut self) {
        if self.unsaved
            && let Err(error) = self.snapshot.save(&self.assignment)
        {
            tracing::error!(%error, "the assignment cannot be saved; this is tried again");
            return;
        }
        self.unsaved = false;
        let (revision, digest) = (self.assignment.revision, self.assignment.digest());
        self.held.send_modify(|held| {
            held.revision = Some(revision);
            held.digest = Some(digest);
        });
    }

    /// Tells the builder what to build, and to forget what is not assigned.
    fn run_builds(&self) {
        if !self.assigned || !self.walled {
            return;
        }
        for task in self.desired.builds.values() {
            let (logs, uid) = (self.build_logs.clone(), task.uid.clone());
            let sink: LogSink = Arc::new(move |text: &str| logs.append(&uid, text));
            self.builder.run(task, sink);
        }
        for build in self.builder.observe() {
            if !self.desired.builds.contains_key(&build.uid) {
                self.builder.forget(&build.uid);
            }
        }
        self.build_logs.keep_only(self.desired.builds.keys().map(String::as_str));
    }

    /// Begins and ends probes as containers begin and end.
    fn probe(&mut self) {
        while self.probe_tasks.try_join_next().is_some() {}
        let mut wanted = BTreeMap::new();
        for container in self.observed.containers.values() {
            let uid = label(container, labels::UID).unwrap_or_default();
            let task = self.desired.instances.get(uid);
            let doubtful = plan::purpose(&self.desired, &self.observed, container) == Purpose::Doubtful;
            if plan::purpose(&self.desired, &self.observed, container) == Purpose::Unwanted {
                continue;
            }
            let known = self.probes.get(&container.id).map(|(target, _)| target.probe.clone());
            let probe = task.map(|task| task.health.clone()).or(known.filter(|_| doubtful));
            if let (Some(address), Some(probe)) = (address(container), probe) {
                let started_at = container.started_at;
                wanted.insert(
                    container.id.clone(),
                    Target { container: container.id.clone(), address, probe, started_at },
                );
            }
        }
        self.probes.retain(|id, (target, task)| {
            let stays = wanted.get(id) == Some(target);
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, target) in wanted {
            if !self.probes.contains_key(&id) {
                self.observed.health.remove(&id);
                let task = self.probe_tasks.spawn(probe::watch(
                    target.clone(),
                    Health::default(),
                    self.finding_sender.clone(),
                ));
                self.probes.insert(id, (target, task));
            }
        }
    }

    fn report(&mut self) {
        let observation = Observation {
            full: true,
            revision: self.assignment.revision,
            instances: status::instances(&self.desired, &self.observed),
            builds: self.builder.observe(),
            routes: status::routes(&self.desired, &self.observed),
        };
        // Before Docker was looked at, instances were asked and routes were settled nothing is known, and "stopped", "not
        // ready" or "not routed" would be lies. Trouble with the routes is known too.
        let settled = self.observed.live.asked.is_some() || self.observed.failures.contains_key(&Subject::Routes);
        let known = self.looked && settled && plan::is_probed(&self.desired, &self.observed);
        if known || self.observation.borrow().revision != 0 {
            self.observation.send_if_modified(|before| {
                let changed = **before != observation;
                if changed {
                    *before = Arc::new(observation);
                }
                changed
            });
        }
        let running: BTreeMap<String, String> = self
            .observed
            .containers
            .values()
            .filter(|container| address(container).is_some())
            .filter_map(|container| Some((label(container, labels::UID)?.to_owned(), container.id.clone())))
            .collect();
        self.running.send_if_modified(|before| {
            let changed = *before != running;
            *before = running;
            changed
        });
    }

    /// Asks what containers have written.
    fn weigh(&mut self) {
        if self.looked {
            let containers = Arc::clone(&self.containers);
            self.tasks.spawn(async move { Returned::Written(containers.written().await) });
        }
    }

    /// Removes images that nothing needs.
    fn collect(&mut self) {
        if !self.looked || !self.assigned || self.desired.partial {
            return;
        }
        let containers = Arc::clone(&self.containers);
        let mut needed = Needed {
            builds: self.desired.images.clone(),
            building: !self.desired.builds.is_empty(),
            now: clock::now(),
            ..Needed::default()
        };
        needed.builds.extend(self.desired.builds.keys().cloned());
        needed.images.extend(self.observed.containers.values().map(|container| container.image.clone()));
        for task in self.desired.instances.values() {
            needed.images.extend([task.image.clone(), desired::image_key(task)]);
        }
        self.tasks.spawn(async move {
            let left = garbage::collect(&*containers, &needed).await;
            if left {
                tokio::time::sleep(COLLECT_AGAIN).await;
            }
            Returned::Collected { left }
        });
    }
}

/// Listens to Docker for as long as there is one, and says when there is none.
async fn watch_engine<C: Containers>(containers: Arc<C>, signals: mpsc::Sender<Signal>) {
    loop {
        let trouble = match containers.engine().await {
            Ok(_) => {
                let mut events = containers.events();
                if signals.send(Signal::EngineUp).await.is_err() {
                    return;
                }
                loop {
                    match events.next().await {
                        Some(Ok(event)) => {
                            let Some(id) = event.container else { continue };
                            if event.action.starts_with("exec_") {
                                continue;
                            }
                            if signals.send(Signal::Changed(id)).await.is_err() {
                                return;
                            }
                        }
                        Some(Err(error)) => break error.to_string(),
                        None => break "docker ended its events".to_owned(),
                    }
                }
            }
            Err(error) => error.to_string(),
        };
        if signals.send(Signal::EngineDown(trouble)).await.is_err() {
            return;
        }
        tokio::time::sleep(ENGINE_RETRY).await;
    }
}

#[cfg(test)]
mod tests;
