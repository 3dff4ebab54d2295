//! Applications, instances and nodes in the states that there are, as Kubernetes' tools would see them.

use serde_json::{Value, json};

use super::{endpoints, metrics, node, pod, service};

fn instance(status: &Value) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Instance",
        "metadata": {
            "name": "web-1", "namespace": "acme", "uid": "u1", "resourceVersion": "7",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"berth.dev/application": "web"},
            "ownerReferences": [{"apiVersion": "berth.dev/v1alpha1", "kind": "Release", "name": "web-r", "uid": "u0"}],
            "managedFields": [{"manager": "x"}],
        },
        "spec": {
            "application": "web", "release": "web-r", "ordinal": 0, "nodeName": "node-a",
            "template": {
                "image": "berth/hello:1", "digest": "sha256:1", "command": "/hello 'to you'", "port": 8080,
                "env": [{"name": "A", "value": "b"},
                        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "cpu": "250m", "memory": "256Mi", "disk": "1Gi", "drain": "10s",
            },
        },
        "status": status,
    })
}

fn running() -> Value {
    json!({
        "phase": "Running", "ready": true, "routed": true, "containerId": "c0ffee", "address": "10.0.0.2:8080",
        "startedAt": "2026-01-01T00:00:05Z", "restarts": 2,
        "lastExit": {"code": 137, "outOfMemory": true, "at": "2026-01-01T00:00:04Z", "log": "bye"},
        "usage": {"cpu": "20m", "memory": "3Mi"},
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "Running", "message": "ok",
             "lastTransitionTime": "2026-01-01T00:00:06Z"},
            {"type": "Scheduled", "status": "True", "reason": "Placed", "message": "on node-a",
             "lastTransitionTime": "2026-01-01T00:00:01Z"},
        ],
    })
}

#[test]
fn a_running_instance_is_a_running_pod() {
    let pod = pod::from_instance(instance(&running()));
    let metadata = &pod["metadata"];
    assert_eq!(
        (&pod["kind"], &metadata["uid"], &metadata["resourceVersion"]),
        (&json!("Pod"), &json!("u1"), &json!("7"))
    );
    assert_eq!(metadata["labels"]["berth.dev/application"], "web");
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Release");
    assert_eq!(metadata["annotations"]["kubectl.kubernetes.io/default-container"], "web");
    assert!(metadata.get("managedFields").is_none());
    let container = &pod["spec"]["containers"][0];
    assert_eq!((&container["name"], &container["image"]), (&json!("web"), &json!("berth/hello:1")));
    assert_eq!(container["command"], json!(["/hello", "to you"]));
    assert_eq!(container["ports"][0]["containerPort"], 8080);
    assert_eq!(container["env"][1]["valueFrom"]["secretKeyRef"]["key"], "k");
    assert_eq!(container["resources"]["limits"]["memory"], "256Mi");
    assert_eq!(pod["spec"]["nodeName"], "node-a");
    let status = &pod["status"];
    assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("10.0.0.2")));
    assert_eq!(status["startTime"], "2026-01-01T00:00:01Z");
    let kinds: Vec<_> =
        status["conditions"].as_array().unwrap().iter().map(|one| (&one["type"], &one["status"])).collect();
    for (found, expected) in kinds.iter().zip(["PodScheduled", "Initialized", "ContainersReady", "Ready"]) {
        assert_eq!((found.0, found.1), (&json!(expected), &json!("True")));
    }
    assert_eq!(status["conditions"][3]["lastTransitionTime"], "2026-01-01T00:00:06Z");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["running"]["startedAt"], "2026-01-01T00:00:05Z");
    assert_eq!((&container["restartCount"], &container["ready"]), (&json!(2), &json!(true)));
    assert_eq!(container["containerID"], "docker://c0ffee");
    let last = &container["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("OOMKilled")));
    assert_eq!(
        [pod::ready_cell, pod::status_cell, pod::restarts_cell, pod::ip_cell, pod::node_cell].map(|cell| cell(&pod)),
        ["1/1", "Running", "2", "10.0.0.2", "node-a"].map(Value::from)
    );
}

#[test]
fn what_is_wrong_is_said_in_kubernetes_words() {
    let exit = json!({"code": 2, "at": "2026-01-01T00:00:04Z"});
    for (what, status, phase, shown) in [
        ("new", json!({}), "Pending", "ContainerCreating"),
        ("fetching", json!({"phase": "Pulling"}), "Pending", "Pulling"),
        ("starting", json!({"phase": "Starting", "address": "10.0.0.2:1"}), "Running", "Running"),
        ("no image", json!({"phase": "Failed", "reason": "ImageNotFound"}), "Pending", "ErrImagePull"),
        ("no program", json!({"phase": "Failed", "reason": "StartFailed"}), "Pending", "CreateContainerError"),
        (
            "again",
            json!({"phase": "Starting", "reason": "Crashed", "restarts": 1, "lastExit": exit}),
            "Running",
            "CrashLoopBackOff",
        ),
        ("given up", json!({"phase": "Failed", "reason": "CrashLoop", "lastExit": exit}), "Failed", "Error"),
        (
            "port closed",
            json!({"phase": "Failed", "reason": "PortClosed", "address": "10.0.0.2:1"}),
            "Running",
            "Running",
        ),
        ("ended", json!({"phase": "Stopped"}), "Succeeded", "Completed"),
        (
            "silent",
            json!({"phase": "Unknown", "reason": "NodeSilent", "address": "10.0.0.2:1"}),
            "Unknown",
            "NodeSilent",
        ),
    ] {
        let pod = pod::from_instance(instance(&status));
        assert_eq!((&pod["status"]["phase"], pod::status_cell(&pod)), (&json!(phase), json!(shown)), "{what}");
        assert_eq!(pod::ready_cell(&pod), "0/1", "{what}");
    }
    let mut going = instance(&running());
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    assert_eq!(pod::status_cell(&pod::from_instance(going)), "Terminating");
    let mut waiting = instance(&json!({"phase": "Pending"}));
    waiting["spec"].as_object_mut().unwrap().remove("nodeName");
    let pod = pod::from_instance(waiting);
    assert_eq!((pod::status_cell(&pod), pod::node_cell(&pod)), (json!("Pending"), json!("<none>")));
    assert_eq!(pod["status"]["containerStatuses"], json!([]));
}

#[test]
fn an_object_that_cannot_be_read_is_still_a_pod() {
    let pod = pod::from_instance(json!({"metadata": {"name": "x"}, "spec": {"what": "else"}}));
    assert_eq!((&pod["kind"], &pod["status"]["phase"]), (&json!("Pod"), &json!("Unknown")));
    assert_eq!(pod::status_cell(&pod), "Unknown");
}

fn worker(spec: &Value) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Node",
        "metadata": {"name": "node-a", "uid": "n1", "labels": {"disk": "fast"}},
        "spec": spec,
        "status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "disk": "100Gi"},
            "allocatable": {"cpu": "16", "memory": "7Gi", "disk": "90Gi", "instances": 500},
            "usage": {"cpu": "110m", "memory": "1Gi", "disk": "3Gi"},
            "addresses": {"Hostname": "node-a", "InternalIP": "192.0.2.7"},
            "agentVersion": "0.1.0", "dockerVersion": "27.1", "lastHeartbeat": "2026-01-01T00:00:30Z",
            "conditions": [{"type": "Ready", "status": "True", "reason": "Heard", "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    })
}

#[test]
fn a_worker_is_a_node() {
    let shown = node::from_node(worker(&json!({"region": "eu-1"})));
    let status = &shown["status"];
    assert_eq!(status["capacity"], json!({"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "pods": "500"}));
    assert_eq!(status["addresses"][1], json!({"type": "InternalIP", "address": "192.0.2.7"}));
    assert_eq!(status["conditions"][0]["lastHeartbeatTime"], "2026-01-01T00:00:30Z");
    assert_eq!(
        [node::status_cell, node::version_cell, node::runtime_cell, node::internal_ip_cell, node::external_ip_cell]
            .map(|cell| cell(&shown)),
        ["Ready", "v0.1.0", "docker://27.1", "192.0.2.7", "<none>"].map(Value::from)
    );
    let drained = node::from_node(worker(&json!({"region": "eu-1", "drain": true})));
    assert_eq!(node::status_cell(&drained), "Ready,SchedulingDisabled");
    let new = node::from_node(json!({"metadata": {"name": "b"}, "spec": {"region": "eu-1"}}));
    assert_eq!(node::status_cell(&new), "NotReady");
}

const APPLICATION: &str = "0197f3f8-29d2-7c35-9f6c-9a3a1b7d3c00";

fn application(spec: &Value) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Application",
        "metadata": {
            "name": "web", "namespace": "acme", "uid": APPLICATION, "resourceVersion": "9", "labels": {"tier": "front"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"},
            "managedFields": [{"manager": "x"}],
        },
        "spec": spec,
        "status": {"url": "http://web.apps.example.test", "instances": {"desired": 1, "ready": 1}},
    })
}

#[test]
fn an_application_is_a_headless_service_of_its_pods() {
    let shown = service::from_application(application(&json!({"plan": "small", "start": {"port": 8080}})));
    let (metadata, spec) = (&shown["metadata"], &shown["spec"]);
    assert_eq!((&shown["apiVersion"], &shown["kind"]), (&json!("v1"), &json!("Service")));
    assert_eq!([&metadata["name"], &metadata["namespace"]], ["web", "acme"]);
    assert_eq!((&metadata["resourceVersion"], &metadata["labels"]), (&json!("9"), &json!({"tier": "front"})));
    assert_eq!(metadata["annotations"], json!({"note": "x"}), "the Service was not applied");
    assert_eq!(metadata["uid"], "0197f3f8-29d2-7c35-9f6c-9a3a1b7d3c5e", "nothing owns itself");
    let owner = json!([{"apiVersion": "berth.dev/v1alpha1", "kind": "Application", "name": "web", "uid": APPLICATION, "controller": true}]);
    assert_eq!(metadata["ownerReferences"], owner);
    assert!(metadata.get("managedFields").is_none());
    assert_eq!((&spec["type"], &spec["clusterIP"]), (&json!("ClusterIP"), &json!("None")));
    assert_eq!((&spec["ports"][0]["port"], &spec["ports"][0]["targetPort"]), (&json!(8080), &json!(8080)));
    let pod = pod::from_instance(instance(&running()));
    for (label, value) in spec["selector"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value, "it selects its Pods");
    }
    assert_eq!(
        [service::type_cell, service::cluster_ip_cell, service::ports_cell, service::selector_cell]
            .map(|cell| cell(&shown)),
        ["ClusterIP", "None", "8080/TCP", "berth.dev/application=web"].map(Value::from)
    );
}

#[test]
fn a_service_has_no_port_that_its_application_does_not_name() {
    for spec in [json!({"plan": "small", "start": {}}), json!({"what": "else"}), Value::Null] {
        let shown = service::from_application(application(&spec));
        assert!(shown["spec"].get("ports").is_none(), "{shown}");
        assert_eq!(service::ports_cell(&shown), "<none>");
        assert_eq!(shown["spec"]["selector"], json!({"berth.dev/application": "web"}));
    }
}

#[test]
fn what_is_used_is_shown_in_kubernetes_units_while_it_runs() {
    let used = instance(&running());
    assert!(metrics::instance_is_measured(&used));
    let mut shown = metrics::of_instance(used);
    metrics::measured_now(&mut shown, "2026-01-01T00:10:00.5Z".parse().unwrap());
    assert_eq!(shown["containers"], json!([{"name": "web", "usage": {"cpu": "20000000n", "memory": "3072Ki"}}]));
    assert_eq!((&shown["timestamp"], &shown["window"]), (&json!("2026-01-01T00:10:00Z"), &json!("30s")));
    assert_eq!(shown["metadata"]["labels"]["berth.dev/application"], "web");
    let mut stopped = running();
    stopped.as_object_mut().unwrap().remove("address");
    assert!(!metrics::instance_is_measured(&instance(&stopped)), "its last figures are no figures");
    assert!(!metrics::instance_is_measured(&instance(&json!({"address": "10.0.0.2:1"}))));

    let used = worker(&json!({"region": "eu-1"}));
    assert!(metrics::node_is_measured(&used));
    let shown = metrics::of_node(used);
    assert_eq!(shown["usage"], json!({"cpu": "110000000n", "memory": "1048576Ki"}));
    assert_eq!(shown["timestamp"], "2026-01-01T00:00:30Z");
    assert!(!metrics::node_is_measured(&json!({"status": {}})));
}

#[test]
fn a_running_instance_is_an_endpoint_of_its_applications_service() {
    let slice = endpoints::from_instance(instance(&running()));
    assert_eq!((&slice["apiVersion"], &slice["kind"]), (&json!("discovery.k8s.io/v1"), &json!("EndpointSlice")));
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "web");
    let endpoint = json!([{
        "addresses": ["10.0.0.2"], "nodeName": "node-a",
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "namespace": "acme", "name": "web-1", "uid": "u1"},
    }]);
    assert_eq!(slice["endpoints"], endpoint);
    assert_eq!(slice["ports"], json!([{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 8080}]));

    let mut leaving = instance(&running());
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
    let conditions = endpoints::from_instance(leaving)["endpoints"][0]["conditions"].take();
    assert_eq!(conditions, json!({"ready": false, "serving": true, "terminating": true}));

    let waiting = endpoints::from_instance(instance(&json!({"phase": "Pending"})));
    assert_eq!((&waiting["endpoints"], &waiting["ports"]), (&json!([]), &json!([])));
    assert_eq!(endpoints::endpoints_cell(&waiting), "<unset>");
}

#[test]
fn what_is_shown_of_one_object_in_several_ways_has_several_uids() {
    let uid = "01a21889-f0cc-709f-8d06-0fc0b6e3f5c6";
    let mut stored = instance(&running());
    stored["metadata"]["uid"] = json!(uid);
    let slice = endpoints::from_instance(stored.clone());
    assert_eq!(slice["endpoints"][0]["targetRef"]["uid"], uid);
    assert_ne!(slice["metadata"]["uid"], uid);
    assert_eq!(slice["metadata"]["uid"], endpoints::from_instance(stored)["metadata"]["uid"], "always the same");
}
