//! The schemas every document needs: metadata, Status, DeleteOptions, Scale.

use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::schema::object_meta;

pub(super) const OBJECT_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const LIST_META: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
pub(super) const STATUS: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const PATCH: &str = "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const SCALE: &str = "#/components/schemas/io.k8s.api.autoscaling.v1.Scale";

/// The shared schemas of a document about `kinds`, each under the name references use.
pub(super) fn schemas(kinds: &[&Kind]) -> Map<String, Value> {
    let text = |description: &str| json!({"type": "string", "description": description});
    let mut schemas = Map::new();
    let mut add = |reference: &str, schema: Value| {
        schemas.insert(reference.trim_start_matches("#/components/schemas/").to_owned(), schema);
    };
    add(OBJECT_META, object_meta::schema());
    add(
        LIST_META,
        json!({
            "type": "object",
            "description": "Metadata of a list.",
            "properties": {
                "resourceVersion": text("The revision of the store the list shows."),
                "continue": text("Asks for the next page."),
                "remainingItemCount": {"type": "integer", "format": "int64", "description": "How many items follow."},
                "selfLink": text("Deprecated."),
            },
        }),
    );
    add(
        STATUS,
        json!({
            "type": "object",
            "description": "Status is a return value for calls that don't return other objects.",
            "properties": {
                "apiVersion": text("The versioned schema of this object."),
                "kind": text("The kind of this object."),
                "metadata": {"allOf": [{"$ref": LIST_META}], "default": {}},
                "status": text("Success or Failure."),
                "message": text("What happened, for people."),
                "reason": text("Why, as one word for programs."),
                "code": {"type": "integer", "format": "int32", "description": "The HTTP status code."},
                "details": {
                    "type": "object",
                    "description": "More about the reason.",
                    "properties": {
                        "name": text("Name of the object."),
                        "group": text("Group of the object."),
                        "kind": text("Kind or resource of the object."),
                        "uid": text("UID of the object."),
                        "retryAfterSeconds": {"type": "integer", "format": "int32", "description": "When to try again."},
                        "causes": {
                            "type": "array",
                            "description": "What is wrong with which field.",
                            "items": {"type": "object", "properties": {
                                "field": text("The field."), "message": text("What is wrong."), "reason": text("Why, as one word for programs."),
                            }},
                        },
                    },
                },
            },
            "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
        }),
    );
    let versions = kinds.iter().map(|kind| (kind.group.as_str(), kind.version.as_str())).chain([("", "v1")]);
    let versions: std::collections::BTreeSet<_> = versions.collect();
    add(
        DELETE_OPTIONS,
        json!({
            "type": "object",
            "description": "DeleteOptions may be provided when deleting an API object.",
            "properties": {
                "apiVersion": text("The versioned schema of this object."),
                "kind": text("The kind of this object."),
                "dryRun": {"type": "array", "items": {"type": "string"}, "description": "All: check, and change nothing."},
                "gracePeriodSeconds": {"type": "integer", "format": "int64", "description": "How long the object may take to go."},
                "orphanDependents": {"type": "boolean", "description": "Deprecated: use propagationPolicy."},
                "propagationPolicy": text("Orphan, Background or Foreground."),
                "preconditions": {
                    "type": "object",
                    "description": "What must hold for the object to be deleted.",
                    "properties": {"uid": text("The UID."), "resourceVersion": text("The resourceVersion.")},
                },
            },
            "x-kubernetes-group-version-kind": versions.iter().map(|(group, version)| json!({"group": group, "version": version, "kind": "DeleteOptions"})).collect::<Vec<_>>(),
        }),
    );
    add(
        PATCH,
        json!({"type": "object", "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."}),
    );
    if kinds.iter().any(|kind| kind.scale.is_some()) {
        add(
            SCALE,
            json!({
                "type": "object",
                "description": "Scale represents a scaling request for a resource.",
                "properties": {
                    "apiVersion": text("The versioned schema of this object."),
                    "kind": text("The kind of this object."),
                    "metadata": {"allOf": [{"$ref": OBJECT_META}], "default": {}},
                    "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "format": "int32", "description": "The wanted count."}}},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer", "format": "int32", "description": "The observed count."},
                        "selector": text("Selects what is counted."),
                    }},
                },
                "x-kubernetes-group-version-kind": [{"group": "autoscaling", "version": "v1", "kind": "Scale"}],
            }),
        );
    }
    schemas
}
