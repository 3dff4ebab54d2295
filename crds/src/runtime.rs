//! Runtime: how source becomes an image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::env::{self, EnvVar};
use crate::image;
use crate::invalid::{self, Invalid};

/// The languages that Berth knows how to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Node.js with npm, yarn or pnpm.
    NodeJs,
    /// Python with requirements.txt, Pipfile or pyproject.toml.
    Python,
    /// PHP with composer, served by FPM and Nginx.
    Php,
    /// Files, served as they are.
    Static,
    /// The customer's own Dockerfile.
    Dockerfile,
    /// An image that was built elsewhere.
    Image,
}

/// How the source of one language and version becomes an image.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Runtime",
    doc = "How source of one language and version becomes an image.",
    status = "RuntimeStatus",
    derive = "PartialEq",
    category = "berth",
    shortname = "rt",
    printcolumn(name = "Language", type_ = "string", json_path = ".spec.language"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.runImage"),
    printcolumn(name = "Active", type_ = "boolean", json_path = ".spec.active"),
    printcolumn(name = "In use", type_ = "integer", json_path = ".status.applications", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.language in ['dockerfile', 'image'] || has(self.runImage)").message("runImage is required for this language").field_path(".runImage"))]
pub struct RuntimeSpec {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub display_name: Option<String>,
    /// The language.
    pub language: Language,
    /// Version of the language, for example `20` or `3.11`; empty where there is none.
    #[serde(default)]
    #[schemars(length(max = 32), regex(pattern = "^([0-9]+(\\.[0-9]+)*)?$"))]
    pub version: String,
    /// Image in which the source is built; the run image, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub build_image: Option<String>,
    /// Image on which the built application runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub run_image: Option<String>,
    /// What is done where the application says nothing.
    #[serde(default)]
    pub presets: Presets,
    /// Whether new applications may choose it.
    #[serde(default = "yes")]
    pub active: bool,
}

/// What is done where neither the application nor its files say anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presets {
    /// Installs the dependencies; found from the lock file if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub install: Option<String>,
    /// Builds the application; found from its files if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub build: Option<String>,
    /// Starts the application; found from its files if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub start: Option<String>,
    /// The port it listens on, also given to it as `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Variables set when it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[schemars(length(max = 100))]
    pub env: Vec<EnvVar>,
}

fn yes() -> bool {
    true
}

/// What was observed of a runtime.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many applications name it.
    #[serde(default)]
    pub applications: i64,
    /// `Ready`: it can be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What is wrong with a runtime, if anything.
pub fn validate(runtime: &Runtime) -> Vec<Invalid> {
    let spec = &runtime.spec;
    let mut wrong = env::validate(&spec.presets.env, "spec.presets.env");
    for (field, reference) in [("spec.buildImage", &spec.build_image), ("spec.runImage", &spec.run_image)] {
        if let Some(reference) = reference
            && !image::is_reference(reference)
        {
            wrong.push(Invalid::value(field, reference, image::ALLOWED));
        }
    }
    for (field, command) in [
        ("spec.presets.install", &spec.presets.install),
        ("spec.presets.build", &spec.presets.build),
        ("spec.presets.start", &spec.presets.start),
    ] {
        if let Some(command) = command
            && crate::command::argv(command).is_none()
        {
            wrong.push(Invalid::value(field, command, "must be one line with its quotes closed"));
        }
    }
    wrong
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
