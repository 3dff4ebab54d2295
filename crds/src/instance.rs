//! Instance: one container of a Release.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Span;
use crate::env::EnvVar;
use crate::health::Health;
use crate::invalid::{self, Invalid};
use crate::quantity::Quantity;
use crate::{command, image};

/// One container of a Release.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Instance",
    doc = "One container of a release, on one node.",
    namespaced,
    status = "InstanceStatus",
    derive = "PartialEq",
    category = "berth",
    shortname = "ins",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "boolean", json_path = ".status.ready"),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts"),
    printcolumn(name = "Node", type_ = "string", json_path = ".spec.nodeName"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.application",
    selectable = ".spec.nodeName"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(oldSelf.nodeName) || (has(self.nodeName) && self.nodeName == oldSelf.nodeName)").message("an instance never moves: nodeName is set once"),
    validation = Rule::new("self.template == oldSelf.template && self.release == oldSelf.release && self.ordinal == oldSelf.ordinal && self.application == oldSelf.application").message("an instance never changes, but for nodeName")
)]
pub struct InstanceSpec {
    /// Name of the Application.
    #[schemars(length(min = 1, max = 63))]
    pub application: String,
    /// Name of the Release.
    #[schemars(length(min = 1, max = 63))]
    pub release: String,
    /// Its place among the instances of its release, from 0.
    #[schemars(range(min = 0, max = 100_000))]
    pub ordinal: i32,
    /// Name of the Node it runs on, set once by the scheduler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub node_name: Option<String>,
    /// What it is made from.
    pub template: InstanceTemplate,
}

/// All that makes a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTemplate {
    /// The image's reference.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// The image's id, where it is known: what runs is exactly this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub digest: Option<String>,
    /// The only Node that holds the image; none = every node can have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub image_node: Option<String>,
    /// Region in which it runs; any, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Command that starts it; the image's own, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub command: Option<String>,
    /// Port it listens on; the image's only one, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 700))]
    pub env: Vec<EnvVar>,
    /// Versions of the Secrets that `env` refers to: a changed Secret is another release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub secrets_hash: Option<String>,
    /// Changes when somebody asked for a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub restart: Option<String>,
    /// Processors.
    pub cpu: Quantity,
    /// Bytes of memory.
    pub memory: Quantity,
    /// Bytes of disk.
    pub disk: Quantity,
    /// How it is probed.
    #[serde(default)]
    pub health: Health,
    /// How long requests in flight may take after it gets no new ones.
    pub drain: Span,
}

/// How far an instance is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum InstancePhase {
    /// It waits for a node, or its node has not heard of it yet.
    #[default]
    Pending,
    /// Its image is fetched.
    Pulling,
    /// Its container runs, and its first good answer is waited for.
    Starting,
    /// It answered well.
    Running,
    /// It gets no new requests and finishes what it has.
    Draining,
    /// Its container is gone, as was wanted.
    Stopped,
    /// It was restarted too often, or could not be started.
    Failed,
    /// Its node is silent.
    Unknown,
}

/// What was observed of an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is. Reported by the agent.
    #[serde(default)]
    pub phase: InstancePhase,
    /// Whether it answered well. Reported by the agent.
    #[serde(default)]
    pub ready: bool,
    /// Whether its node's Nginx sends it requests. Reported by the agent.
    #[serde(default)]
    pub routed: bool,
    /// One CamelCase word for why it is not ready: `ImageNotFound`, `StartFailed`, `CrashLoop`, `Unhealthy`,
    /// `PortClosed`, `OutOfMemory`. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it is doing or what is wrong. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The container. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Its address and port on its project's network. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When its container was started, RFC 3339. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,
    /// How often it was restarted. Reported by the agent.
    #[serde(default)]
    pub restarts: i64,
    /// How it ended last. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<LastExit>,
    /// What it uses right now. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<InstanceUsage>,
    /// `Ready`, `Scheduled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastExit {
    /// Its exit code.
    pub code: i64,
    /// Whether it used more memory than it has.
    #[serde(default)]
    pub out_of_memory: bool,
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub at: Option<String>,
    /// The last lines it wrote, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub log: Option<String>,
}

/// What a container uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceUsage {
    /// Processors, over the last interval.
    pub cpu: Quantity,
    /// Bytes of memory.
    pub memory: Quantity,
}

/// What is wrong with a template, if anything. `field` is its path in the object.
pub(crate) fn validate_template(template: &InstanceTemplate, field: &str) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    if !image::is_reference(&template.image) {
        wrong.push(Invalid::value(format!("{field}.image"), &template.image, image::ALLOWED));
    }
    if let Some(text) = &template.command
        && command::argv(text).is_none()
    {
        wrong.push(Invalid::value(format!("{field}.command"), text, "must be one line with its quotes closed"));
    }
    wrong
}

/// What is wrong with an instance, if anything.
pub fn validate(instance: &Instance) -> Vec<Invalid> {
    validate_template(&instance.spec.template, "spec.template")
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
