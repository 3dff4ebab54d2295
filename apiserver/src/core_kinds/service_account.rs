//! `v1 ServiceAccount`: an identity for a program, in a namespace. Its tokens are asked for at `…/token`.

use serde_json::{Value, json};

use super::{age, base, computed, strings};
use crate::kind::{Kind, Scope};

/// The kind.
pub fn service_account() -> Kind {
    let reference = |description: &str| {
        json!({
            "type": "array", "description": description,
            "items": {"type": "object", "properties": {
                "kind": {"type": "string"}, "namespace": {"type": "string"}, "name": {"type": "string"},
                "uid": {"type": "string"}, "apiVersion": {"type": "string"}, "resourceVersion": {"type": "string"},
                "fieldPath": {"type": "string"},
            }},
        })
    };
    let mut secrets = reference("Secrets that the account's programs may use. Kept, and not looked at.");
    secrets["x-kubernetes-patch-strategy"] = json!("merge");
    secrets["x-kubernetes-patch-merge-key"] = json!("name");
    let schema = json!({
        "description": "ServiceAccount binds together a name understood by users and programs, and a principal that can be authenticated and authorized.",
        "properties": {
            "secrets": secrets,
            "imagePullSecrets": {
                "type": "array", "x-kubernetes-list-type": "atomic",
                "description": "Secrets with which images are pulled. Kept, and not looked at.",
                "items": {"type": "object", "properties": {"name": {"type": "string"}}},
            },
            "automountServiceAccountToken": {"type": "boolean", "description": "Whether a token is put into the account's containers. Kept, and not looked at."},
        },
    });
    Kind {
        short_names: strings(&["sa"]),
        columns: vec![computed("Secrets", "integer", count, 0, "How many Secrets are listed."), age()],
        decode_protobuf: Some(crate::protobuf::service_account),
        ..base("", "v1", "ServiceAccount", "serviceaccounts", Scope::Namespaced, schema)
    }
}

fn count(account: &Value) -> Value {
    json!(account["secrets"].as_array().map_or(0, Vec::len))
}
