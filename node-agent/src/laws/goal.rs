//! What should be on a machine in the end, said without a look at `plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use node_protocol::{InstanceTask, RunState};

use super::NODE;
use crate::desired;
use crate::fake::State;
use crate::labels;
use crate::machine::{Container, ContainerState};
use crate::observed::address;

/// The containers of this node.
fn ours(state: &State) -> Vec<&Container> {
    state.containers.values().filter(|one| one.labels.get(labels::NODE).is_some_and(|node| node == NODE)).collect()
}

/// What was on the machine when the tasks were assigned.
#[derive(Default)]
pub(super) struct Found {
    /// Uids of instances that had a container.
    pub(super) uids: BTreeSet<String>,
    /// Containers that ran, with their instance's uid.
    pub(super) running: BTreeMap<String, String>,
}

impl Found {
    pub(super) fn on(state: &State) -> Self {
        let running = ours(state).into_iter().filter(|one| one.state == ContainerState::Running);
        Self {
            running: running.map(|one| (one.id.clone(), one.labels[labels::UID].clone())).collect(),
            uids: ours(state).into_iter().map(|one| one.labels[labels::UID].clone()).collect(),
        }
    }
}

/// What should be on the machine, said without a look at `plan`.
pub(super) fn satisfied(tasks: &[InstanceTask], found: &Found, state: &State) -> Result<(), String> {
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
    let mut wanted: BTreeMap<&str, BTreeSet<SocketAddr>> = BTreeMap::new();
    for task in tasks {
        wanted.entry(&task.application_uid).or_default();
    }
    for container in &ours {
        let application = container.labels[labels::APPLICATION_UID].as_str();
        wanted.entry(application).or_default().extend(address(container));
    }
    let sites = state.live.as_ref().map(|live| live.sites.clone()).unwrap_or_default();
    let live: BTreeMap<&str, BTreeSet<SocketAddr>> =
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

pub(super) fn strangers(state: &State) -> Vec<Container> {
    state
        .containers
        .values()
        .filter(|one| one.labels.get(labels::NODE).is_none_or(|node| node != NODE))
        .cloned()
        .collect()
}
