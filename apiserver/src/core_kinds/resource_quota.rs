//! `v1 ResourceQuota`: how much a namespace may hold of what. How it is kept is in `quota`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{age, base, computed, strings, wrong};
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};
use crate::quota::Amount;

/// The kind.
pub fn resource_quota() -> Kind {
    let amounts = |description: &str| {
        json!({
            "type": "object", "description": description,
            "additionalProperties": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        })
    };
    let schema = json!({
        "description": "ResourceQuota limits what a namespace may hold.",
        "properties": {
            "spec": {
                "type": "object", "description": "The limits.",
                "properties": {"hard": amounts("The most there may be of each: count/RESOURCE.GROUP for the number of objects of a kind, or the name of something that is measured, such as cpu or memory.")},
            },
            "status": {
                "type": "object", "description": "The limits that are kept, and what there is.",
                "properties": {"hard": amounts("The limits that are kept."), "used": amounts("What there is.")},
            },
        },
    });
    Kind {
        short_names: strings(&["quota"]),
        status: true,
        columns: vec![computed("Request", "string", shown, 0, "What is used of what there may be."), age()],
        validate: Some(Arc::new(validate)),
        decode_protobuf: Some(crate::protobuf::resource_quota),
        ..base("", "v1", "ResourceQuota", "resourcequotas", Scope::Namespaced, schema)
    }
}

fn shown(object: &Value) -> Value {
    let hard = object.pointer("/status/hard").and_then(Value::as_object);
    let texts = hard.into_iter().flatten().map(|(name, limit)| {
        let used = object["status"]["used"].get(name).and_then(Value::as_str).unwrap_or("0");
        format!("{name}: {used}/{}", limit.as_str().unwrap_or_default())
    });
    json!(texts.collect::<Vec<_>>().join(", "))
}

fn validate(object: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in object.pointer("/spec/hard").and_then(Value::as_object).into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if Amount::parse(&text).is_none() {
            errors.push(wrong(
                format!("spec.hard[{name}]"),
                FieldErrorReason::Invalid,
                format!("Invalid value: {text:?}: must be a quantity such as 5, 500m or 2Gi, and not negative"),
            ));
        }
    }
    errors
}
