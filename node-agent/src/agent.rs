//! The loop: wait, observe, plan, execute, report.
//!
//! Everything that happens arrives at one place and is answered by one plan; what takes time runs beside the loop, one
//! task a subject, and comes back as an outcome. So a slow image pull holds up nobody else.

mod accepted;
mod engine;
mod errands;
mod probes;
mod shown;

pub(crate) use shown::{Held, Shown};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_protocol::{AssignmentUpdate, Observation, OpenStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::build_log::BuildLogs;
use crate::desired::Desired;
use crate::execute::Execution;
use crate::garbage::Needed;
use crate::history::Histories;
use crate::machine::{Builder, Container, Containers, Error, LogSink, Network, Router};
use crate::observed::{History, ImageState, Observed, Subject};
use crate::plan::{self, Step};
use crate::session::Dialer;
use crate::streams::Streams;
use crate::{clock, connections, firewall, status};
use accepted::{Accepted, Taken};
use engine::News;
use errands::{Errands, Returned};
use probes::Probes;
use shown::Board;

/// Everything is looked at anew this often: an event that was lost is made up for by then.
const RESYNC: Duration = Duration::from_secs(30);
/// How often connections of draining instances are counted.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How often images that nothing needs are looked for.
const COLLECT: Duration = Duration::from_mins(10);
/// How often it is asked what containers have written: Docker reads all their folders for the answer.
const WEIGH: Duration = Duration::from_mins(5);
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

/// The agent's state.
pub(crate) struct Agent<C, R, B> {
    node: String,
    ports: (u16, u16),
    containers: Arc<C>,
    router: Arc<R>,
    builder: Arc<B>,
    build_logs: BuildLogs,
    histories: Histories,
    accepted: Accepted,
    desired: Desired,
    observed: Observed,
    /// Whether the machine was looked at since Docker came up: nothing is done about Docker before.
    looked: bool,
    /// Whether the firewall was put in place: nothing is started before.
    walled: bool,
    errands: Errands<C>,
    probes: Probes,
    streams: Streams,
    board: Board,
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
        let histories = Histories::new(data_dir)?;
        let accepted = Accepted::load(data_dir);
        let desired = Desired { partial: accepted.is_partial(), ..Desired::new(node, ports, accepted.assignment()) };
        let observed = Observed { now: clock::now(), history: histories.load()?, ..Observed::default() };
        let (board, shown) = Board::new(accepted.held());
        let agent = Self {
            node: node.to_owned(),
            ports,
            errands: Errands::new(Arc::clone(&machine.0)),
            containers: machine.0,
            router: machine.1,
            builder: machine.2,
            build_logs,
            histories,
            accepted,
            desired,
            observed,
            looked: false,
            walled: false,
            probes: Probes::new(),
            streams: Streams::default(),
            board,
        };
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
        let (sender, mut news) = mpsc::channel(SIGNALS);
        watcher.spawn(engine::watch(Arc::clone(&self.containers), sender));
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
                Some(returned) = self.errands.next() => self.returned(returned),
                Some(news) = news.recv() => self.heard(news),
                Some(finding) = self.probes.next() => self.probes.note(finding, &mut self.observed),
                Some(request) = requests.recv() => self.request(request),
                () = self.builder.changed() => {}
                Ok(()) = firewall.changed() => {}
                _ = resync.tick() => {
                    self.errands.list();
                    self.run_builds();
                    if self.accepted.is_unsaved() {
                        self.save();
                    }
                }
                _ = collect.tick() => self.collect(),
                _ = weigh.tick() => self.weigh(),
                () = tokio::time::sleep(wake) => {}
            }
            for _ in 0..BURST {
                if let Some(returned) = self.errands.try_next() {
                    self.returned(returned);
                } else if let Some(finding) = self.probes.try_next() {
                    self.probes.note(finding, &mut self.observed);
                } else if let Ok(news) = news.try_recv() {
                    self.heard(news);
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
            if self.looked && self.accepted.exists() && self.walled {
                self.execute(subject, steps);
            }
        }
        self.probes.follow(&self.desired, &mut self.observed);
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
        self.errands.carry_out(execution, subject, steps);
    }

    fn returned(&mut self, returned: Returned) {
        match returned {
            Returned::Done(done) => self.observed.done(done),
            Returned::Listed(result) => self.listed(result),
            Returned::Inspected(id, Ok(container)) => self.observed.container_is(&id, container),
            Returned::Inspected(id, Err(error)) => tracing::debug!(id, %error, "a container cannot be inspected"),
            Returned::Written(Ok(written)) => self.observed.written = written,
            Returned::Written(Err(error)) => tracing::debug!(%error, "what containers wrote is not known"),
            Returned::Collected { left: true } => self.collect(),
            Returned::Collected { left: false } | Returned::Lost => {}
        }
    }

    fn listed(&mut self, result: Result<(Vec<Container>, Vec<Network>), Error>) {
        match result {
            Ok((containers, networks)) => {
                self.observed.listed(containers, networks);
                self.looked = true;
                self.board.engine(true, "");
            }
            Err(error) => self.board.engine(false, &error.to_string()),
        }
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Up => {
                tracing::info!("docker answers");
                self.errands.list();
            }
            News::Down(message) => {
                if self.looked {
                    tracing::warn!(message, "docker does not answer");
                }
                self.looked = false;
                self.board.engine(false, &message);
            }
            News::Changed(id) => self.errands.inspect(id),
        }
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
        match self.accepted.take(update) {
            Taken::Whole => {}
            Taken::Piece => return,
            Taken::Misfit => return self.board.misfit(),
        }
        let desired = Desired::new(&self.node, self.ports, self.accepted.assignment());
        let before = std::mem::replace(&mut self.desired, desired);
        if !before.images.is_subset(&self.desired.images) {
            self.collect();
        }
        self.observed.assigned(&self.desired);
        self.save();
        self.run_builds();
    }

    /// Saves the assignment, and only then acknowledges it. One that cannot be saved is carried out all the same.
    fn save(&mut self) {
        if self.accepted.save() {
            self.board.accepted(self.accepted.assignment());
        }
    }

    /// Tells the builder what to build, and to forget what is not assigned.
    fn run_builds(&self) {
        if !self.accepted.exists() || !self.walled {
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

    fn report(&mut self) {
        let observation = Observation {
            full: true,
            revision: self.accepted.assignment().revision,
            instances: status::instances(&self.desired, &self.observed),
            builds: self.builder.observe(),
            routes: status::routes(&self.desired, &self.observed),
        };
        // Before Docker was looked at, instances were asked and routes were settled nothing is known, and "stopped", "not
        // ready" or "not routed" would be lies. Trouble with the routes is known too.
        let settled = self.observed.live.asked.is_some() || self.observed.failures.contains_key(&Subject::Routes);
        let known = self.looked && settled && plan::is_probed(&self.desired, &self.observed);
        self.board.observation(observation, known);
        self.board.running(self.observed.running());
    }

    /// Asks what containers have written.
    fn weigh(&mut self) {
        if self.looked {
            self.errands.weigh();
        }
    }

    /// Removes images that nothing needs.
    fn collect(&mut self) {
        if self.looked && self.accepted.exists() && !self.desired.partial {
            self.errands.collect(Needed::of(&self.desired, &self.observed, clock::now()));
        }
    }
}

#[cfg(test)]
mod tests;
