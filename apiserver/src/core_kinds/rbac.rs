//! `rbac.authorization.k8s.io/v1`: Role, ClusterRole, RoleBinding and ClusterRoleBinding. What they mean is decided in
//! [`crate::auth::rbac`]; here is what they may look like.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{age, base, column, computed, wrong};
use crate::auth::rbac::GROUP;
use crate::kind::{Column, FieldError, FieldErrorReason, Kind, NameRule, Scope};

/// Rules within a namespace.
pub fn role() -> Kind {
    let schema = json!({
        "description": "Role is a namespaced, logical grouping of PolicyRules that can be referenced as a unit by a RoleBinding.",
        "properties": {"rules": rules()},
    });
    Kind {
        name_rule: NameRule::PathSegment,
        columns: vec![created_at()],
        prepare: Some(without_nulls),
        validate: Some(Arc::new(|role, _old| check_rules(role, true))),
        decode_protobuf: Some(crate::protobuf::role),
        ..base(GROUP, "v1", "Role", "roles", Scope::Namespaced, schema)
    }
}

/// Rules for the whole server, or to be used in any namespace.
pub fn cluster_role() -> Kind {
    let schema = json!({
        "description": "ClusterRole is a cluster level, logical grouping of PolicyRules that can be referenced as a unit by a RoleBinding or ClusterRoleBinding.",
        "properties": {
            "rules": rules(),
            "aggregationRule": {
                "type": "object",
                "description": "How the rules are gathered from other ClusterRoles. If it is set, rules is written by the server, and changes to it do not last.",
                "properties": {"clusterRoleSelectors": {
                    "type": "array", "x-kubernetes-list-type": "atomic",
                    "description": "Which ClusterRoles' rules are gathered: those that any of the selectors selects.",
                    "items": label_selector(),
                }},
            },
        },
    });
    Kind {
        name_rule: NameRule::PathSegment,
        columns: vec![created_at()],
        prepare: Some(without_nulls),
        validate: Some(Arc::new(|role, _old| {
            let mut errors = check_rules(role, false);
            check_aggregation(role, &mut errors);
            errors
        })),
        decode_protobuf: Some(crate::protobuf::cluster_role),
        ..base(GROUP, "v1", "ClusterRole", "clusterroles", Scope::Cluster, schema)
    }
}

/// Who has a role in a namespace.
pub fn role_binding() -> Kind {
    let description = "RoleBinding references a role, but does not contain it. It can reference a Role in the same namespace or a ClusterRole, and adds who information via subjects and namespace information by which namespace it exists in.";
    Kind {
        validate: Some(Arc::new(|binding, old| check_binding(binding, old, true))),
        ..binding("RoleBinding", "rolebindings", Scope::Namespaced, description)
    }
}

/// Who has a role everywhere.
pub fn cluster_role_binding() -> Kind {
    let description =
        "ClusterRoleBinding references a ClusterRole, but does not contain it, and adds who information via subjects.";
    Kind {
        validate: Some(Arc::new(|binding, old| check_binding(binding, old, false))),
        ..binding("ClusterRoleBinding", "clusterrolebindings", Scope::Cluster, description)
    }
}

fn binding(kind: &str, plural: &str, scope: Scope, description: &str) -> Kind {
    let schema = json!({
        "description": description,
        "required": ["roleRef"],
        "properties": {
            "subjects": {
                "type": "array", "x-kubernetes-list-type": "atomic",
                "description": "Who has the role.",
                "items": {
                    "type": "object",
                    "required": ["kind", "name"],
                    "x-kubernetes-map-type": "atomic",
                    "properties": {
                        "kind": {"type": "string", "description": "User, Group or ServiceAccount."},
                        "apiGroup": {"type": "string", "description": "Empty for ServiceAccounts, rbac.authorization.k8s.io for users and groups."},
                        "name": {"type": "string", "description": "The name."},
                        "namespace": {"type": "string", "description": "The namespace of a ServiceAccount."},
                    },
                },
            },
            "roleRef": {
                "type": "object",
                "required": ["kind", "name"],
                "x-kubernetes-map-type": "atomic",
                "description": "The role. It cannot be changed: delete the binding and make another.",
                "properties": {
                    "apiGroup": {"type": "string", "description": "rbac.authorization.k8s.io"},
                    "kind": {"type": "string", "description": "Role or ClusterRole."},
                    "name": {"type": "string", "description": "The name."},
                },
            },
        },
    });
    Kind {
        name_rule: NameRule::PathSegment,
        columns: vec![
            computed(
                "Role",
                "string",
                |binding| json!(format!("{}/{}", text(&binding["roleRef"], "kind"), text(&binding["roleRef"], "name"))),
                0,
                "The role.",
            ),
            age(),
            computed("Users", "string", |binding| subjects(binding, "User"), 1, "The users that have it."),
            computed("Groups", "string", |binding| subjects(binding, "Group"), 1, "The groups that have it."),
            computed(
                "ServiceAccounts",
                "string",
                |binding| subjects(binding, "ServiceAccount"),
                1,
                "The accounts that have it.",
            ),
        ],
        prepare: Some(complete),
        decode_protobuf: Some(crate::protobuf::binding),
        ..base(GROUP, "v1", kind, plural, scope, schema)
    }
}

fn created_at() -> Column {
    column("Created At", "string", ".metadata.creationTimestamp", 0, "When the role was made.")
}

fn rules() -> Value {
    let list = |description: &str| json!({"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}, "description": description});
    json!({
        "type": "array", "x-kubernetes-list-type": "atomic",
        "description": "What the role allows.",
        "items": {
            "type": "object",
            "required": ["verbs"],
            "properties": {
                "verbs": list("Verbs, or * for all."),
                "apiGroups": list("API groups, \"\" for the core group, or * for all."),
                "resources": list("Resources, resource/subresource, */subresource, or * for all."),
                "resourceNames": list("Names of objects; empty means all."),
                "nonResourceURLs": list("Paths that are no resources; a * at the end stands for any rest. Only in ClusterRoles."),
            },
        },
    })
}

fn label_selector() -> Value {
    json!({
        "type": "object", "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
            "matchExpressions": {"type": "array", "x-kubernetes-list-type": "atomic", "items": {
                "type": "object", "required": ["key", "operator"],
                "properties": {
                    "key": {"type": "string"},
                    "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "string"}},
                },
            }},
        },
    })
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let all = binding["subjects"].as_array().into_iter().flatten().filter(|subject| text(subject, "kind") == kind);
    let names = all.map(|subject| match text(subject, "namespace") {
        namespace if kind == "ServiceAccount" => format!("{namespace}/{}", text(subject, "name")),
        _ => text(subject, "name").to_owned(),
    });
    json!(names.collect::<Vec<_>>().join(", "))
}

/// Typed clients send `null` for an empty list.
fn without_nulls(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.retain(|field, value| {
            !(value.is_null() && matches!(field.as_str(), "rules" | "subjects" | "aggregationRule"))
        });
    }
}

/// Fills in the API groups, which people leave out.
fn complete(binding: &mut Value) {
    without_nulls(binding);
    if let Some(role) = binding.get_mut("roleRef").and_then(Value::as_object_mut)
        && role.get("apiGroup").is_none_or(|group| group == "")
    {
        role.insert("apiGroup".to_owned(), GROUP.into());
    }
    for subject in binding.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        let group = if matches!(text(subject, "kind"), "User" | "Group") { GROUP } else { continue };
        if let Some(subject) = subject.as_object_mut()
            && subject.get("apiGroup").is_none_or(|group| group == "")
        {
            subject.insert("apiGroup".to_owned(), group.into());
        }
    }
}

fn required(field: String, message: &str) -> FieldError {
    wrong(field, FieldErrorReason::Required, format!("Required value: {message}"))
}

fn invalid(field: String, value: &Value, message: &str) -> FieldError {
    wrong(field, FieldErrorReason::Invalid, format!("Invalid value: {value}: {message}"))
}

/// Rules of one role: with every request of whoever has it they may all be looked at.
const RULES_MAX: usize = 1_000;

fn check_rules(role: &Value, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let count = role["rules"].as_array().map_or(0, Vec::len);
    if count > RULES_MAX {
        let message = format!("Too many: {count}: must have at most {RULES_MAX} items");
        return vec![wrong("rules".to_owned(), FieldErrorReason::TooMany, message)];
    }
    for (position, rule) in role["rules"].as_array().into_iter().flatten().enumerate() {
        let at = |field: &str| format!("rules[{position}].{field}");
        let has = |field: &str| rule[field].as_array().is_some_and(|list| !list.is_empty());
        if !has("verbs") {
            errors.push(required(at("verbs"), "verbs must contain at least one value"));
        }
        if has("nonResourceURLs") {
            if namespaced {
                let message = "namespaced rules cannot apply to non-resource URLs";
                errors.push(invalid(at("nonResourceURLs"), &rule["nonResourceURLs"], message));
            }
            if has("apiGroups") || has("resources") || has("resourceNames") {
                let message = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(invalid(at("nonResourceURLs"), &rule["nonResourceURLs"], message));
            }
            continue;
        }
        if !has("apiGroups") {
            errors.push(required(at("apiGroups"), "resource rules must supply at least one api group"));
        }
        if !has("resources") {
            errors.push(required(at("resources"), "resource rules must supply at least one resource"));
        }
    }
    errors
}

fn check_aggregation(role: &Value, errors: &mut Vec<FieldError>) {
    let Some(aggregation) = role.get("aggregationRule") else { return };
    let selectors = aggregation["clusterRoleSelectors"].as_array().map_or(&[][..], Vec::as_slice);
    if selectors.is_empty() {
        let message = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(required("aggregationRule.clusterRoleSelectors".to_owned(), message));
    }
    for (position, selector) in selectors.iter().enumerate() {
        for (number, expression) in selector["matchExpressions"].as_array().into_iter().flatten().enumerate() {
            let at = format!("aggregationRule.clusterRoleSelectors[{position}].matchExpressions[{number}].values");
            let given = expression["values"].as_array().is_some_and(|values| !values.is_empty());
            match text(expression, "operator") {
                "In" | "NotIn" if !given => {
                    errors.push(required(at, "must be specified when `operator` is 'In' or 'NotIn'"));
                }
                "Exists" | "DoesNotExist" if given => errors.push(wrong(
                    at,
                    FieldErrorReason::Forbidden,
                    "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )),
                _ => {}
            }
        }
    }
}

fn unsupported(field: String, value: &str, allowed: &[&str]) -> FieldError {
    let allowed: Vec<String> = allowed.iter().map(|value| format!("{value:?}")).collect();
    let message = format!("Unsupported value: {value:?}: supported values: {}", allowed.join(", "));
    wrong(field, FieldErrorReason::NotSupported, message)
}

fn check_binding(binding: &Value, old: Option<&Value>, namespaced: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let role = &binding["roleRef"];
    if text(role, "apiGroup") != GROUP {
        errors.push(unsupported("roleRef.apiGroup".to_owned(), text(role, "apiGroup"), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        errors.push(unsupported("roleRef.kind".to_owned(), text(role, "kind"), kinds));
    }
    match text(role, "name") {
        "" => errors.push(wrong("roleRef.name".to_owned(), FieldErrorReason::Required, "Required value")),
        name if name.contains(['/', '%']) || name == "." || name == ".." => {
            errors.push(invalid("roleRef.name".to_owned(), &role["name"], "must be a name that fits into a path"));
        }
        _ => {}
    }
    if old.is_some_and(|old| old["roleRef"] != *role) {
        errors.push(invalid("roleRef".to_owned(), role, "cannot change roleRef"));
    }
    for (position, subject) in binding["subjects"].as_array().into_iter().flatten().enumerate() {
        check_subject(subject, &format!("subjects[{position}]"), namespaced, &mut errors);
    }
    errors
}

fn check_subject(subject: &Value, at: &str, namespaced: bool, errors: &mut Vec<FieldError>) {
    if text(subject, "name").is_empty() {
        errors.push(wrong(format!("{at}.name"), FieldErrorReason::Required, "Required value"));
    }
    let group = text(subject, "apiGroup");
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !group.is_empty() {
                errors.push(unsupported(format!("{at}.apiGroup"), group, &[""]));
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.push(wrong(format!("{at}.namespace"), FieldErrorReason::Required, "Required value"));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(unsupported(format!("{at}.apiGroup"), group, &[GROUP]));
            }
        }
        other => errors.push(unsupported(format!("{at}.kind"), other, &["ServiceAccount", "User", "Group"])),
    }
}
