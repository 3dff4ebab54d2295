//! What to report of instances and routes. Pure: what was seen, not what is hoped.

use crds::instance::InstancePhase;
use jiff::SignedDuration;
use node_protocol::{InstanceObservation, InstanceTask, RouteObservation, RunState};

use crate::desired::{self, Desired};
use crate::labels;
use crate::machine::{Container, ContainerState};
use crate::observed::{Failed, ImageState, Observed, Subject, address, label};
use crate::plan::{Purpose, after, purpose};

/// What is reported of every assigned instance.
pub(crate) fn instances(desired: &Desired, observed: &Observed) -> Vec<InstanceObservation> {
    desired.instances.values().map(|task| instance(desired, observed, task)).collect()
}

fn instance(desired: &Desired, observed: &Observed, task: &InstanceTask) -> InstanceObservation {
    let history = observed.history.get(&task.uid).cloned().unwrap_or_default();
    let wanted = |container: &&Container| purpose(desired, observed, container) == Purpose::Wanted;
    let container = observed.of_instance(&task.uid).find(wanted).or_else(|| observed.of_instance(&task.uid).next());
    let mut seen = InstanceObservation {
        uid: task.uid.clone(),
        namespace: task.namespace.clone(),
        name: task.name.clone(),
        phase: InstancePhase::Pending,
        ready: false,
        routed: false,
        reason: None,
        message: None,
        container_id: container.map(|container| container.id.clone()),
        address: container.and_then(address).map(|address| address.to_string()),
        started_at: container.and_then(|container| container.started_at).map(|at| at.to_string()),
        restarts: history.restarts,
        last_exit: history.last_exit.clone(),
    };
    if let Some(container) = container
        && let Some(address) = address(container)
    {
        seen.routed =
            observed.live.sites.values().any(|site| !site.hosts.is_empty() && site.backends.contains(&address));
    }
    if task.state == RunState::Stop {
        seen.phase = if container.is_some() { InstancePhase::Draining } else { InstancePhase::Stopped };
        return seen;
    }
    if let Some(Failed { reason, message }) = history.failed {
        seen.phase = InstancePhase::Failed;
        seen.reason = Some(reason);
        seen.message = Some(message);
        return seen;
    }
    match container {
        None => not_made(observed, task, &mut seen),
        Some(container) => made(observed, task, container, &mut seen),
    }
    if seen.message.is_none() {
        seen.message =
            observed.failures.get(&Subject::Instance(task.uid.clone())).map(|failure| failure.message.clone());
    }
    seen
}

/// There is no container.
fn not_made(observed: &Observed, task: &InstanceTask, seen: &mut InstanceObservation) {
    let key = desired::image_key(task);
    match observed.images.get(&key) {
        Some(ImageState::Unavailable { message, .. }) => {
            seen.phase = InstancePhase::Failed;
            seen.reason = Some("ImageNotFound".to_owned());
            seen.message = Some(format!("{}: {message}", task.image));
        }
        Some(ImageState::Here(image)) if !desired::may_run(task, image) && !image.is_found_by_id(&task.image) => {
            seen.phase = InstancePhase::Failed;
            seen.reason = Some("ImageNotFound".to_owned());
            // Whether it is here at all is nobody else's business.
            seen.message = Some(format!("{}: there is no such image for this project", task.image));
        }
        Some(ImageState::Absent) => {
            seen.phase = InstancePhase::Pulling;
            seen.message = Some(format!("fetches {}", task.image));
        }
        _ => {
            if let Some(failure) = observed.failures.get(&Subject::Instance(task.uid.clone())) {
                seen.phase = InstancePhase::Failed;
                seen.reason = Some("StartFailed".to_owned());
                seen.message = Some(failure.message.clone());
            }
        }
    }
}

/// There is one.
fn made(observed: &Observed, task: &InstanceTask, container: &Container, seen: &mut InstanceObservation) {
    let health = observed.health_of(container);
    seen.phase = InstancePhase::Starting;
    match container.state {
        ContainerState::Running if health.ready => {
            seen.phase = InstancePhase::Running;
            seen.ready = true;
        }
        ContainerState::Running if health.was_ready => {
            seen.phase = InstancePhase::Running;
            seen.reason = Some("Unhealthy".to_owned());
            seen.message = health.message;
        }
        ContainerState::Running => {
            let grace = SignedDuration::from_millis(i64::try_from(task.health.grace_milliseconds).unwrap_or(i64::MAX));
            if container.started_at.is_some_and(|started| observed.now >= after(started, grace)) {
                let port = label(container, labels::PORT).unwrap_or_default();
                seen.phase = InstancePhase::Failed;
                if health.port_closed {
                    seen.reason = Some("PortClosed".to_owned());
                    seen.message =
                        Some(format!("nothing listens on port {port}: set spec.start.port or listen on $PORT"));
                } else {
                    seen.reason = Some("Unhealthy".to_owned());
                    // The first question may still be open when the time is over.
                    seen.message = health.message.or_else(|| Some(format!("port {port} does not answer")));
                }
            }
        }
        ContainerState::Exited => {
            let code = container.exit_code.unwrap_or_default();
            seen.reason = Some(if container.out_of_memory { "OutOfMemory" } else { "Crashed" }.to_owned());
            seen.message = Some(if container.out_of_memory {
                format!("used more memory than its {} bytes; it is started again", task.memory_bytes)
            } else {
                format!("ended with code {code}; it is started again")
            });
        }
        ContainerState::Created | ContainerState::Removing | ContainerState::Unknown => {}
    }
}

/// What is reported of every assigned route, and of those that are live although nothing asks for them any more.
pub(crate) fn routes(desired: &Desired, observed: &Observed) -> Vec<RouteObservation> {
    let left = observed.live.sites.iter().filter(|(uid, _)| !desired.routes.contains_key(*uid));
    let left = left.map(|(uid, site)| RouteObservation {
        application_uid: uid.clone(),
        namespace: site.namespace.clone(),
        application: site.application.clone(),
        ready: true,
        hosts: site.hosts.iter().map(ToString::to_string).collect(),
        error: None,
    });
    desired
        .routes
        .values()
        .map(|task| {
            let uid = &task.application_uid;
            let site = observed.live.sites.get(uid);
            let hosts: Vec<String> = site.iter().flat_map(|site| &site.hosts).map(ToString::to_string).collect();
            let trouble = observed.failures.get(&Subject::Routes).map(|failure| failure.message.clone());
            let as_asked = site.is_some() && task.hosts.iter().all(|host| hosts.contains(host));
            RouteObservation {
                application_uid: uid.clone(),
                namespace: task.namespace.clone(),
                application: task.application.clone(),
                ready: as_asked && !observed.live.failed.contains_key(uid),
                hosts,
                error: observed.live.failed.get(uid).cloned().or(trouble),
            }
        })
        .chain(left)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::task;

    #[test]
    fn an_instance_that_never_answered_says_which_port_was_asked() {
        let task = task(1, 1, 1, RunState::Run);
        let mut observed = Observed::default();
        let grace = SignedDuration::from_millis(i64::try_from(task.health.grace_milliseconds).unwrap());
        let container = Container {
            id: "c".to_owned(),
            name: "web".to_owned(),
            labels: [(labels::UID, &*task.uid), (labels::PORT, "9")]
                .map(|(label, value)| (label.to_owned(), value.to_owned()))
                .into(),
            state: ContainerState::Running,
            started_at: Some(observed.now),
            finished_at: None,
            exit_code: None,
            out_of_memory: false,
            image: task.image.clone(),
            address: None,
        };
        observed.now = after(observed.now, grace);
        observed.containers.insert(container.id.clone(), container);
        let seen = instance(&Desired::default(), &observed, &task);
        assert_eq!((seen.phase, seen.reason.as_deref()), (InstancePhase::Failed, Some("Unhealthy")));
        assert_eq!(seen.message.as_deref(), Some("port 9 does not answer"));
    }
}
