//! An Application as a `v1` Service.

use crds::APPLICATION_LABEL;
use serde_json::{Value, json};

use super::{metadata, or_none, other_uid};

/// What `kubectl apply` remembers of the Application. With it, tools that prune would take the Service for something that
/// was applied by itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Between the uid of an Application and that of its Service.
const UID_MASK: u128 = 0x5e;

/// The Service of an Application: same name, labels and resource version, and owned by it, so that tools which know what
/// they have applied by its labels do not take the Service for left over. It is a headless one, since there is no address
/// in front of the Pods on the project's network; its selector finds them. A port is in it if the Application names one;
/// one that the runtime or the image decides is known to the Release only.
pub fn from_application(mut application: Value) -> Value {
    let mut metadata = metadata(application["metadata"].take());
    metadata["ownerReferences"] = json!([{
        "apiVersion": application["apiVersion"],
        "kind": application["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": true,
    }]);
    metadata["uid"] = other_uid(&metadata, UID_MASK);
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut spec = json!({
        "type": "ClusterIP",
        "clusterIP": "None",
        "clusterIPs": ["None"],
        "selector": {APPLICATION_LABEL: metadata["name"]},
        "sessionAffinity": "None",
    });
    if let Some(port) = application["spec"]["start"]["port"].as_i64() {
        spec["ports"] =
            json!([{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": port, "targetPort": port}]);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": spec,
        "status": {"loadBalancer": {}},
    })
}

/// The cell of `TYPE`.
pub fn type_cell(service: &Value) -> Value {
    service["spec"]["type"].clone()
}

/// The cell of `CLUSTER-IP`.
pub fn cluster_ip_cell(service: &Value) -> Value {
    service["spec"]["clusterIP"].clone()
}

/// The cell of `PORT(S)`.
pub fn ports_cell(service: &Value) -> Value {
    or_none(&match service["spec"]["ports"][0]["port"].as_i64() {
        Some(port) => json!(format!("{port}/TCP")),
        None => Value::Null,
    })
}

/// The cell of `SELECTOR`.
pub fn selector_cell(service: &Value) -> Value {
    let name = service["spec"]["selector"][APPLICATION_LABEL].as_str().unwrap_or_default();
    json!(format!("{APPLICATION_LABEL}={name}"))
}
