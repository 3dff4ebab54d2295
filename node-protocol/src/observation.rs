//! What an agent sees on its node.

use std::collections::BTreeMap;

use crds::build::{BuildFailure, BuildPhase};
use crds::git::Commit;
use crds::instance::{InstancePhase, LastExit};
use serde::{Deserialize, Serialize};

/// What the agent sees of the things it was assigned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation {
    /// Whether this is everything; otherwise, what changed since the last one.
    #[serde(default)]
    pub full: bool,
    /// The revision of the assignment it was made under.
    #[serde(default)]
    pub revision: u64,
    /// Instances.
    #[serde(default)]
    pub instances: Vec<InstanceObservation>,
    /// Builds.
    #[serde(default)]
    pub builds: Vec<BuildObservation>,
    /// Routes.
    #[serde(default)]
    pub routes: Vec<RouteObservation>,
}

/// What the agent sees of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceObservation {
    /// Uid of the Instance.
    pub uid: String,
    /// Its namespace and name, so that the gateway need not search.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How far it is. `Stopped` says that its container is gone for good.
    pub phase: InstancePhase,
    /// Whether it answered well.
    pub ready: bool,
    /// Whether the live Nginx configuration sends it requests.
    pub routed: bool,
    /// One CamelCase word for what is wrong.
    #[serde(default)]
    pub reason: Option<String>,
    /// What it is doing or what is wrong, for a person.
    #[serde(default)]
    pub message: Option<String>,
    /// The container.
    #[serde(default)]
    pub container_id: Option<String>,
    /// `address:port` on its project's network.
    #[serde(default)]
    pub address: Option<String>,
    /// When its container was started, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// How often it was restarted.
    #[serde(default)]
    pub restarts: i64,
    /// How it ended last.
    #[serde(default)]
    pub last_exit: Option<LastExit>,
}

/// What the agent sees of a build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildObservation {
    /// Uid of the Build.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How far it is.
    pub phase: BuildPhase,
    /// The commit that is built.
    #[serde(default)]
    pub commit: Option<Commit>,
    /// Name of the runtime that is used.
    #[serde(default)]
    pub runtime: Option<String>,
    /// The finished image's reference.
    #[serde(default)]
    pub image: Option<String>,
    /// The finished image's id, `sha256:…`.
    #[serde(default)]
    pub digest: Option<String>,
    /// The start command that was found.
    #[serde(default)]
    pub start_command: Option<String>,
    /// The port that was found.
    #[serde(default)]
    pub port: Option<i32>,
    /// When it began, RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    #[serde(default)]
    pub finished_at: Option<String>,
    /// Exit code of the command that ended it.
    #[serde(default)]
    pub exit_code: Option<i64>,
    /// Why there is no image.
    #[serde(default)]
    pub failure: Option<BuildFailure>,
}

/// What the agent's Nginx serves of an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteObservation {
    /// Uid of the Application.
    pub application_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
    /// Whether the live configuration has the route; false with no error says that it is gone.
    pub ready: bool,
    /// The hosts that are live.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What is wrong.
    #[serde(default)]
    pub error: Option<String>,
}

/// Every 30 s: the node is alive, and how it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// The agent's clock, RFC 3339.
    pub at: String,
    /// What the machine has.
    pub capacity: NodeResources,
    /// What is used.
    pub usage: NodeResources,
    /// Its addresses, by type.
    #[serde(default)]
    pub addresses: BTreeMap<String, String>,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of Docker, if it answers.
    #[serde(default)]
    pub docker_version: Option<String>,
    /// Version of Nginx, if it is there.
    #[serde(default)]
    pub nginx_version: Option<String>,
    /// Whether Docker works.
    pub docker: PartState,
    /// Whether Nginx works.
    pub ingress: PartState,
    /// What the containers use, by the Instance's uid.
    #[serde(default)]
    pub instances: BTreeMap<String, UsageSample>,
}

/// Amounts of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeResources {
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk, where Docker keeps its data.
    pub disk_bytes: u64,
}

/// What one container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageSample {
    /// Thousandths of a processor, over the time since the last heartbeat.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Whether a part of the node works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartState {
    /// Whether it works.
    pub healthy: bool,
    /// What is wrong if not.
    #[serde(default)]
    pub message: String,
}
