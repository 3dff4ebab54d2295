//! The laws of `plan`, as properties: from any state, and with a crash behind any step, the goal is reached; at the goal
//! nothing is planned; what is not ours is never touched; nothing is stopped while requests are sent to it.

mod agent;
mod goal;
mod scene;

pub(crate) use scene::task;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use node_protocol::{InstanceTask, RunState};
use proptest::prelude::*;

use crate::desired::Desired;
use crate::fake::Fake;
use crate::machine::ContainerState;
use crate::observed::ImageState;
use agent::Agent;
use goal::{Found, satisfied, strangers};
use scene::{Before, Scene, assignment, machine, scene};

const NODE: &str = "node-1";
const PORTS: (u16, u16) = (80, 443);
/// Rounds until it must have come to rest: a restart loop takes few, and time jumps to the next thing to do.
const ROUNDS: usize = 400;

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
