//! What to do next, from what should be and what is. Pure: equal inputs give equal plans.
//!
//! Steps about one subject are carried out in order, steps about different ones at the same time. Each may be carried
//! out twice, and the agent may end behind any of them: the next plan goes on from what is then there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use node_protocol::{InstanceTask, RunState};

use crate::desired::{self, Desired};
use crate::labels;
use crate::machine::{Container, ContainerSpec, ContainerState, Host, NetworkSpec, Routes, Site};
use crate::observed::{Failed, History, ImageState, Observed, Subject, address, label};

/// How long a container that vanished from the assignment is kept: an assignment that was sent in a hurry or to the
/// wrong node can be corrected in that time.
pub(crate) const VANISHED_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// Restarts within [`RESTART_WINDOW`] after which an instance counts as failed.
pub(crate) const RESTARTS_MAX: usize = 3;
/// Five minutes: a crash a day is restarted for ever, a crash at every start is not.
pub(crate) const RESTART_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// How long after its end a container is started again, by the number of restarts in the window.
const RESTART_DELAYS: [SignedDuration; RESTARTS_MAX] =
    [SignedDuration::from_millis(100), SignedDuration::from_secs(2), SignedDuration::from_secs(8)];
/// A container without open connections is stopped before its drain time is over, but not before this: a request that
/// the old Nginx generation has just accepted must have found its way.
pub(crate) const DRAIN_MIN: SignedDuration = SignedDuration::from_millis(500);
/// How long a stop waits for an Nginx that cannot be told: past it the instance ends without it.
pub(crate) const ROUTER_PATIENCE: SignedDuration = SignedDuration::from_mins(5);
/// An instance that fails so many times its number of probes after it was ready is restarted.
const RESTART_FACTOR: u32 = 3;
/// How often Docker may refuse to start a container until that counts as failed.
const START_ATTEMPTS: u32 = 3;

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

/// What should be live.
pub(crate) fn routes(desired: &Desired, observed: &Observed) -> Routes {
    let mut sites = BTreeMap::new();
    for (application, task) in &desired.routes {
        sites.insert(
            application.clone(),
            Site {
                namespace: task.namespace.clone(),
                application: task.application.clone(),
                // The gateway sends only names it has checked; a text that is none leads nowhere.
                hosts: task.hosts.iter().filter_map(|host| Host::from_str(host).ok()).collect(),
                backends: backends(desired, observed, application),
            },
        );
    }
    Routes { http_port: desired.ports.0, https_port: desired.ports.1, sites }
}

/// The instances of an application that get requests: the ready ones; if there is none, those that were ready and are
/// not yet so bad that they are restarted.
fn backends(desired: &Desired, observed: &Observed, application: &str) -> Vec<SocketAddr> {
    let candidates: Vec<(&Container, SocketAddr)> = observed
        .containers
        .values()
        .filter(|container| label(container, labels::APPLICATION_UID) == Some(application))
        .filter(|container| purpose(desired, observed, container) != Purpose::Unwanted)
        .filter(|container| !is_full(desired, observed, container))
        .filter_map(|container| Some((container, address(container)?)))
        .collect();
    let having = |wanted: &dyn Fn(&Container) -> bool| -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> =
            candidates.iter().filter(|(container, _)| wanted(container)).map(|(_, address)| *address).collect();
        addresses.sort_unstable();
        addresses
    };
    let ready = having(&|container| observed.health_of(container).ready);
    if ready.is_empty() {
        having(&|container| observed.health_of(container).was_ready && !is_sick(desired, observed, container))
    } else {
        ready
    }
}

/// Whether it was ready once and has failed for so long that only a restart may help.
fn is_sick(desired: &Desired, observed: &Observed, container: &Container) -> bool {
    let uid = label(container, labels::UID).unwrap_or_default();
    let health = observed.health_of(container);
    desired.to_run(uid).is_some_and(|task| {
        health.was_ready && !health.ready && health.failures >= task.health.failures.max(1) * RESTART_FACTOR
    })
}

/// Whether it has written more than its plan's disk holds.
fn is_full(desired: &Desired, observed: &Observed, container: &Container) -> bool {
    let uid = label(container, labels::UID).unwrap_or_default();
    let written = observed.written.get(&container.id).copied().unwrap_or(0);
    desired.to_run(uid).is_some_and(|task| task.disk_bytes > 0 && written > task.disk_bytes)
}

/// Whether every running container that should get requests was probed. An agent that has just begun finds containers
/// that serve, and must not lead their requests elsewhere because it has not asked them yet. A probe has a time limit,
/// so this waits for seconds at most.
pub(crate) fn is_probed(desired: &Desired, observed: &Observed) -> bool {
    observed.containers.values().all(|container| {
        address(container).is_none()
            || observed.health.contains_key(&container.id)
            || purpose(desired, observed, container) != Purpose::Wanted
    })
}

/// What to do next.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    let wanted_routes = routes(desired, observed);
    let known = observed.live.asked.is_some() || is_probed(desired, observed);
    let retry = !observed.live.failed.is_empty() && observed.failures.contains_key(&Subject::Routes);
    if known && (observed.live.asked.as_ref() != Some(&wanted_routes) || retry) {
        plan.add(observed, Subject::Routes, vec![Step::Route(wanted_routes)]);
    }
    for task in desired.instances.values() {
        instance(desired, observed, task, &mut plan);
    }
    for container in observed.containers.values() {
        unassigned(desired, observed, container, &mut plan);
    }
    networks(desired, observed, &mut plan);
    plan
}

fn instance(desired: &Desired, observed: &Observed, task: &InstanceTask, plan: &mut Plan) {
    let subject = Subject::Instance(task.uid.clone());
    let mut current = None;
    for container in observed.of_instance(&task.uid) {
        if purpose(desired, observed, container) == Purpose::Wanted && current.is_none() {
            current = Some(container);
        } else {
            let steps = end(observed, container, plan);
            let removed = !steps.is_empty();
            plan.add(observed, subject.clone(), steps);
            if !removed || task.state == RunState::Run {
                // One after another: the next container of this instance has the same name.
                return;
            }
        }
    }
    if task.state == RunState::Stop {
        if current.is_none()
            && observed.of_instance(&task.uid).next().is_none()
            && observed.history.contains_key(&task.uid)
        {
            plan.add(observed, subject, vec![Step::Forget]);
        }
        return;
    }
    let history = observed.history.get(&task.uid).cloned().unwrap_or_default();
    match current {
        None => create(desired, observed, task, &history, plan),
        Some(container) => keep_running(desired, observed, task, container, &history, plan),
    }
}

/// There is no container yet.
fn create(desired: &Desired, observed: &Observed, task: &InstanceTask, history: &History, plan: &mut Plan) {
    if history.failed.is_some() || task.keep {
        return;
    }
    let key = desired::image_key(task);
    let image_subject = Subject::Image(key.clone());
    match observed.images.get(&key) {
        None => plan.add(observed, image_subject, vec![Step::Look { image: key }]),
        // By the beginning of an id it is another image that was found: the one of this name is not here.
        Some(ImageState::Here(image)) if task.digest.is_none() && image.is_found_by_id(&task.image) => {
            if !plan.steps.contains_key(&image_subject) {
                plan.add(observed, image_subject, vec![Step::Pull { image: key, reference: task.image.clone() }]);
            }
        }
        // `status` says that it is another project's; there is nothing to do about that.
        Some(ImageState::Here(image)) if !desired::may_run(task, image) => {}
        Some(ImageState::Absent) => {
            let pull = Step::Pull { image: key, reference: task.image.clone() };
            if !plan.steps.contains_key(&image_subject) {
                plan.add(observed, image_subject, vec![pull]);
            }
        }
        Some(ImageState::Unavailable { retry_at, .. }) => {
            if plan.reached(observed, *retry_at) && !plan.steps.contains_key(&image_subject) {
                let pull = Step::Pull { image: key, reference: task.image.clone() };
                plan.add(observed, image_subject, vec![pull]);
            }
        }
        Some(ImageState::Here(image)) => {
            let network = desired::network(&desired.node, &task.namespace);
            if observed.busy.contains(&Subject::Network(network.name.clone())) {
                return;
            }
            let spec = desired::container(&desired.node, task, image);
            let start = Step::Start { container: spec.name.clone() };
            let mut steps = Vec::with_capacity(3);
            if !observed.networks.contains_key(&network.name) {
                steps.push(Step::EnsureNetwork(network));
            }
            steps.push(Step::Create(Box::new(spec)));
            steps.push(start);
            plan.add(observed, Subject::Instance(task.uid.clone()), steps);
        }
    }
}

/// Its container is there.
fn keep_running(
    desired: &Desired,
    observed: &Observed,
    task: &InstanceTask,
    container: &Container,
    history: &History,
    plan: &mut Plan,
) {
    let subject = Subject::Instance(task.uid.clone());
    let id = || container.id.clone();
    let give_up = |reason: &str, message: String| Step::GiveUp {
        container: container.id.clone(),
        failed: Failed { reason: reason.to_owned(), message },
    };
    let recent = history.restarted.iter().filter(|at| after(**at, RESTART_WINDOW) > observed.now).count();
    match container.state {
        ContainerState::Created | ContainerState::Exited if history.failed.is_some() => {}
        ContainerState::Created => {
            if history.start_failures >= START_ATTEMPTS {
                let message = history.start_error.clone().unwrap_or_default();
                plan.add(observed, subject, vec![give_up("StartFailed", message)]);
            } else {
                plan.add(observed, subject, vec![Step::Start { container: id() }]);
            }
        }
        ContainerState::Exited => {
            let ended = container.finished_at.unwrap_or(observed.now);
            if history.restarted.last().is_some_and(|at| *at > ended) {
                // Noted already; the agent ended before it could start it.
                plan.add(observed, subject, vec![Step::Start { container: id() }]);
            } else if recent >= RESTARTS_MAX {
                let (reason, message) = crash_loop(container);
                plan.add(observed, subject, vec![give_up(reason, message)]);
            } else if plan.reached(observed, after(ended, RESTART_DELAYS[recent])) {
                plan.add(
                    observed,
                    subject,
                    vec![Step::NoteRestart { container: id() }, Step::Start { container: id() }],
                );
            }
        }
        ContainerState::Running if is_full(desired, observed, container) => {
            // Starting it again would not make its disk any emptier: another one takes its place.
            if address(container).is_some_and(|address| observed.live.leads_to(address)) {
                return;
            }
            let message = format!("wrote more than the {} bytes of disk that its plan has", task.disk_bytes);
            plan.add(observed, subject, vec![give_up("DiskFull", message), Step::Stop { container: id() }]);
        }
        ContainerState::Running if is_sick(desired, observed, container) => {
            // A sick instance is out of the routes; once it really is, it may be stopped.
            if address(container).is_some_and(|address| observed.live.leads_to(address)) {
                return;
            }
            if history.failed.is_some() {
                plan.add(observed, subject, vec![Step::Stop { container: id() }]);
            } else if recent >= RESTARTS_MAX {
                let message =
                    format!("restarted {RESTARTS_MAX} times within 5 minutes because it did not answer its probe");
                plan.add(observed, subject, vec![give_up("CrashLoop", message), Step::Stop { container: id() }]);
            } else {
                let steps = vec![
                    Step::NoteRestart { container: id() },
                    Step::Stop { container: id() },
                    Step::Start { container: id() },
                ];
                plan.add(observed, subject, steps);
            }
        }
        ContainerState::Running | ContainerState::Removing | ContainerState::Unknown => {}
    }
    // A container that never answered in its grace time is reported as failed; time alone makes it so.
    if container.state == ContainerState::Running
        && let Some(started) = container.started_at
    {
        let grace = SignedDuration::from_millis(i64::try_from(task.health.grace_milliseconds).unwrap_or(i64::MAX));
        plan.reached(observed, after(started, grace));
    }
}

/// Why an instance that keeps ending is given up.
fn crash_loop(container: &Container) -> (&'static str, String) {
    let often = format!("restarted {RESTARTS_MAX} times within 5 minutes");
    match container.exit_code.unwrap_or_default() {
        _ if container.out_of_memory => ("OutOfMemory", format!("{often}, and again used more memory than it has")),
        // What shells and Docker's first process answer for a program that is not there or cannot be run.
        code @ (126 | 127) => ("StartFailed", format!("its start command cannot be run (exit code {code})")),
        code => ("CrashLoop", format!("{often}, and ended again with code {code}")),
    }
}

/// The end of a container: out of the routes, drained, stopped, removed. Gives no steps while it is waited for.
fn end(observed: &Observed, container: &Container, plan: &mut Plan) -> Vec<Step> {
    let remove = Step::Remove { container: container.id.clone() };
    match container.state {
        ContainerState::Created | ContainerState::Exited => return vec![remove],
        ContainerState::Removing | ContainerState::Unknown => return Vec::new(),
        ContainerState::Running => {}
    }
    let stop = vec![Step::Stop { container: container.id.clone() }, remove];
    let wanted_since = observed.stopping.get(&container.id).copied().unwrap_or(observed.now);
    if address(container).is_some_and(|address| observed.live.leads_to(address)) {
        // The route without it is not live yet.
        return if plan.reached(observed, after(wanted_since, ROUTER_PATIENCE)) { stop } else { Vec::new() };
    }
    let since = observed.draining.get(&container.id).copied().unwrap_or(observed.now);
    let drain = label(container, labels::DRAIN).and_then(|text| text.parse().ok()).unwrap_or_default();
    let over = plan.reached(observed, after(since, SignedDuration::from_millis(drain)));
    let idle = observed.idle.contains(&container.id) && plan.reached(observed, after(since, DRAIN_MIN));
    if over || idle { stop } else { Vec::new() }
}

/// A container of an instance that is not assigned.
fn unassigned(desired: &Desired, observed: &Observed, container: &Container, plan: &mut Plan) {
    let Some(uid) = label(container, labels::UID) else { return };
    if desired.instances.contains_key(uid) || container.labels.contains_key(labels::HELPER) {
        return;
    }
    if purpose(desired, observed, container) == Purpose::Doubtful {
        let since = observed.vanished.get(&container.id).copied().unwrap_or(observed.now);
        if !desired.partial {
            plan.wake_at(after(since, VANISHED_GRACE));
        }
        return;
    }
    let mut steps = end(observed, container, plan);
    if !steps.is_empty() {
        steps.push(Step::Forget);
    }
    plan.add(observed, Subject::Instance(uid.to_owned()), steps);
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
