//! The laws of `plan`, as properties: from any state, and with a crash behind any step, the goal is reached; at the goal
//! nothing is planned; what is not ours is never touched; nothing is stopped while requests are sent to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use node_protocol::{Assignment, EnvValue, HealthProbe, InstanceTask, Item, RouteTask, RunState};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::desired::{self, Desired};
use crate::execute::{Done, Execution};
use crate::fake::{Fake, State};
use crate::history::Histories;
use crate::labels;
use crate::machine::{Container, ContainerState, Image, Routes};
use crate::observed::{History, ImageState, Observed, Subject, address};
use crate::plan::{Plan, Purpose, Step, after, plan, purpose};

const NODE: &str = "node-1";
const PORTS: (u16, u16) = (80, 443);
/// Rounds until it must have come to rest: a restart loop takes few, and time jumps to the next thing to do.
const ROUNDS: usize = 400;

pub(crate) fn task(number: usize, application: usize, image: usize, state: RunState) -> InstanceTask {
    InstanceTask {
        uid: format!("uid-{number}"),
        namespace: format!("project-{}", application % 2),
        name: format!("web-{number}"),
        application: format!("app-{application}"),
        application_uid: format!("app-uid-{application}"),
        release: "r1".to_owned(),
        state,
        image: format!("image-{image}"),
        digest: None,
        command: None,
        port: None,
        env: vec![EnvValue { name: "NUMBER".to_owned(), value: number.to_string() }],
        cpu_millis: 100,
        memory_bytes: 1 << 20,
        disk_bytes: 0,
        health: HealthProbe {
            path: None,
            interval_milliseconds: 1000,
            timeout_milliseconds: 1000,
            failures: 3,
            grace_milliseconds: 30_000,
        },
        drain_milliseconds: 5000,
        keep: false,
    }
}

/// A container that is there before the agent begins.
#[derive(Clone, Debug)]
struct Before {
    number: usize,
    current: bool,
    running: bool,
    ours: bool,
}

#[derive(Clone, Debug)]
struct Scene {
    tasks: Vec<InstanceTask>,
    /// What becomes of each of them when all has come to rest.
    later: Vec<Later>,
    before: Vec<Before>,
    /// After how many steps the agent ends and another one begins.
    crashes: Vec<usize>,
    /// What probes say, one after the other, until all is well.
    health: Vec<bool>,
    /// Which changes of the machine fail.
    faults: Vec<bool>,
    /// Whether connections are open to all that runs; none, where that cannot be told.
    connected: Option<bool>,
}

impl Scene {
    /// One in which all goes well.
    fn of(tasks: &[InstanceTask], before: Vec<Before>) -> Self {
        let (later, crashes, health, faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tasks: tasks.to_vec(), later, before, crashes, health, faults, connected: None }
    }
}

/// What is assigned in the second act.
#[derive(Clone, Copy, Debug)]
enum Later {
    Same,
    Stop,
    /// Its values were read anew, by a server that does not know the old ones.
    Changed,
    /// Its values cannot be read.
    Kept,
    Gone,
}

impl Scene {
    /// The tasks of the second act.
    fn later(&self) -> Vec<InstanceTask> {
        let mut tasks = Vec::new();
        for (task, later) in self.tasks.iter().zip(&self.later) {
            match later {
                Later::Same => tasks.push(task.clone()),
                Later::Stop => tasks.push(InstanceTask { state: RunState::Stop, ..task.clone() }),
                Later::Changed => {
                    let env = vec![EnvValue { name: "NUMBER".to_owned(), value: "another".to_owned() }];
                    tasks.push(InstanceTask { env, ..task.clone() });
                }
                Later::Kept => tasks.push(InstanceTask { env: Vec::new(), keep: true, ..task.clone() }),
                Later::Gone => {}
            }
        }
        tasks
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    let tasks = vec((0..3_usize, 0..3_usize, prop::bool::weighted(0.7)), 0..6).prop_map(|tasks| {
        let state = |run| if run { RunState::Run } else { RunState::Stop };
        let make = |(number, (application, image, run))| task(number, application, image, state(run));
        tasks.into_iter().enumerate().map(make).collect::<Vec<_>>()
    });
    let before = (0..8_usize, any::<bool>(), any::<bool>(), prop::bool::weighted(0.8))
        .prop_map(|(number, current, running, ours)| Before { number, current, running, ours });
    let later =
        prop_oneof![Just(Later::Same), Just(Later::Stop), Just(Later::Changed), Just(Later::Kept), Just(Later::Gone)];
    let mishaps = (vec(any::<bool>(), 0..20), vec(prop::bool::weighted(0.3), 0..12), any::<Option<bool>>());
    (tasks, vec(later, 6), vec(before, 0..5), vec(1..12_usize, 0..6), mishaps).prop_map(
        |(tasks, later, before, crashes, (health, faults, connected))| Scene {
            tasks,
            later,
            before,
            crashes,
            health,
            faults,
            connected,
        },
    )
}

fn assignment(tasks: &[InstanceTask]) -> Assignment {
    let routes: BTreeSet<(String, String, String)> = tasks
        .iter()
        .map(|task| (task.application_uid.clone(), task.namespace.clone(), task.application.clone()))
        .collect();
    let mut items: Vec<Item> = tasks.iter().cloned().map(Item::Instance).collect();
    items.extend(routes.into_iter().map(|(application_uid, namespace, application)| {
        let hosts = vec![format!("{application}.example.com")];
        Item::Route(RouteTask { application_uid, namespace, application, hosts })
    }));
    Assignment { revision: 1, items: items.into_iter().map(|item| (item.key(), item)).collect() }
}

fn machine(scene: &Scene) -> State {
    let mut state = State { now: Timestamp::from_second(1_800_000_000).unwrap(), ..State::default() };
    for image in ["image-0", "image-1"] {
        let tags = vec![format!("{image}:latest")];
        let here = Image { id: format!("sha256:{image}"), tags, ..Image::default() };
        state.images.insert(image.to_owned(), here);
    }
    state.registry.insert("image-2".to_owned());
    state.faults = scene.faults.clone().into();
    for (index, before) in scene.before.iter().enumerate() {
        let of = scene.tasks.get(before.number).cloned();
        let task = of.unwrap_or_else(|| task(before.number, before.number % 3, 0, RunState::Run));
        let image = Image { id: format!("sha256:{}", task.image), ..Image::default() };
        let spec = desired::container(NODE, &task, &image);
        let mut labels = spec.labels;
        if !before.current {
            labels.insert(labels::SPEC_HASH.to_owned(), "another".to_owned());
        }
        if !before.ours {
            labels.insert(labels::NODE.to_owned(), "node-2".to_owned());
        }
        let name = if before.ours { spec.name } else { format!("stranger-{index}") };
        if state.containers.values().any(|one| one.name == name) {
            continue;
        }
        let id = format!("b{index}");
        let running = before.running;
        let last = u8::try_from(index + 1).unwrap();
        let container = Container {
            id: id.clone(),
            name,
            labels,
            state: if running { ContainerState::Running } else { ContainerState::Exited },
            started_at: Some(state.now),
            finished_at: (!running).then_some(state.now),
            exit_code: (!running).then_some(1),
            out_of_memory: false,
            image: image.id,
            address: running.then(|| [10, 1, 0, last].into()),
        };
        state.containers.insert(id, container);
    }
    state
}

/// An agent without its loop: what it sees, and the machine.
struct Agent {
    machine: Arc<Fake>,
    histories: Histories,
    desired: Desired,
    observed: Observed,
    /// Whether probes have come back since it was started.
    probed: bool,
    /// What probes say next, last first.
    health: Vec<bool>,
    /// Whether connections are open to all that runs.
    connected: Option<bool>,
}

impl Agent {
    /// One that has just been started: it knows what is on the machine and on disk.
    fn start(machine: &Arc<Fake>, folder: &std::path::Path, desired: Desired) -> Self {
        use crate::machine::Containers;
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
    fn plan(&mut self, by: SignedDuration) -> Plan {
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
    fn is_well(&self) -> bool {
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
    fn carry_out(&mut self, plan: Plan, most: usize) -> (usize, bool) {
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

/// The containers of this node.
fn ours(state: &State) -> Vec<&Container> {
    state.containers.values().filter(|one| one.labels.get(labels::NODE).is_some_and(|node| node == NODE)).collect()
}

/// What was on the machine when the tasks were assigned.
#[derive(Default)]
struct Found {
    /// Uids of instances that had a container.
    uids: BTreeSet<String>,
    /// Containers that ran, with their instance's uid.
    running: BTreeMap<String, String>,
}

impl Found {
    fn on(state: &State) -> Self {
        let running = ours(state).into_iter().filter(|one| one.state == ContainerState::Running);
        Self {
            running: running.map(|one| (one.id.clone(), one.labels[labels::UID].clone())).collect(),
            uids: ours(state).into_iter().map(|one| one.labels[labels::UID].clone()).collect(),
        }
    }
}

/// What should be on the machine, said without a look at `plan`.
fn satisfied(tasks: &[InstanceTask], found: &Found, state: &State) -> Result<(), String> {
    let ours = ours(state);
    let of = |uid: &str| ours.iter().filter(|one| one.labels.get(labels::UID).is_some_and(|one| one == uid)).count();
    for task in tasks {
        let wanted = usize::from(task.state == RunState::Run && (!task.keep || found.uids.contains(&task.uid)));
        if of(&task.uid) != wanted {
            return Err(format!("{} containers of {} instead of {wanted}", of(&task.uid), task.uid));
        }
    }
    for container in &ours {
        let uid = &container.labels[labels::UID];
        let Some(task) = tasks.iter().find(|task| task.uid == *uid) else {
            return Err(format!("{uid} is assigned to nobody"));
        };
        if container.state != ContainerState::Running || container.image != format!("sha256:{}", task.image) {
            return Err(format!("{uid} does not run as it should: {container:?}"));
        }
        let newer = container.labels[labels::SPEC_HASH] == desired::spec_hash(task);
        let ran = found.running.contains_key(&container.id);
        if !newer && !task.keep && !ran {
            return Err(format!("{uid} is an older one"));
        }
        if !ran && found.running.values().any(|of| of == uid) {
            return Err(format!("{uid} was replaced although it ran"));
        }
    }
    let mut wanted: BTreeMap<&str, BTreeSet<std::net::SocketAddr>> = BTreeMap::new();
    for task in tasks {
        wanted.entry(&task.application_uid).or_default();
    }
    for container in &ours {
        let application = container.labels[labels::APPLICATION_UID].as_str();
        wanted.entry(application).or_default().extend(address(container));
    }
    let sites = state.live.as_ref().map(|live| live.sites.clone()).unwrap_or_default();
    let live: BTreeMap<&str, BTreeSet<std::net::SocketAddr>> =
        sites.iter().map(|(uid, site)| (uid.as_str(), site.backends.iter().copied().collect())).collect();
    if live != wanted {
        return Err(format!("requests go to {live:?} instead of {wanted:?}"));
    }
    let projects: BTreeSet<&String> = tasks.iter().map(|task| &task.namespace).collect();
    match state.networks.values().find(|network| !projects.contains(&network.labels[labels::NAMESPACE])) {
        Some(left) => Err(format!("network {} is left over", left.name)),
        None => Ok(()),
    }
}

fn strangers(state: &State) -> Vec<Container> {
    state
        .containers
        .values()
        .filter(|one| one.labels.get(labels::NODE).is_none_or(|node| node != NODE))
        .cloned()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_goal_is_reached_from_anywhere_and_past_crashes(scene in scene()) {
        let folder = tempfile::tempdir().unwrap();
        let machine = Arc::new(Fake::new(NODE, machine(&scene)));
        let before = strangers(&machine.state());
        let mut crashes = scene.crashes.iter().copied();
        let mut until_crash = crashes.next().unwrap_or(usize::MAX);
        for tasks in [scene.tasks.clone(), scene.later()] {
            let found = Found::on(&machine.state());
            let desired = Desired::new(NODE, PORTS, &assignment(&tasks));
            let start = || Agent {
                health: scene.health.clone(),
                connected: scene.connected,
                ..Agent::start(&machine, folder.path(), desired.clone())
            };
            let mut agent = start();
            let mut by = SignedDuration::ZERO;
            let mut rested = false;
            for _ in 0..ROUNDS {
                let plan = agent.plan(by);
                let again = crate::plan::plan(&agent.desired, &agent.observed);
                prop_assert_eq!(&plan, &again, "the same input gives the same plan");
                // Grace times of what runs well are only looked at.
                let waits = !crate::plan::is_probed(&agent.desired, &agent.observed);
                let over = plan.wake.is_none() || satisfied(&tasks, &found, &machine.state()).is_ok();
                if plan.steps.is_empty() && !waits && agent.is_well() && over {
                    rested = true;
                    break;
                }
                // Probes come back at once; time is not let pass before.
                by = if plan.steps.is_empty() && !waits {
                    plan.wake.map_or(SignedDuration::ZERO, |at| at.duration_since(agent.observed.now))
                } else {
                    SignedDuration::from_millis(10)
                };
                let (count, all) = agent.carry_out(plan, until_crash);
                until_crash -= count;
                if !all || until_crash == 0 {
                    agent = start();
                    until_crash = crashes.next().unwrap_or(usize::MAX);
                }
            }
            let state = machine.state();
            prop_assert!(rested, "it never came to rest");
            prop_assert_eq!(satisfied(&tasks, &found, &state), Ok(()));
        }
        let state = machine.state();
        prop_assert_eq!(strangers(&state), before, "what is not ours was touched");
        prop_assert_eq!(&state.violations, &Vec::<String>::new());
    }
}

#[test]
fn an_absent_image_is_asked_for_again_and_hinders_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = [task(0, 0, 9, RunState::Run), task(1, 1, 0, RunState::Run)];
    let machine = Arc::new(Fake::new(NODE, machine(&Scene::of(&tasks, Vec::new()))));
    let mut agent = Agent::start(&machine, folder.path(), Desired::new(NODE, PORTS, &assignment(&tasks)));
    for _ in 0..10 {
        let plan = agent.plan(SignedDuration::from_millis(10));
        agent.carry_out(plan, usize::MAX);
    }
    assert!(matches!(agent.observed.images.get("image-9"), Some(ImageState::Unavailable { .. })));
    let seen = crate::status::instances(&agent.desired, &agent.observed);
    assert_eq!(seen[0].reason.as_deref(), Some("ImageNotFound"));
    assert!(seen[1].ready && seen[1].routed);
    machine.state().registry.insert("image-9".to_owned());
    for _ in 0..10 {
        let plan = agent.plan(SignedDuration::from_secs(30));
        agent.carry_out(plan, usize::MAX);
    }
    assert_eq!(satisfied(&tasks, &Found::default(), &machine.state()), Ok(()));
}

#[test]
fn without_an_assignment_nothing_is_taken_for_unassigned() {
    let folder = tempfile::tempdir().unwrap();
    let before = Before { number: 0, current: true, running: true, ours: true };
    let scene = Scene::of(&[], vec![before]);
    let machine = Arc::new(Fake::new(NODE, machine(&scene)));
    let desired = Desired { partial: true, ..Desired::new(NODE, PORTS, &assignment(&[])) };
    let mut agent = Agent::start(&machine, folder.path(), desired);
    for _ in 0..20 {
        let plan = agent.plan(SignedDuration::from_secs(30));
        assert!(plan.wake.is_none_or(|at| at > agent.observed.now), "time alone changes nothing");
        agent.carry_out(plan, usize::MAX);
    }
    assert_eq!(machine.state().containers.len(), 1);
    // From when something else is assigned for certain, it has its time of grace.
    agent.desired.partial = false;
    let plan = agent.plan(SignedDuration::ZERO);
    agent.carry_out(plan, usize::MAX);
    assert_eq!(machine.state().containers.len(), 1);
    for _ in 0..10 {
        let plan = agent.plan(SignedDuration::from_secs(10));
        agent.carry_out(plan, usize::MAX);
    }
    assert_eq!(machine.state().containers.len(), 0);
}

#[test]
fn an_instance_that_writes_more_than_its_plan_has_is_stopped_once_it_gets_no_requests() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = [0, 1].map(|number| InstanceTask { disk_bytes: 100, ..task(number, 0, 0, RunState::Run) });
    let scene = Scene::of(&tasks, Vec::new());
    let machine = Arc::new(Fake::new(NODE, machine(&scene)));
    let mut agent = Agent::start(&machine, folder.path(), Desired::new(NODE, PORTS, &assignment(&tasks)));
    for _ in 0..10 {
        let plan = agent.plan(SignedDuration::from_millis(10));
        agent.carry_out(plan, usize::MAX);
    }
    let id = |uid: &str| agent.observed.of_instance(uid).next().unwrap().id.clone();
    agent.observed.written = BTreeMap::from([(id("uid-0"), 100), (id("uid-1"), 101)]);
    for _ in 0..10 {
        let plan = agent.plan(SignedDuration::from_millis(10));
        agent.carry_out(plan, usize::MAX);
    }
    let seen = crate::status::instances(&agent.desired, &agent.observed);
    assert!(seen[0].ready && seen[0].routed, "{seen:?}");
    assert_eq!((seen[1].reason.as_deref(), seen[1].routed), (Some("DiskFull"), false));
    assert_eq!(agent.observed.of_instance("uid-1").next().unwrap().state, ContainerState::Exited);
    // Requests were led away from it although it answers: that is what is wanted here, and nothing else happened to it.
    let violations = machine.state().violations.clone();
    assert!(violations.iter().all(|what| what.starts_with("requests are led away")), "{violations:?}");
}

#[test]
fn four_ends_in_a_row_are_a_crash_loop() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = [task(0, 0, 0, RunState::Run)];
    let machine = Arc::new(Fake::new(NODE, machine(&Scene::of(&tasks, Vec::new()))));
    let desired = Desired::new(NODE, PORTS, &assignment(&tasks));
    let mut agent = Agent::start(&machine, folder.path(), desired.clone());
    for _ in 0..40 {
        let plan = agent.plan(SignedDuration::from_secs(3));
        agent.carry_out(plan, usize::MAX);
        // It ends as soon as it runs, and the agent forgets all it had in memory.
        let mut state = machine.state();
        if state.containers.is_empty() {
            continue;
        }
        let now = state.now;
        for container in state.containers.values_mut().filter(|one| one.state == ContainerState::Running) {
            container.state = ContainerState::Exited;
            container.exit_code = Some(1);
            container.finished_at = Some(now);
            container.address = None;
        }
        drop(state);
        agent = Agent::start(&machine, folder.path(), desired.clone());
    }
    let seen = &crate::status::instances(&agent.desired, &agent.observed)[0];
    assert_eq!((seen.reason.as_deref(), seen.restarts), (Some("CrashLoop"), 3));
    assert!(seen.last_exit.as_ref().unwrap().log.as_ref().unwrap().contains("last words"));
}
