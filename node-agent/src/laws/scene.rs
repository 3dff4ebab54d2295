//! What a law begins with: tasks, what is on the machine already, and what goes wrong meanwhile.

use std::collections::BTreeSet;

use jiff::Timestamp;
use node_protocol::{Assignment, EnvValue, HealthProbe, InstanceTask, Item, RouteTask, RunState};
use proptest::collection::vec;
use proptest::prelude::*;

use super::NODE;
use crate::desired;
use crate::fake::State;
use crate::labels;
use crate::machine::{Container, ContainerState, Image};

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
pub(super) struct Before {
    pub(super) number: usize,
    pub(super) current: bool,
    pub(super) running: bool,
    pub(super) ours: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) tasks: Vec<InstanceTask>,
    /// What becomes of each of them when all has come to rest.
    pub(super) later: Vec<Later>,
    pub(super) before: Vec<Before>,
    /// After how many steps the agent ends and another one begins.
    pub(super) crashes: Vec<usize>,
    /// What probes say, one after the other, until all is well.
    pub(super) health: Vec<bool>,
    /// Which changes of the machine fail.
    pub(super) faults: Vec<bool>,
    /// Whether connections are open to all that runs; none, where that cannot be told.
    pub(super) connected: Option<bool>,
}

impl Scene {
    /// One in which all goes well.
    pub(super) fn of(tasks: &[InstanceTask], before: Vec<Before>) -> Self {
        let (later, crashes, health, faults) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { tasks: tasks.to_vec(), later, before, crashes, health, faults, connected: None }
    }
}

/// What is assigned in the second act.
#[derive(Clone, Copy, Debug)]
pub(super) enum Later {
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
    pub(super) fn later(&self) -> Vec<InstanceTask> {
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

pub(super) fn scene() -> impl Strategy<Value = Scene> {
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

pub(super) fn assignment(tasks: &[InstanceTask]) -> Assignment {
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

pub(super) fn machine(scene: &Scene) -> State {
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
