//! The life of an assigned instance: made, started, started again, given up. How a container ends is in `end.rs`.

use jiff::SignedDuration;
use node_protocol::{InstanceTask, RunState};

use super::end::end;
use super::purpose::{Purpose, is_full, is_sick, purpose};
use super::{Plan, Step, after};
use crate::desired::{self, Desired};
use crate::machine::{Container, ContainerState};
use crate::observed::{Failed, History, ImageState, Observed, Subject, address};

/// Restarts within [`RESTART_WINDOW`] after which an instance counts as failed.
const RESTARTS_MAX: usize = 3;
/// Five minutes: a crash a day is restarted for ever, a crash at every start is not.
const RESTART_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// How long after its end a container is started again, by the number of restarts in the window.
const RESTART_DELAYS: [SignedDuration; RESTARTS_MAX] =
    [SignedDuration::from_millis(100), SignedDuration::from_secs(2), SignedDuration::from_secs(8)];
/// How often Docker may refuse to start a container until that counts as failed.
const START_ATTEMPTS: u32 = 3;

/// What is to be done about one.
pub(super) fn instance(desired: &Desired, observed: &Observed, task: &InstanceTask, plan: &mut Plan) {
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
