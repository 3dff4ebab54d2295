//! `v1 Secret`: values that are sealed in the store and shown nowhere they need not be.

use std::sync::Arc;

use base64::Engine as _;
use serde_json::{Value, json};

use super::{age, base, column, computed, immutable, keys, strings, wrong};
use crate::kind::{FieldError, FieldErrorReason, Kind, Scope};

/// All values together, decoded (`core.MaxSecretSize`).
const BYTES_MAX: usize = 1024 * 1024;

/// The kind.
pub fn secret() -> Kind {
    let schema = json!({
        "description": "Secret holds secret data of a certain type. The total bytes of the values in the Data field must be less than MaxSecretSize bytes.",
        "properties": {
            "data": {
                "type": "object", "additionalProperties": {"type": "string", "format": "byte"},
                "description": "The values, each in base64. Keys consist of alphanumeric characters, '-', '_' or '.'.",
            },
            "stringData": {
                "type": "object", "additionalProperties": {"type": "string"},
                "description": "Values as plain text, merged into data on write. Never shown when reading.",
            },
            "type": {"type": "string", "default": "Opaque", "description": "What the values are for. Cannot be changed."},
            "immutable": {"type": "boolean", "description": "If true, data can no longer be changed; only metadata can."},
        },
    });
    Kind {
        columns: vec![
            column("Type", "string", ".type", 0, "What the values are for."),
            computed(
                "Data",
                "integer",
                |secret| json!(secret["data"].as_object().map_or(0, serde_json::Map::len)),
                0,
                "How many values there are.",
            ),
            age(),
        ],
        selectable_fields: strings(&["type"]),
        prepare: Some(prepare),
        validate: Some(Arc::new(validate)),
        decode_protobuf: Some(crate::protobuf::secret),
        sensitive: true,
        sealed: true,
        ..base("", "v1", "Secret", "secrets", Scope::Namespaced, schema)
    }
}

/// Folds `stringData` into `data`; it wins over values of the same key. Anything but text is left for the schema to
/// complain about.
fn prepare(secret: &mut Value) {
    let Some(object) = secret.as_object_mut() else { return };
    if object.get("type").is_some_and(|type_| type_ == "") {
        object.remove("type");
    }
    let plain = match object.get("stringData") {
        Some(Value::Object(map)) if map.values().all(Value::is_string) => map.clone(),
        Some(Value::Null) => serde_json::Map::new(),
        _ => return,
    };
    object.remove("stringData");
    if plain.is_empty() {
        return;
    }
    let data = object.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in plain {
            let text = value.as_str().unwrap_or_default();
            data.insert(key, json!(base64::engine::general_purpose::STANDARD.encode(text)));
        }
    }
}

fn validate(secret: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    keys(secret, "data", &mut errors);
    let data = secret["data"].as_object();
    let bytes: usize =
        data.into_iter().flatten().filter_map(|(_, value)| value.as_str()).map(|text| text.len() / 4 * 3).sum();
    if bytes > BYTES_MAX {
        errors.push(wrong(
            "data".to_owned(),
            FieldErrorReason::TooLong,
            format!("Too long: may not be more than {BYTES_MAX} bytes"),
        ));
    }
    let needed: &[&str] = match secret["type"].as_str().unwrap_or_default() {
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    for key in needed.iter().filter(|key| data.is_none_or(|data| !data.contains_key(**key))) {
        errors.push(wrong(format!("data[{key}]"), FieldErrorReason::Required, "Required value"));
    }
    if let Some(old) = old
        && old["type"] != secret["type"]
    {
        errors.push(wrong(
            "type".to_owned(),
            FieldErrorReason::Invalid,
            format!("Invalid value: {}: field is immutable", secret["type"]),
        ));
    }
    immutable(secret, old, &["data"], &mut errors);
    errors
}
