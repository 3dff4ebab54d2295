//! Release: an immutable snapshot of all that makes an instance.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::git::Commit;
use crate::instance::{self, InstanceTemplate};
use crate::invalid::{self, Invalid};
use crate::money::Amount;

/// An immutable, numbered snapshot of all that makes an instance. Going back to one needs no build.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Release",
    doc = "An immutable, numbered snapshot of all that makes an instance.",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    category = "berth",
    shortname = "rel",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Number", type_ = "integer", json_path = ".spec.number"),
    printcolumn(name = "Active", type_ = "boolean", json_path = ".status.active"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".spec.commit.sha"),
    printcolumn(name = "Change", type_ = "string", json_path = ".spec.change"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.template.image", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    selectable = ".spec.application"
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a release never changes; change the application and there will be another"))]
pub struct ReleaseSpec {
    /// Name of the Application.
    #[schemars(length(min = 1, max = 63))]
    pub application: String,
    /// Counts the application's releases, from 1.
    #[schemars(range(min = 1))]
    pub number: i64,
    /// Name of the Build that made its image; none for an image that was built elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
    /// A sentence that says what is different from the release before.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub change: String,
    /// What an instance is made from.
    pub template: InstanceTemplate,
    /// The plan at that time.
    pub plan: PlanSnapshot,
}

/// A plan as it was when the release was made: price and size stay what they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSnapshot {
    /// Its name.
    pub name: String,
    /// Price of one instance for one hour.
    pub price_per_hour: Amount,
    /// ISO 4217 code of the price's currency.
    pub currency: String,
}

/// What was observed of a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether it is the one that serves.
    #[serde(default)]
    pub active: bool,
    /// Its instances.
    #[serde(default)]
    pub instances: i32,
    /// Those of them that are ready and get requests.
    #[serde(default)]
    pub ready_instances: i32,
    /// Why its last rollout was given up, if it was: the application stays on the release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The application's generation at that time: a later one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_generation: Option<i64>,
    /// `Ready`: it could serve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What is wrong with a release, if anything.
pub fn validate(release: &Release) -> Vec<Invalid> {
    instance::validate_template(&release.spec.template, "spec.template")
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
