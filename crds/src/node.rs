//! Node: a worker, with its agent, its Docker and its Nginx.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::invalid::{self, Invalid};
use crate::names;
use crate::quantity::Quantity;

/// A worker as the administrator wants it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Node",
    doc = "A worker: a machine with an agent, Docker and Nginx.",
    status = "NodeStatus",
    derive = "PartialEq",
    category = "berth",
    shortname = "no",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Instances", type_ = "integer", json_path = ".status.allocated.instances"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".status.allocated.cpu"),
    printcolumn(name = "of", type_ = "string", json_path = ".status.allocatable.cpu"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".status.allocated.memory"),
    printcolumn(name = "of ", type_ = "string", json_path = ".status.allocatable.memory"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion", priority = 1),
    printcolumn(name = "Docker", type_ = "string", json_path = ".status.dockerVersion", priority = 1),
    printcolumn(name = "Last heartbeat", type_ = "date", json_path = ".status.lastHeartbeat", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Where it stands.
    #[serde(default = "region")]
    #[schemars(length(min = 1, max = 63))]
    pub region: String,
    /// Whether new instances are kept off it.
    #[serde(default)]
    pub unschedulable: bool,
    /// Whether its instances are to move elsewhere.
    #[serde(default)]
    pub drain: bool,
    /// The administrator's ceiling, below what the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// How far more than its capacity may be promised, in percent of it.
    #[serde(default)]
    pub overcommit: Overcommit,
    /// The public half of the agent's Ed25519 key, base64. Set when the node registers; an administrator who removes
    /// it locks the agent out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 43, max = 44))]
    pub public_key: Option<String>,
}

/// How far more than its capacity may be promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overcommit {
    /// Percent of the processors that may be promised.
    #[serde(default = "cpu_percent")]
    #[schemars(range(min = 100, max = 2000))]
    pub cpu: i32,
    /// Percent of the memory that may be promised.
    #[serde(default = "memory_percent")]
    #[schemars(range(min = 100, max = 400))]
    pub memory: i32,
}

/// A cpu limit is a ceiling, not a reservation, and most applications idle: four promised for one there.
fn cpu_percent() -> i32 {
    400
}

fn memory_percent() -> i32 {
    100
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { cpu: cpu_percent(), memory: memory_percent() }
    }
}

fn region() -> String {
    "default".to_owned()
}

/// Amounts of what instances use up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Bytes of disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Quantity>,
    /// Number of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub instances: Option<i64>,
}

/// What was observed of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the machine has. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Resources>,
    /// What may be promised: capacity less the system's share, under the administrator's ceiling, times the overcommit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<Resources>,
    /// What is promised to instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocated: Option<Resources>,
    /// What is used right now. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Resources>,
    /// Its addresses, by type (`InternalIP`, `ExternalIP`, `Hostname`). Reported by the agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub addresses: BTreeMap<String, String>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Version of Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_version: Option<String>,
    /// Version of Nginx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nginx_version: Option<String>,
    /// Whether Docker answered the agent, and what was wrong if not. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<PartHealth>,
    /// Whether Nginx serves what it should, and what was wrong if not. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<PartHealth>,
    /// When the agent was last heard, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_heartbeat: Option<String>,
    /// `Ready`, `CapacityPressure`, `DiskPressure`, `DockerHealthy`, `IngressHealthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Whether a part of the node works.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartHealth {
    /// Whether it works.
    pub healthy: bool,
    /// What is wrong if not.
    #[serde(default)]
    pub message: String,
}

/// What is wrong with a node, if anything.
pub fn validate(node: &Node) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    if !names::is_label(&node.spec.region) {
        wrong.push(Invalid::value("spec.region", &node.spec.region, "must be a name of a-z, 0-9 and -, at most 63"));
    }
    wrong
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
