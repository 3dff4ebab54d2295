//! The schema of `metadata`, the same for every kind.

use serde_json::{Value, json};

/// The schema that objects are checked by: in stored metadata an owner or a finalizer may stand twice, as in Kubernetes.
pub fn plain() -> Value {
    let mut schema = schema();
    for list in ["finalizers", "ownerReferences"] {
        if let Some(list) = schema["properties"][list].as_object_mut() {
            list.retain(|mark, _| !mark.starts_with("x-kubernetes-list"));
        }
    }
    schema
}

/// The structural schema of `meta.k8s.io/v1 ObjectMeta`, with the marks strategic merge and apply go by.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "description": "Standard object's metadata.",
        "properties": {
            "name": {"type": "string", "description": "Unique within a namespace; cannot be changed."},
            "generateName": {"type": "string", "description": "A prefix the server makes a unique name of when name is not given."},
            "namespace": {"type": "string", "description": "The namespace the object lives in; cannot be changed."},
            "selfLink": {"type": "string", "description": "Deprecated; no longer filled in."},
            "uid": {"type": "string", "description": "Set by the server: unique in time and space."},
            "resourceVersion": {"type": "string", "description": "Set by the server: changes with every write. Sent back, it guards against lost updates."},
            "generation": {"type": "integer", "format": "int64", "description": "Set by the server: counts the changes of the desired state."},
            "creationTimestamp": {"type": "string", "format": "date-time", "nullable": true, "description": "Set by the server."},
            "deletionTimestamp": {"type": "string", "format": "date-time", "nullable": true, "description": "Set by the server once deletion was asked for."},
            "deletionGracePeriodSeconds": {"type": "integer", "format": "int64", "description": "Set by the server together with deletionTimestamp."},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Keys and values objects are selected by."},
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Keys and values for tools; not selected by."},
            "finalizers": {
                "type": "array", "items": {"type": "string"},
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
                "description": "Who has to agree before the object is removed; the object stays until the list is empty."
            },
            "ownerReferences": {
                "type": "array",
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["uid"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "uid",
                "description": "The objects this one depends on; it is removed when all of them are gone.",
                "items": {
                    "type": "object",
                    "required": ["apiVersion", "kind", "name", "uid"],
                    "properties": {
                        "apiVersion": {"type": "string", "description": "API version of the owner."},
                        "kind": {"type": "string", "description": "Kind of the owner."},
                        "name": {"type": "string", "description": "Name of the owner."},
                        "uid": {"type": "string", "description": "UID of the owner."},
                        "controller": {"type": "boolean", "description": "Whether this owner is the one that manages the object."},
                        "blockOwnerDeletion": {"type": "boolean", "description": "Whether the owner's foreground deletion waits for this object."}
                    },
                    "x-kubernetes-map-type": "atomic"
                }
            },
            "managedFields": {
                "type": "array", "x-kubernetes-list-type": "atomic",
                "description": "Set by the server: who wrote which field.",
                "items": {
                    "type": "object",
                    "properties": {
                        "manager": {"type": "string", "description": "Who wrote."},
                        "operation": {"type": "string", "description": "Apply or Update."},
                        "apiVersion": {"type": "string", "description": "The version written in."},
                        "time": {"type": "string", "format": "date-time", "nullable": true, "description": "When."},
                        "fieldsType": {"type": "string", "description": "FieldsV1."},
                        "fieldsV1": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "Which fields."},
                        "subresource": {"type": "string", "description": "The subresource written through, or empty."}
                    }
                }
            }
        }
    })
}
