//! `v1 Namespace`: a project, and the bounds of names and access.

use serde_json::{Value, json};

use super::{age, base, column, strings};
use crate::kind::{Kind, NameRule, Scope};

/// The kind.
pub fn namespace() -> Kind {
    let schema = json!({
        "description": "Namespace provides a scope for Names.",
        "properties": {
            "spec": {
                "type": "object",
                "description": "What is wanted of the namespace.",
                "properties": {"finalizers": {
                    "type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic",
                    "description": "Who has to agree before the namespace is removed from storage.",
                }},
            },
            "status": {
                "type": "object",
                "default": {},
                "description": "The state of the namespace.",
                "properties": {
                    "phase": {"type": "string", "default": "Active", "enum": ["Active", "Terminating"], "description": "Active, or Terminating while its content is being removed."},
                    "conditions": {
                        "type": "array",
                        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                        "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "type",
                        "description": "Details of the state.",
                        "items": {
                            "type": "object",
                            "required": ["type", "status"],
                            "properties": {
                                "type": {"type": "string"},
                                "status": {"type": "string"},
                                "reason": {"type": "string"},
                                "message": {"type": "string"},
                                "lastTransitionTime": {"type": "string", "format": "date-time", "nullable": true},
                            },
                        },
                    },
                },
            },
        },
    });
    Kind {
        short_names: strings(&["ns"]),
        status: true,
        name_rule: NameRule::Label,
        columns: vec![column("Status", "string", ".status.phase", 0, "The status of the namespace."), age()],
        selectable_fields: strings(&["status.phase"]),
        prepare: Some(prepare),
        decode_protobuf: Some(crate::protobuf::namespace),
        ..base("", "v1", "Namespace", "namespaces", Scope::Cluster, schema)
    }
}

/// Every namespace can be selected by a label with its name.
fn prepare(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(name) = metadata.get("name").filter(|name| name.as_str().is_some_and(|n| !n.is_empty())).cloned() else {
        return;
    };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    }
}
