//! Which instances get an application's requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use super::purpose::{Purpose, is_full, is_sick, purpose};
use crate::desired::Desired;
use crate::labels;
use crate::machine::{Container, Host, Routes, Site};
use crate::observed::{Observed, address, label};

/// What should be live.
pub(super) fn routes(desired: &Desired, observed: &Observed) -> Routes {
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
