//! What Kubernetes' own tools look for, as read-only views of Berth's kinds: Services with their EndpointSlices, Pods,
//! core Nodes, and metrics.

use apiserver::kind::{Column, Kind, NameRule, Scope, View};
use controller::views::{self, endpoints, metrics, node, pod, service};
use serde_json::{Value, json};

const READ: &[&str] = &["get", "list", "watch"];
/// Who deletes a Pod deletes its Instance, and the Application makes another: as everywhere.
const READ_AND_DELETE: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];
/// Their times are those of the answer, so there is nothing to watch; Kubernetes' own server says so too.
const READ_ONCE: &[&str] = &["get", "list"];

/// All views.
pub(crate) fn all() -> Vec<Kind> {
    vec![services(), endpoint_slices(), pods(), nodes(), pod_metrics(), node_metrics()]
}

fn services() -> Kind {
    Kind {
        short_names: vec!["svc".to_owned()],
        categories: vec!["all".to_owned()],
        columns: vec![
            computed("Type", service::type_cell, 0, "Always ClusterIP: reached inside of its project."),
            computed("Cluster-IP", service::cluster_ip_cell, 0, "Always None: its Pods have addresses of their own."),
            computed("External-IP", views::none, 0, "Kubernetes' load balancers: the Application has its URL."),
            computed("Port(s)", service::ports_cell, 0, "What its Application says that it listens on."),
            age(),
            computed("Selector", service::selector_cell, 1, "Labels of its Pods."),
        ],
        selectable_fields: ["spec.clusterIP", "spec.type"].map(str::to_owned).to_vec(),
        ..view(
            ("", "v1", "Service", "services"),
            Scope::Namespaced,
            "An Application as Kubernetes' tools know it: a headless Service that selects its Pods. Read-only.",
            View { verbs: READ, ..of("applications", service::from_application) },
        )
    }
}

fn endpoint_slices() -> Kind {
    Kind {
        columns: vec![
            computed("AddressType", endpoints::address_type_cell, 0, "Always IPv4."),
            computed("Ports", endpoints::ports_cell, 0, "The port that the container listens on."),
            computed("Endpoints", endpoints::endpoints_cell, 0, "Its address on its project's network."),
            age(),
        ],
        ..view(
            ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Scope::Namespaced,
            "An Instance as Kubernetes' tools find it: one endpoint of its Application's Service. Read-only.",
            View {
                verbs: READ,
                labels: &[(endpoints::SERVICE_LABEL, crds::APPLICATION_LABEL)],
                ..of("instances", endpoints::from_instance)
            },
        )
    }
}

fn pods() -> Kind {
    Kind {
        short_names: vec!["po".to_owned()],
        categories: vec!["all".to_owned()],
        streams: true,
        columns: vec![
            computed("Ready", pod::ready_cell, 0, "How many of its containers answer well."),
            computed("Status", pod::status_cell, 0, "How far it is, or what is wrong."),
            computed("Restarts", pod::restarts_cell, 0, "How often its container was started again."),
            age(),
            computed("IP", pod::ip_cell, 1, "Its address on its project's network."),
            computed("Node", pod::node_cell, 1, "The node it runs on."),
            computed("Nominated Node", views::none, 1, "Kubernetes' preemption: not used."),
            computed("Readiness Gates", views::none, 1, "Kubernetes' further conditions: not used."),
        ],
        selectable_fields: ["spec.nodeName", "status.phase", "status.podIP"].map(str::to_owned).to_vec(),
        ..view(
            ("", "v1", "Pod", "pods"),
            Scope::Namespaced,
            "An Instance as Kubernetes' tools know it: a Pod with one container. Read-only.",
            View {
                verbs: READ_AND_DELETE,
                fields: &[("spec.nodeName", "spec.nodeName")],
                ..of("instances", pod::from_instance)
            },
        )
    }
}

fn nodes() -> Kind {
    Kind {
        short_names: vec!["no".to_owned()],
        columns: vec![
            computed("Status", node::status_cell, 0, "Whether it reports and takes instances."),
            computed("Roles", node::roles_cell, 0, "Every node of Berth's is a worker."),
            age(),
            computed("Version", node::version_cell, 0, "Version of its agent."),
            computed("Internal-IP", node::internal_ip_cell, 1, "By which the platform reaches it."),
            computed("External-IP", node::external_ip_cell, 1, "By which the world reaches it."),
            computed("Container-Runtime", node::runtime_cell, 1, "Its Docker."),
        ],
        selectable_fields: vec!["spec.unschedulable".to_owned()],
        ..view(
            ("", "v1", "Node", "nodes"),
            Scope::Cluster,
            "A worker as Kubernetes' tools know it. Read-only: change nodes.berth.dev.",
            View { verbs: READ, ..of("nodes", node::from_node) },
        )
    }
}

fn pod_metrics() -> Kind {
    Kind {
        columns: usage_columns(),
        ..view(
            ("metrics.k8s.io", "v1beta1", "PodMetrics", "pods"),
            Scope::Namespaced,
            "What an Instance uses.",
            View {
                verbs: READ_ONCE,
                shows: Some(metrics::instance_is_measured),
                timed: Some(metrics::measured_now),
                ..of("instances", metrics::of_instance)
            },
        )
    }
}

fn node_metrics() -> Kind {
    Kind {
        columns: usage_columns(),
        ..view(
            ("metrics.k8s.io", "v1beta1", "NodeMetrics", "nodes"),
            Scope::Cluster,
            "What a worker uses.",
            View { verbs: READ_ONCE, shows: Some(metrics::node_is_measured), ..of("nodes", metrics::of_node) },
        )
    }
}

fn usage_columns() -> Vec<Column> {
    vec![
        computed("CPU", metrics::cpu_cell, 0, "Thousand-millionths of a processor."),
        computed("Memory", metrics::memory_cell, 0, "Memory without what the kernel would give back."),
        Column {
            json_path: ".window".to_owned(),
            cell: None,
            ..computed("Window", views::none, 0, "Over which time.")
        },
    ]
}

/// A view of one of Berth's kinds.
fn of(plural: &str, from_stored: fn(Value) -> Value) -> View {
    View {
        group: crds::GROUP.to_owned(),
        plural: plural.to_owned(),
        from_stored,
        to_stored: None,
        verbs: READ,
        shows: None,
        timed: None,
        fields: &[],
        labels: &[],
    }
}

fn view((group, version, kind, plural): (&str, &str, &str, &str), scope: Scope, about: &str, view: View) -> Kind {
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.trim_end_matches("Metrics").to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        // A view has none of its own.
        table: String::new(),
        schema: json!({
            "type": "object",
            "description": about,
            "x-kubernetes-preserve-unknown-fields": true,
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
            },
        }),
        status: false,
        scale: None,
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        // As Kubernetes' own kinds; nothing is ever patched.
        strategic_merge: true,
        replace_names_revision: false,
        name_rule: NameRule::Subdomain,
        prepare: None,
        validate: None,
        decode_protobuf: None,
        retention_seconds: None,
        sensitive: false,
        sealed: false,
        streams: false,
        view_of: Some(view),
    }
}

fn computed(name: &str, cell: fn(&Value) -> Value, priority: i32, description: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_: "string".to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority,
        json_path: String::new(),
        cell: Some(cell),
    }
}

fn age() -> Column {
    Column {
        type_: "date".to_owned(),
        json_path: ".metadata.creationTimestamp".to_owned(),
        cell: None,
        ..computed("Age", views::none, 0, "When it was made.")
    }
}
