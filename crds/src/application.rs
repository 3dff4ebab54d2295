//! Application: what a customer wants to run, and how it stands with it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::duration::Span;
use crate::env::{self, EnvVar};
use crate::git::{self, GitSource};
use crate::health::{self, Health, Rollout};
use crate::image;
use crate::invalid::{self, Invalid};
use crate::{DEPLOY_ANNOTATION, command, names};

/// What a customer wants to run.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Application",
    doc = "An application: where its source is, how it is built, and how many instances of it run.",
    namespaced,
    status = "ApplicationStatus",
    derive = "PartialEq",
    category = "berth",
    category = "all",
    shortname = "app",
    scale(
        spec_replicas_path = ".spec.instances",
        status_replicas_path = ".status.instances.ready",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Instances", type_ = "integer", json_path = ".status.instances.ready"),
    printcolumn(name = "of", type_ = "integer", json_path = ".spec.instances"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.activeRelease"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.plan", priority = 1),
    printcolumn(name = "Runtime", type_ = "string", json_path = ".spec.runtime", priority = 1),
    printcolumn(name = "Build", type_ = "string", json_path = ".status.latestBuild", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.plan",
    selectable = ".spec.runtime",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$')").message("the name of an application must be 1 to 40 of a-z, 0-9 and -, and start and end with a letter or digit").field_path(".metadata.name")
)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// Where it comes from.
    pub source: Source,
    /// Name of the Runtime that builds it. Found from the source if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub runtime: Option<String>,
    /// Name of the Plan: size and price of one instance.
    #[schemars(length(min = 1, max = 253))]
    pub plan: String,
    /// Region in which it runs; any, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// How many instances run.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub instances: i32,
    /// Whether it runs at all. A stopped application is kept and not billed.
    #[serde(default = "yes")]
    pub running: bool,
    /// How it is built.
    #[serde(default)]
    pub build: BuildOptions,
    /// How it is started.
    #[serde(default)]
    pub start: Start,
    /// Its environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 500))]
    pub env: Vec<EnvVar>,
    /// Host names of the customer's own that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 50), inner(length(min = 3, max = 253)))]
    pub domains: Vec<String>,
    /// How its instances are probed.
    #[serde(default)]
    pub health: Health,
    /// How a new release takes over from the last one.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self.maxSurge > 0 || self.maxUnavailable > 0").message("maxSurge and maxUnavailable must not both be 0"))]
    pub rollout: Rollout,
    /// Name of the Release to stay on: a rollback is naming an earlier one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub release: Option<String>,
}

/// Where an application comes from: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.git) != has(self.image)").message("give exactly one of git and image"))]
pub struct Source {
    /// A branch of a Git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// An image that was built elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
}

/// An image that was built elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageSource {
    /// The image, for example `registry.example.com/team/app:1.2`.
    #[schemars(length(min = 1, max = 512))]
    pub reference: String,
}

/// How an application is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildOptions {
    /// Command that builds it, run in its folder after the dependencies are installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub command: Option<String>,
    /// Build arguments for its Dockerfile. They end up in the image: no place for secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 100))]
    pub args: Vec<BuildArg>,
    /// Path of its Dockerfile, relative to its folder; for the `dockerfile` runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub dockerfile: Option<String>,
    /// Folder whose files are served, relative to its folder; for the `static` runtime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub output: Option<String>,
    /// How long it may take, at most 15 minutes.
    #[serde(default = "build_timeout")]
    pub timeout: Span,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { command: None, args: Vec::new(), dockerfile: None, output: None, timeout: build_timeout() }
    }
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuildArg {
    /// Its name.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// How an application is started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// Command that starts it; found from its files or its image if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub command: Option<String>,
    /// Port it listens on, also given to it as `PORT`; the runtime's, or the image's only one, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

/// The longest that a build may take, and how long it may take if nothing is said.
pub const BUILD_TIMEOUT_MAX: Span = Span::seconds(15 * 60);

fn build_timeout() -> Span {
    BUILD_TIMEOUT_MAX
}

/// What was observed of an application.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Address at which it is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What the source's branch points to, as last seen. Reported by the source watcher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
    /// Name of the Release that serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_release: Option<String>,
    /// Name of the Build that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_build: Option<String>,
    /// How many instances are wanted and how many serve.
    #[serde(default)]
    pub instances: InstanceCount,
    /// The label selector of its instances, for the `scale` subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How often its present instances were restarted.
    #[serde(default)]
    pub restarts: i64,
    /// What each node serves of it, by the node's name. Reported by the agents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, RouteStatus>,
    /// `Ready`, `BuildSucceeded`, `Scheduled`, `RolledOut`, `RoutesReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What a source's branch points to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// The address and branch this speaks of, as `url#branch`.
    #[serde(default)]
    pub of: String,
    /// The last wish to deploy that was known when the branch was looked at: the annotation `berth.dev/deploy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Why it could not be read, if it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How many instances.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCount {
    /// How many are wanted.
    #[serde(default)]
    pub desired: i32,
    /// How many are ready and get requests.
    #[serde(default)]
    pub ready: i32,
}

/// What a node serves of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// Whether the node's Nginx has it.
    pub ready: bool,
    /// The host names it answers to.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// What is wrong if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Application {
    /// What the source watcher's report must be of to be about the present source.
    pub fn source_key(&self) -> Option<String> {
        self.spec.source.git.as_ref().map(|git| format!("{}#{}", git.url, git.branch))
    }

    /// The last wish to deploy, if there was one: a text that is another one for each.
    pub fn deploy_wish(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(DEPLOY_ANNOTATION).map(String::as_str)
    }

    /// What was seen of the present source since the last wish to deploy. A report about another repository or branch
    /// says nothing about this one, and one from before the wish not what was pushed until then.
    pub fn source_seen(&self) -> Option<&SourceStatus> {
        let seen = self.status.as_ref()?.source.as_ref()?;
        let present = Some(&seen.of) == self.source_key().as_ref() && seen.deploy.as_deref() == self.deploy_wish();
        present.then_some(seen)
    }
}

/// What is wrong with an application, if anything.
pub fn validate(application: &Application) -> Vec<Invalid> {
    let spec = &application.spec;
    let mut wrong = env::validate(&spec.env, "spec.env");
    if let Some(source) = &spec.source.git {
        wrong.extend(git::validate(source, "spec.source.git"));
        wrong.extend(git::validate_credentials(source.credentials.as_ref(), "spec.source.git"));
    }
    if let Some(source) = &spec.source.image {
        let field = "spec.source.image.reference";
        if !image::is_reference(&source.reference) {
            wrong.push(Invalid::value(field, &source.reference, image::ALLOWED));
        } else if image::is_local(&source.reference) {
            wrong.push(Invalid::value(field, &source.reference, image::NOT_LOCAL));
        }
    }
    for (index, host) in spec.domains.iter().enumerate() {
        if !names::is_host(host) {
            wrong.push(Invalid::value(
                format!("spec.domains[{index}]"),
                host,
                "must be a host name in lower case such as shop.example.com",
            ));
        }
    }
    for (field, text) in [("spec.build.command", &spec.build.command), ("spec.start.command", &spec.start.command)] {
        if let Some(text) = text
            && command::argv(text).is_none()
        {
            wrong.push(Invalid::value(field, text, "must be one line of at most 4096 bytes with its quotes closed"));
        }
    }
    for (field, path) in [("spec.build.dockerfile", &spec.build.dockerfile), ("spec.build.output", &spec.build.output)]
    {
        if let Some(path) = path
            && !git::is_inside(path)
        {
            wrong.push(Invalid::value(field, path, "must be a path inside the application's folder"));
        }
    }
    if spec.build.timeout > BUILD_TIMEOUT_MAX || spec.build.timeout < Span::seconds(1) {
        let text = spec.build.timeout.to_string();
        wrong.push(Invalid::value("spec.build.timeout", text, "must be between 1s and 15m"));
    }
    if spec.rollout.drain > Span::seconds(600) {
        let text = spec.rollout.drain.to_string();
        wrong.push(Invalid::value("spec.rollout.drain", text, "must be at most 10m"));
    }
    wrong.extend(health::validate(&spec.health, "spec.health"));
    for (field, name) in [("spec.region", &spec.region), ("spec.release", &spec.release)] {
        if let Some(name) = name
            && !names::is_label(name)
        {
            wrong.push(Invalid::value(field, name, "must be a name of a-z, 0-9 and -, at most 63"));
        }
    }
    wrong
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
