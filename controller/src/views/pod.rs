//! An Instance as a `v1` Pod.

use crds::condition::{self, READY};
use crds::instance::{InstancePhase, InstanceSpec, InstanceStatus, InstanceTemplate, LastExit};
use serde_json::{Value, json};

use super::{condition as renamed, metadata, or_none};
use crate::instance::SCHEDULED;

/// By which clients know the container that is meant when none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The Pod that an Instance is: same name, uid, labels and resource version, with one container that bears the
/// application's name.
pub fn from_instance(mut instance: Value) -> Value {
    let spec: Option<InstanceSpec> = serde_json::from_value(instance["spec"].take()).ok();
    let status: InstanceStatus = serde_json::from_value(instance["status"].take()).unwrap_or_default();
    let mut metadata = metadata(instance["metadata"].take());
    let Some(spec) = spec else {
        return json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []},
                      "status": {"phase": "Unknown"}});
    };
    metadata["annotations"][DEFAULT_CONTAINER] = json!(spec.application);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": pod_spec(&spec),
        "status": pod_status(&spec, &status),
    })
}

fn pod_spec(spec: &InstanceSpec) -> Value {
    let mut pod = json!({
        "containers": [container(&spec.application, &spec.template)],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": spec.template.drain.get().as_secs(),
        "automountServiceAccountToken": false,
    });
    if let Some(node) = &spec.node_name {
        pod["nodeName"] = json!(node);
    }
    pod
}

fn container(name: &str, template: &InstanceTemplate) -> Value {
    let amounts = json!({"cpu": template.cpu, "memory": template.memory, "ephemeral-storage": template.disk});
    let mut container = json!({
        "name": name,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        // Kubernetes' own default: who gives limits alone requests as much.
        "resources": {"limits": amounts, "requests": amounts},
    });
    if let Some(argv) = template.command.as_deref().and_then(crds::command::argv) {
        container["command"] = json!(argv);
    }
    if let Some(port) = template.port {
        container["ports"] = json!([{"containerPort": port, "protocol": "TCP"}]);
    }
    if !template.env.is_empty() {
        container["env"] = json!(template.env);
    }
    container
}

fn pod_status(spec: &InstanceSpec, status: &InstanceStatus) -> Value {
    let scheduled = condition::find(&status.conditions, SCHEDULED);
    let placed = if spec.node_name.is_some() { "True" } else { "False" };
    let ready = condition::find(&status.conditions, READY);
    let is_ready = ready.map_or("False", |ready| ready.status.as_str());
    let mut pod = json!({
        "phase": phase(status),
        "qosClass": "Guaranteed",
        "conditions": [
            renamed("PodScheduled", placed, scheduled),
            renamed("Initialized", placed, scheduled),
            renamed("ContainersReady", is_ready, ready),
            renamed("Ready", is_ready, ready),
        ],
        "containerStatuses": [],
    });
    if spec.node_name.is_some() {
        pod["containerStatuses"] = json!([container_status(spec, status)]);
        if let Some(scheduled) = scheduled {
            pod["startTime"] = json!(scheduled.last_transition_time);
        }
    }
    if let Some(message) = &status.message {
        pod["message"] = json!(message);
    }
    if let Some((ip, _port)) = status.address.as_deref().and_then(|address| address.rsplit_once(':')) {
        pod["podIP"] = json!(ip);
        pod["podIPs"] = json!([{"ip": ip}]);
    }
    pod
}

/// A process has an address exactly while it runs.
fn runs(status: &InstanceStatus) -> bool {
    status.address.is_some() && !matches!(status.phase, InstancePhase::Stopped | InstancePhase::Unknown)
}

fn phase(status: &InstanceStatus) -> &'static str {
    match status.phase {
        InstancePhase::Unknown => "Unknown",
        InstancePhase::Stopped => "Succeeded",
        _ if runs(status) => "Running",
        InstancePhase::Failed if status.last_exit.is_some() => "Failed",
        // It is started again in a moment.
        InstancePhase::Running | InstancePhase::Draining => "Running",
        InstancePhase::Starting if status.restarts > 0 => "Running",
        // What could not be started so far is pending: Kubernetes calls failed what has run and will not again.
        _ => "Pending",
    }
}

fn container_status(spec: &InstanceSpec, status: &InstanceStatus) -> Value {
    let exit = status.last_exit.as_ref();
    let mut container = json!({
        "name": spec.application,
        "image": spec.template.image,
        "imageID": spec.template.digest.as_deref().unwrap_or_default(),
        "ready": status.ready && runs(status),
        "started": runs(status),
        "restartCount": status.restarts,
        "state": state(status),
        "lastState": {},
    });
    if let Some(id) = &status.container_id {
        container["containerID"] = json!(format!("docker://{id}"));
    }
    if let Some(exit) = exit.filter(|_| container["state"].get("terminated").is_none()) {
        container["lastState"] = json!({"terminated": terminated(exit)});
    }
    container
}

fn state(status: &InstanceStatus) -> Value {
    if runs(status) {
        return json!({"running": {"startedAt": status.started_at}});
    }
    match (status.phase, &status.last_exit) {
        (InstancePhase::Stopped, None) => json!({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        (InstancePhase::Stopped | InstancePhase::Failed, Some(exit)) => json!({"terminated": terminated(exit)}),
        _ => {
            let mut waiting = json!({"reason": waiting_reason(status)});
            if let Some(message) = &status.message {
                waiting["message"] = json!(message);
            }
            json!({"waiting": waiting})
        }
    }
}

/// Kubernetes' words where it has one, because tools decide by them what is broken.
fn waiting_reason(status: &InstanceStatus) -> &str {
    match (status.reason.as_deref(), status.phase) {
        (Some("Crashed" | "CrashLoop" | "OutOfMemory"), _) => "CrashLoopBackOff",
        (Some("ImageNotFound"), _) => "ErrImagePull",
        (Some("StartFailed"), _) => "CreateContainerError",
        (Some(reason), _) => reason,
        (None, InstancePhase::Pulling) => "Pulling",
        (None, InstancePhase::Unknown) => "Unknown",
        (None, _) => "ContainerCreating",
    }
}

fn terminated(exit: &LastExit) -> Value {
    let reason = match exit {
        LastExit { out_of_memory: true, .. } => "OOMKilled",
        LastExit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let mut terminated = json!({"exitCode": exit.code, "reason": reason});
    if let Some(at) = &exit.at {
        terminated["finishedAt"] = json!(at);
    }
    terminated
}

/// The cell of `READY`: how many of its containers are.
pub fn ready_cell(pod: &Value) -> Value {
    let all = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let statuses = pod["status"]["containerStatuses"].as_array();
    let ready = statuses.into_iter().flatten().filter(|container| container["ready"] == true).count();
    json!(format!("{ready}/{all}"))
}

/// The cell of `STATUS`: what its container waits for or ended with, or its phase.
pub fn status_cell(pod: &Value) -> Value {
    if pod["metadata"]["deletionTimestamp"].is_string() {
        return json!("Terminating");
    }
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let reason = [&state["waiting"]["reason"], &state["terminated"]["reason"], &pod["status"]["phase"]];
    reason.into_iter().find(|reason| reason.is_string()).cloned().unwrap_or(Value::Null)
}

/// The cell of `RESTARTS`.
pub fn restarts_cell(pod: &Value) -> Value {
    json!(pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(0).to_string())
}

/// The cell of `IP`.
pub fn ip_cell(pod: &Value) -> Value {
    or_none(&pod["status"]["podIP"])
}

/// The cell of `NODE`.
pub fn node_cell(pod: &Value) -> Value {
    or_none(&pod["spec"]["nodeName"])
}
