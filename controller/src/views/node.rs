//! A Node of Berth's as a core `v1` Node.

use crds::condition::{self, READY};
use crds::node::{NodeSpec, NodeStatus, Resources};
use serde_json::{Map, Value, json};

use super::{condition as renamed, metadata, or_none};

/// The core Node that a worker is.
pub fn from_node(mut node: Value) -> Value {
    let spec: Option<NodeSpec> = serde_json::from_value(node["spec"].take()).ok();
    let status: NodeStatus = serde_json::from_value(node["status"].take()).unwrap_or_default();
    let mut shown = json!({});
    if spec.is_some_and(|spec| spec.unschedulable || spec.drain) {
        shown["unschedulable"] = json!(true);
        shown["taints"] = json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]);
    }
    let places = status.allocatable.as_ref().and_then(|allocatable| allocatable.instances);
    let addresses: Vec<Value> =
        status.addresses.iter().map(|(type_, address)| json!({"type": type_, "address": address})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": metadata(node["metadata"].take()),
        "spec": shown,
        "status": {
            "capacity": amounts(status.capacity.as_ref(), places),
            "allocatable": amounts(status.allocatable.as_ref(), places),
            "conditions": conditions(&status),
            "addresses": addresses,
            "nodeInfo": {
                "kubeletVersion": status.agent_version.as_ref().map_or(String::new(), |version| format!("v{version}")),
                "kubeProxyVersion": "",
                "containerRuntimeVersion":
                    status.docker_version.as_ref().map_or(String::new(), |version| format!("docker://{version}")),
                "operatingSystem": "linux",
                "architecture": "", "bootID": "", "kernelVersion": "", "machineID": "", "osImage": "",
                "systemUUID": "",
            },
        },
    })
}

/// Under Kubernetes' names.
fn amounts(resources: Option<&Resources>, pods: Option<i64>) -> Value {
    let mut amounts = Map::new();
    if let Some(resources) = resources {
        let named = [("cpu", &resources.cpu), ("memory", &resources.memory), ("ephemeral-storage", &resources.disk)];
        for (name, amount) in named {
            if let Some(amount) = amount {
                amounts.insert(name.to_owned(), json!(amount));
            }
        }
    }
    if let Some(pods) = pods {
        // A quantity is a text.
        amounts.insert("pods".to_owned(), json!(pods.to_string()));
    }
    Value::Object(amounts)
}

fn conditions(status: &NodeStatus) -> Vec<Value> {
    let mut conditions: Vec<Value> = status
        .conditions
        .iter()
        .map(|one| {
            let mut condition = renamed(&one.type_, &one.status, Some(one));
            condition["lastHeartbeatTime"] = json!(status.last_heartbeat);
            condition
        })
        .collect();
    if condition::find(&status.conditions, READY).is_none() {
        conditions.push(renamed(READY, "Unknown", None));
    }
    conditions
}

/// The cell of `STATUS`.
pub fn status_cell(node: &Value) -> Value {
    let conditions = node["status"]["conditions"].as_array();
    let is_ready = conditions.into_iter().flatten().any(|one| one["type"] == READY && one["status"] == "True");
    let mut status = if is_ready { "Ready" } else { "NotReady" }.to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    json!(status)
}

/// The cell of `ROLES`: every Node of Berth's is a worker.
pub fn roles_cell(_: &Value) -> Value {
    json!("worker")
}

/// The cell of `VERSION`.
pub fn version_cell(node: &Value) -> Value {
    or_none(&node["status"]["nodeInfo"]["kubeletVersion"])
}

/// The cell of `CONTAINER-RUNTIME`.
pub fn runtime_cell(node: &Value) -> Value {
    or_none(&node["status"]["nodeInfo"]["containerRuntimeVersion"])
}

/// The cell of `INTERNAL-IP`.
pub fn internal_ip_cell(node: &Value) -> Value {
    address(node, "InternalIP")
}

/// The cell of `EXTERNAL-IP`.
pub fn external_ip_cell(node: &Value) -> Value {
    address(node, "ExternalIP")
}

fn address(node: &Value, type_: &str) -> Value {
    let addresses = node["status"]["addresses"].as_array();
    or_none(
        addresses.into_iter().flatten().find(|one| one["type"] == type_).map_or(&Value::Null, |one| &one["address"]),
    )
}
