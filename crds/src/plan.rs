//! Plan: what a customer can buy. A plan is copied into the Release that uses it, so a changed price or size is for
//! new Releases only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::invalid::{self, Invalid};
use crate::money::Amount;
use crate::quantity::Quantity;

/// What a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlanFor {
    /// Instances of applications.
    #[default]
    Application,
    /// Databases.
    Database,
}

/// The size and the price of one instance.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "Plan",
    doc = "What a customer can buy: the size and the hourly price of one instance.",
    status = "PlanStatus",
    derive = "PartialEq",
    category = "berth",
    printcolumn(name = "For", type_ = "string", json_path = ".spec.for"),
    printcolumn(name = "CPU", type_ = "string", json_path = ".spec.cpu"),
    printcolumn(name = "Memory", type_ = "string", json_path = ".spec.memory"),
    printcolumn(name = "Disk", type_ = "string", json_path = ".spec.disk"),
    printcolumn(name = "Price/h", type_ = "string", json_path = ".spec.pricePerHour"),
    printcolumn(name = "Currency", type_ = "string", json_path = ".spec.currency"),
    printcolumn(name = "Active", type_ = "boolean", json_path = ".spec.active"),
    printcolumn(name = "In use", type_ = "integer", json_path = ".status.applications", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub display_name: Option<String>,
    /// What the plan is for.
    #[serde(default, rename = "for")]
    pub for_: PlanFor,
    /// Processor time of one instance, in cpus: from `10m` to `64`.
    pub cpu: Quantity,
    /// Memory of one instance: from `16Mi` to `1Ti`.
    pub memory: Quantity,
    /// Disk of one instance: from `64Mi` to `16Ti`.
    pub disk: Quantity,
    /// How many instances of it one application may have.
    #[serde(default = "max_instances")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_instances: i32,
    /// Price of one instance for one hour.
    pub price_per_hour: Amount,
    /// ISO 4217 code of the price's currency.
    #[serde(default = "currency")]
    #[schemars(regex(pattern = "^[A-Z]{3}$"))]
    pub currency: String,
    /// Names of the Runtimes it may be used with; none = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 253)))]
    pub runtimes: Vec<String>,
    /// Regions it is sold in; none = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 100), inner(length(min = 1, max = 63)))]
    pub regions: Vec<String>,
    /// Whether new applications may choose it.
    #[serde(default = "yes")]
    pub active: bool,
}

fn max_instances() -> i32 {
    10
}

fn currency() -> String {
    "EUR".to_owned()
}

fn yes() -> bool {
    true
}

/// What was observed of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many applications use it.
    #[serde(default)]
    pub applications: i64,
    /// `Ready`: it can be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// What is wrong with a plan, if anything.
pub fn validate(plan: &Plan) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let spec = &plan.spec;
    let cpu = spec.cpu.millis().is_ok_and(|millis| (10..=64_000).contains(&millis));
    let size = |quantity: &Quantity, least: u64, most: u64| {
        quantity.units().is_ok_and(|bytes| (least..=most).contains(&bytes))
    };
    if !cpu {
        wrong.push(Invalid::value("spec.cpu", spec.cpu.to_string(), "must be between 10m and 64"));
    }
    if !size(&spec.memory, 16 << 20, 1 << 40) {
        wrong.push(Invalid::value("spec.memory", spec.memory.to_string(), "must be between 16Mi and 1Ti"));
    }
    if !size(&spec.disk, 64 << 20, 16 << 40) {
        wrong.push(Invalid::value("spec.disk", spec.disk.to_string(), "must be between 64Mi and 16Ti"));
    }
    wrong
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}
