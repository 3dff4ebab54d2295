//! `v1 ConfigMap`: configuration as keys and values.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{age, base, computed, immutable, keys, strings, wrong};
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};

/// All values together (`core.MaxSecretSize`, which holds for both kinds).
const BYTES_MAX: usize = 1024 * 1024;

/// The kind.
pub fn config_map() -> Kind {
    let schema = json!({
        "description": "ConfigMap holds configuration data for pods to consume.",
        "properties": {
            "data": {
                "type": "object", "additionalProperties": {"type": "string"},
                "description": "The values as text. Keys consist of alphanumeric characters, '-', '_' or '.'.",
            },
            "binaryData": {
                "type": "object", "additionalProperties": {"type": "string", "format": "byte"},
                "description": "Values that are no text, each in base64. Keys must not stand in data too.",
            },
            "immutable": {"type": "boolean", "description": "If true, the values can no longer be changed; only metadata can."},
        },
    });
    Kind {
        short_names: strings(&["cm"]),
        columns: vec![computed("Data", "integer", count, 0, "How many values there are."), age()],
        validate: Some(Arc::new(validate)),
        decode_protobuf: Some(crate::protobuf::config_map),
        ..base("", "v1", "ConfigMap", "configmaps", Scope::Namespaced, schema)
    }
}

fn count(object: &Value) -> Value {
    let count = |field: &str| object[field].as_object().map_or(0, Map::len);
    json!(count("data") + count("binaryData"))
}

fn validate(object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    keys(object, "data", &mut errors);
    keys(object, "binaryData", &mut errors);
    let mut bytes = 0;
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        bytes += value.as_str().map_or(0, str::len);
        if object["binaryData"].get(key).is_some() {
            let message = format!("Invalid value: {key:?}: duplicate of key present in binaryData");
            errors.push(wrong(format!("data[{key}]"), FieldErrorReason::Invalid, message));
        }
    }
    for (_, value) in object["binaryData"].as_object().into_iter().flatten() {
        bytes += value.as_str().map_or(0, |text| text.len() / 4 * 3);
    }
    if bytes > BYTES_MAX {
        errors.push(wrong(
            String::new(),
            FieldErrorReason::TooLong,
            format!("Too long: may not be more than {BYTES_MAX} bytes"),
        ));
    }
    immutable(object, old, &["data", "binaryData"], &mut errors);
    errors
}
