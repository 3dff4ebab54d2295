//! Build: one run from source to image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::application::BuildOptions;
use crate::git::{self, Commit, GitSource};
use crate::invalid::{self, Invalid};

/// One run from source to image. It never changes: another source is another Build.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Build",
    doc = "One run from source to image.",
    namespaced,
    status = "BuildStatus",
    derive = "PartialEq",
    category = "berth",
    shortname = "bld",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.commit.sha"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.commit.message"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.failure.reason"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node", priority = 1),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.application"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a build never changes; change the application and there will be another"))]
pub struct BuildSpec {
    /// Name of the Application.
    #[schemars(length(min = 1, max = 63))]
    pub application: String,
    /// Where its source is.
    pub source: BuildSource,
    /// The commit to build; the branch's newest, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9a-f]{40}([0-9a-f]{24})?$"))]
    pub commit: Option<String>,
    /// Name of the Runtime; found from the source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime: Option<String>,
    /// How it is built.
    #[serde(default)]
    pub options: BuildOptions,
    /// Region in which it is built; any, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Why it was started.
    #[serde(default)]
    pub trigger: Trigger,
}

/// Where the source of a build is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildSource {
    /// A branch of a Git repository.
    pub git: GitSource,
}

/// Why a build was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// The application is new, or what it is built from or how was changed.
    #[default]
    Change,
    /// A commit was pushed.
    Push,
    /// Somebody asked for it.
    Manual,
}

/// How far a build is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BuildPhase {
    /// It waits for a node.
    #[default]
    Pending,
    /// The source is fetched.
    Cloning,
    /// The image is built.
    Building,
    /// The image is there.
    Succeeded,
    /// There is no image, and `failure` says why.
    Failed,
    /// Somebody, or a newer commit, ended it.
    Cancelled,
}

impl BuildPhase {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What was observed of a build.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is. Reported by the agent.
    #[serde(default)]
    pub phase: BuildPhase,
    /// Name of the Node that builds it, chosen once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The commit that is built. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// Name of the Runtime that was used. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The image's reference on its node. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The image's id, `sha256:…`. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The command that starts it, found in its files; none = the image's own. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_command: Option<String>,
    /// The port it listens on, found in its files or image. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// When the node began, RFC 3339. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub started_at: Option<String>,
    /// When it ended, RFC 3339. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub finished_at: Option<String>,
    /// Exit code of the command that ended it. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Why there is no image. Reported by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<BuildFailure>,
    /// `Ready`: the image is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Why there is no image, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildFailure {
    /// One CamelCase word: `CloneFailed`, `RuntimeNotDetected`, `StartCommandNotFound`, `DockerfileRefused`,
    /// `CommandFailed`, `BuilderUnavailable`, `OutOfMemory`, `TimedOut`, `Cancelled`, `ImageNotFound`, `NodeLost`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line of the log that shows it, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<i64>,
}

/// What is wrong with a build, if anything.
pub fn validate(build: &Build) -> Vec<Invalid> {
    git::validate(&build.spec.source.git, "spec.source.git")
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
