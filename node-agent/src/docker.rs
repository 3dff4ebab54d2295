//! A machine that is Docker: the only file, with its folder, that knows bollard.
//!
//! Here are the connection, the hardening that every container gets, and Docker's errors in our words.
//! `docker/containers.rs` is what instances need, `docker/workshop.rs` what builds need; `docker/convert.rs` reads
//! Docker's answers.

mod containers;
mod convert;
mod images;
mod networks;
mod pulls;
mod workshop;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bollard::models::{HealthConfig, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptions, RemoveContainerOptions};

use crate::labels;
use crate::machine::{Container, Error};

/// How long an ordinary request may take, in seconds: more than a stop with its patience, on a busy disk.
const REQUEST_SECONDS: u64 = 120;
/// How long a request may take until its answer begins where that waits for a whole build, in seconds: above the
/// longest build.
const BUILD_SECONDS: u64 = 3600;

/// Docker, as one node of Berth uses it.
pub struct Docker {
    api: bollard::Docker,
    slow: bollard::Docker,
    node: String,
    /// Whether containers get a small first process that passes signals on and buries the dead: not every Docker
    /// installation has it.
    init: AtomicBool,
    /// Docker before API 1.44 makes two networks of one name if asked twice at a time.
    making_network: tokio::sync::Mutex<()>,
    /// Processor time and when it was read, by container.
    processor: Mutex<BTreeMap<String, (u64, tokio::time::Instant)>>,
    pulls: pulls::Pulls,
    /// Where Docker keeps images, once it has said.
    data_root: tokio::sync::OnceCell<PathBuf>,
}

impl Docker {
    /// Opens Docker at `unix:///path` or `tcp://host:port`, for the node of this uid. Does not wait for it to answer.
    pub fn new(host: &str, node: &str) -> Result<Self, Error> {
        let connect = |seconds| {
            bollard::Docker::connect_with_host(host)
                .map(|api| api.with_timeout(Duration::from_secs(seconds)))
                .map_err(|error| Error::Refused(format!("cannot use {host:?} as Docker's address: {error}")))
        };
        Ok(Self {
            api: connect(REQUEST_SECONDS)?,
            slow: connect(BUILD_SECONDS)?,
            node: node.to_owned(),
            init: AtomicBool::new(true),
            making_network: tokio::sync::Mutex::new(()),
            processor: Mutex::default(),
            pulls: pulls::Pulls::default(),
            data_root: tokio::sync::OnceCell::new(),
        })
    }

    /// Remembers in a file which images it has fetched, so that they can be removed when nothing needs them.
    pub fn remembering(self, file: PathBuf) -> std::io::Result<Self> {
        Ok(Self { pulls: pulls::Pulls::open(file)?, ..self })
    }

    /// Removes the helper containers that an earlier process left behind: nobody waits for them any more.
    pub async fn remove_helpers(&self) -> Result<(), Error> {
        let mut filters = self.filter();
        if let Some(wanted) = filters.get_mut("label") {
            wanted.push(labels::HELPER.to_owned());
        }
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        for left in self.api.list_containers(Some(options)).await.map_err(failure)? {
            self.remove_container(left.id.as_deref().unwrap_or_default()).await?;
        }
        Ok(())
    }

    fn node_label(&self) -> String {
        format!("{}={}", labels::NODE, self.node)
    }

    fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![self.node_label()])])
    }

    async fn inspect(&self, id: &str) -> Result<Option<Container>, Error> {
        match self.api.inspect_container(id, None::<InspectContainerOptions>).await {
            Ok(answer) => {
                Ok(convert::container(answer)
                    .filter(|container| container.labels.get(labels::NODE) == Some(&self.node)))
            }
            Err(error) => absent(error),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        match gone(self.api.remove_container(id, Some(options)).await) {
            // Somebody is removing it already.
            Err(Error::Conflict(_)) => Ok(()),
            other => other,
        }
    }
}

/// What every container gets, an instance's and a helper's alike: CIS Docker benchmark, section 5.
fn hardened(network: &str, cpu_millis: u64, memory_bytes: u64, pids: i64) -> HostConfig {
    let memory = i64::try_from(memory_bytes).unwrap_or(i64::MAX);
    HostConfig {
        memory: Some(memory),
        // As much as the memory itself: no swap.
        memory_swap: Some(memory),
        nano_cpus: Some(i64::try_from(cpu_millis.saturating_mul(1_000_000)).unwrap_or(i64::MAX)),
        pids_limit: Some(pids),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned()]),
        network_mode: Some(network.to_owned()),
        publish_all_ports: Some(false),
        ipc_mode: Some("private".to_owned()),
        // The agent restarts: it must count, wait, and stop at some time.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        ..HostConfig::default()
    }
}

fn environment(env: &[(String, String)]) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// An image's own health check is switched off: the agent probes from outside, with no process in the container.
fn no_health_check() -> HealthConfig {
    HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }
}

/// Docker's "no such thing" as `None`, anything else as an error.
fn absent<T>(error: bollard::errors::Error) -> Result<Option<T>, Error> {
    match failure(error) {
        Error::NotFound(_) => Ok(None),
        other => Err(other),
    }
}

/// Removing what is gone already is done.
fn gone(result: Result<(), bollard::errors::Error>) -> Result<(), Error> {
    match result.map_err(failure) {
        Err(Error::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// Docker's error in our words.
fn failure(error: bollard::errors::Error) -> Error {
    use bollard::errors::Error as Theirs;
    match error {
        Theirs::DockerResponseServerError { status_code: 404, message } => Error::NotFound(message),
        Theirs::DockerResponseServerError { status_code: 409, message } => Error::Conflict(message),
        Theirs::DockerResponseServerError { message, .. } => Error::Refused(message),
        Theirs::DockerStreamError { error } => Error::Refused(error),
        other @ (Theirs::RequestTimeoutError
        | Theirs::IOError { .. }
        | Theirs::HyperResponseError { .. }
        | Theirs::HyperLegacyError { .. }
        | Theirs::SocketNotFoundError(_)) => Error::Unreachable(other.to_string()),
        other => Error::Refused(other.to_string()),
    }
}
