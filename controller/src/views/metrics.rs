//! What Instances and Nodes use, as `metrics.k8s.io` has it: `PodMetrics` and `NodeMetrics`.

use crds::instance::{InstanceStatus, InstanceUsage};
use crds::node::NodeStatus;
use crds::quantity::Quantity;
use jiff::Timestamp;
use node_protocol::HEARTBEAT_SECONDS;
use serde_json::{Value, json};

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// What an Instance uses. Its time is set by [`measured_now`].
pub fn of_instance(mut instance: Value) -> Value {
    let container = instance["spec"]["application"].take();
    let usage = usage_of(&instance);
    let usage = usage.map(|usage| amounts(Some(&usage.cpu), Some(&usage.memory))).unwrap_or_default();
    json!({
        "kind": "PodMetrics",
        "apiVersion": API_VERSION,
        "metadata": brief(&instance["metadata"]),
        "timestamp": null,
        "window": window(),
        "containers": [{"name": container, "usage": usage}],
    })
}

/// Whether anything is known of what an Instance uses.
pub fn instance_is_measured(instance: &Value) -> bool {
    usage_of(instance).is_some()
}

fn usage_of(instance: &Value) -> Option<InstanceUsage> {
    let status: InstanceStatus = serde_json::from_value(instance.get("status")?.clone()).ok()?;
    // What does not run keeps its last figures.
    status.usage.filter(|_| status.address.is_some())
}

/// What a Node uses.
pub fn of_node(mut node: Value) -> Value {
    let status: NodeStatus = serde_json::from_value(node["status"].take()).unwrap_or_default();
    let usage = status.usage.unwrap_or_default();
    json!({
        "kind": "NodeMetrics",
        "apiVersion": API_VERSION,
        "metadata": brief(&node["metadata"]),
        "timestamp": status.last_heartbeat,
        "window": window(),
        "usage": amounts(usage.cpu.as_ref(), usage.memory.as_ref()),
    })
}

/// Whether anything is known of what a Node uses.
pub fn node_is_measured(node: &Value) -> bool {
    node["status"]["usage"].is_object() && node["status"]["lastHeartbeat"].is_string()
}

/// Sets the time of an Instance's figures. They stand in its status for as long as they hold (a heartbeat that finds
/// them unchanged writes nothing), so they are the figures of the moment.
pub fn measured_now(metrics: &mut Value, now: Timestamp) {
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    metrics["timestamp"] = json!(second.to_string());
}

fn window() -> String {
    format!("{HEARTBEAT_SECONDS}s")
}

/// In the units that Kubernetes' own server answers in.
fn amounts(cpu: Option<&Quantity>, memory: Option<&Quantity>) -> Value {
    let mut amounts = json!({});
    if let Some(millis) = cpu.and_then(|cpu| cpu.millis().ok()) {
        amounts["cpu"] = json!(format!("{}n", millis.saturating_mul(1_000_000)));
    }
    if let Some(bytes) = memory.and_then(|memory| memory.units().ok()) {
        amounts["memory"] = json!(format!("{}Ki", bytes / 1024));
    }
    amounts
}

/// The metadata that metrics have.
fn brief(metadata: &Value) -> Value {
    let mut brief = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp", "labels"] {
        if let Some(value) = metadata.get(field) {
            brief[field] = value.clone();
        }
    }
    brief
}

/// The cell of `CPU`.
pub fn cpu_cell(metrics: &Value) -> Value {
    usage(metrics)["cpu"].clone()
}

/// The cell of `MEMORY`.
pub fn memory_cell(metrics: &Value) -> Value {
    usage(metrics)["memory"].clone()
}

fn usage(metrics: &Value) -> &Value {
    let own = &metrics["usage"];
    if own.is_object() { own } else { &metrics["containers"][0]["usage"] }
}
