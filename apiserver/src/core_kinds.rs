//! The few kinds of Kubernetes itself that Berth serves, as the server's own descriptions.

mod config_map;
mod event;
mod lease;
mod namespace;
mod rbac;
mod resource_quota;
mod secret;
mod service_account;
#[cfg(test)]
mod tests;

pub use config_map::config_map;
pub use event::{core_event, event};
pub use lease::lease;
pub use namespace::namespace;
pub use rbac::{cluster_role, cluster_role_binding, role, role_binding};
pub use resource_quota::resource_quota;
pub use secret::secret;
pub use service_account::service_account;

use serde_json::{Value, json};

use crate::kind::{Column, FieldError, FieldErrorReason, Kind, NameRule, Scope};

/// Namespace, Secret, ConfigMap, Event (both faces, the stored one first), Lease, ResourceQuota, ServiceAccount, and the kinds that
/// say who may do what.
pub fn all() -> Vec<Kind> {
    vec![
        namespace(),
        secret(),
        config_map(),
        core_event(),
        event(),
        lease(),
        resource_quota(),
        service_account(),
        role(),
        cluster_role(),
        role_binding(),
        cluster_role_binding(),
    ]
}

/// What the core kinds have in common. `schema` has the properties besides apiVersion, kind and metadata.
fn base(group: &str, version: &str, kind: &str, plural: &str, scope: Scope, mut schema: Value) -> Kind {
    schema["type"] = json!("object");
    schema["properties"]["apiVersion"] =
        json!({"type": "string", "description": "The versioned schema of this object."});
    schema["properties"]["kind"] = json!({"type": "string", "description": "The kind of this object."});
    schema["properties"]["metadata"] = json!({"type": "object"});
    Kind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        plural: plural.to_owned(),
        singular: kind.to_lowercase(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        table: format!("core_{plural}"),
        schema,
        status: false,
        scale: None,
        columns: Vec::new(),
        selectable_fields: Vec::new(),
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
        view_of: None,
    }
}

fn column(name: &str, type_: &str, json_path: &str, priority: i32, description: &str) -> Column {
    Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority,
        json_path: json_path.to_owned(),
        cell: None,
    }
}

fn computed(name: &str, type_: &str, cell: fn(&Value) -> Value, priority: i32, description: &str) -> Column {
    Column { cell: Some(cell), ..column(name, type_, "", priority, description) }
}

fn age() -> Column {
    column("Age", "date", ".metadata.creationTimestamp", 0, "When the object was created.")
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

fn wrong(field: String, reason: FieldErrorReason, message: impl Into<String>) -> FieldError {
    FieldError { field, reason, message: message.into() }
}

/// The keys of a Secret or ConfigMap are file names.
fn keys(object: &Value, field: &str, errors: &mut Vec<FieldError>) {
    for key in object[field].as_object().into_iter().flatten().map(|(key, _)| key) {
        let problem = if key.len() > 253 {
            "must be no more than 253 characters"
        } else if key == "." || key == ".." || key.starts_with("..") {
            "a valid config key must not be '.' or start with '..'"
        } else if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
        } else {
            continue;
        };
        errors.push(wrong(
            format!("{field}[{key}]"),
            FieldErrorReason::Invalid,
            format!("Invalid value: {key:?}: {problem}"),
        ));
    }
}

/// `immutable: true` stays, and with it the fields named.
fn immutable(object: &Value, old: Option<&Value>, fields: &[&str], errors: &mut Vec<FieldError>) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    if object["immutable"] != true {
        errors.push(wrong(
            "immutable".to_owned(),
            FieldErrorReason::Forbidden,
            "Forbidden: field is immutable when `immutable` is set",
        ));
    }
    for field in fields.iter().filter(|field| object[**field] != old[**field]) {
        errors.push(wrong(
            (*field).to_owned(),
            FieldErrorReason::Forbidden,
            "Forbidden: field is immutable when `immutable` is set",
        ));
    }
}
