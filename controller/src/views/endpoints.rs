//! An Instance as a `discovery.k8s.io/v1` EndpointSlice.

use crds::APPLICATION_LABEL;
use crds::condition::{self, READY};
use crds::instance::{InstanceSpec, InstanceStatus};
use serde_json::{Value, json};

use super::{metadata, other_uid};

/// The label by which the slices of a Service are found: what [`APPLICATION_LABEL`] is on the Instance.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Between the uid of an Instance and that of its slice.
const UID_MASK: u128 = 0xe5;

/// The slice of an Instance: same name, labels and resource version, with that Pod as its one endpoint, and none while the
/// Pod has no address. A Service has as many slices as its Application has Instances.
pub fn from_instance(mut instance: Value) -> Value {
    let spec: Option<InstanceSpec> = serde_json::from_value(instance["spec"].take()).ok();
    let status: InstanceStatus = serde_json::from_value(instance["status"].take()).unwrap_or_default();
    let mut metadata = metadata(instance["metadata"].take());
    let pod = json!({
        "kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"],
    });
    let terminating = !metadata["deletionTimestamp"].is_null();
    metadata["uid"] = other_uid(&metadata, UID_MASK);
    if let Some(application) = metadata["labels"].get(APPLICATION_LABEL).cloned() {
        metadata["labels"][SERVICE_LABEL] = application;
    }
    let (mut endpoints, mut ports) = (Vec::new(), Vec::new());
    if let Some((ip, port)) = status.address.as_deref().and_then(|address| address.rsplit_once(':')) {
        let serving = condition::find(&status.conditions, READY).is_some_and(|ready| ready.status == "True");
        endpoints.push(json!({
            "addresses": [ip],
            "conditions": {"ready": serving && !terminating, "serving": serving, "terminating": terminating},
            "nodeName": spec.and_then(|spec| spec.node_name),
            "targetRef": pod,
        }));
        if let Ok(port) = port.parse::<u16>() {
            ports.push(json!({"name": "http", "protocol": "TCP", "appProtocol": "http", "port": port}));
        }
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    })
}

/// The cell of `ADDRESSTYPE`.
pub fn address_type_cell(slice: &Value) -> Value {
    slice["addressType"].clone()
}

/// The cell of `PORTS`.
pub fn ports_cell(slice: &Value) -> Value {
    slice["ports"][0]["port"].as_u64().map_or_else(|| json!("<unset>"), |port| json!(port.to_string()))
}

/// The cell of `ENDPOINTS`.
pub fn endpoints_cell(slice: &Value) -> Value {
    slice["endpoints"][0]["addresses"][0].as_str().map_or_else(|| json!("<unset>"), |address| json!(address))
}
