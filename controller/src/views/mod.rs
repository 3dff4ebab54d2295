//! What Kubernetes' own tools see: Applications as Services, Instances as Pods and as their Services' endpoints, Nodes as
//! core Nodes, and what Pods and Nodes use, as metrics.
//!
//! Pure translations of stored objects, each from one object alone, so that a list, a watch and a get can never
//! disagree. Nothing is stored in these shapes: who serves them registers them as read-only views.

pub mod endpoints;
pub mod metrics;
pub mod node;
pub mod pod;
pub mod service;
#[cfg(test)]
mod tests;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};
use uuid::Uuid;

/// The metadata of a view: the stored object's, less the ownership of fields that the view does not have.
fn metadata(mut stored: Value) -> Value {
    if let Some(map) = stored.as_object_mut() {
        map.remove("managedFields");
    }
    stored
}

/// The uid of a view that must not have that of the stored object, and always the same: nothing owns itself, and caches
/// know objects by their uid. `mask` is any number that leaves a UUID's version as it is.
fn other_uid(metadata: &Value, mask: u128) -> Value {
    match metadata["uid"].as_str().map(Uuid::parse_str) {
        Some(Ok(uid)) => json!(Uuid::from_u128(uid.as_u128() ^ mask)),
        _ => metadata["uid"].clone(),
    }
}

/// A condition under the name that Kubernetes has for it.
fn condition(type_: &str, status: &str, of: Option<&Condition>) -> Value {
    let mut condition = json!({ "type": type_, "status": status });
    if let Some(of) = of {
        condition["lastTransitionTime"] = json!(of.last_transition_time);
        condition["reason"] = json!(of.reason);
        condition["message"] = json!(of.message);
    }
    condition
}

/// A cell that is never empty, as in Kubernetes' tables.
fn or_none(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if !text.is_empty() => json!(text),
        _ => json!("<none>"),
    }
}

/// The cell of a column that Berth has nothing for.
pub fn none(_: &Value) -> Value {
    json!("<none>")
}
