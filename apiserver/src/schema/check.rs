//! Checking values against a schema, in the words of Kubernetes.

use serde_json::{Map, Number, Value, json};

use crate::kind::{FieldError, FieldErrorReason};

use super::node::{Additional, Checks, List, Node, Type};
use super::rules::Run;
use super::{format, path};

/// One error, `message` beginning with the kind of error.
fn error(field: &str, reason: FieldErrorReason, message: String) -> FieldError {
    FieldError { field: field.to_owned(), reason, message }
}

/// `Invalid value: <value>: <path> in body <complaint>`
fn invalid(field: &str, value: &Value, complaint: &str) -> FieldError {
    error(field, FieldErrorReason::Invalid, format!("Invalid value: {value}: {field} in body {complaint}"))
}

/// Checks `value`, and its CEL rules. What equals its old value is not checked again: a schema that became stricter
/// does not make existing objects unwritable.
pub(super) fn check(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    at: &str,
    run: &mut Run,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) {
        transitions(node, value, at, run, errors);
        return;
    }
    let before = errors.len();
    shallow(node, value, at, errors);
    // Rules may rely on types: where one is wrong they would only add noise.
    let sound = !errors[before..].iter().any(|e| e.reason == FieldErrorReason::TypeInvalid);
    for also in &node.also {
        constrain(also, value, at, errors);
    }
    children(node, value, old, at, &mut |node, value, old, at| check(node, value, old, at, run, errors));
    if sound && !value.is_null() && !errors[before..].iter().any(|e| e.reason == FieldErrorReason::TypeInvalid) {
        rules(node, value, old, at, run, errors);
    }
}

fn rules(node: &Node, value: &Value, old: Option<&Value>, at: &str, run: &mut Run, errors: &mut Vec<FieldError>) {
    if let Some(rules) = &node.rules {
        rules.check(value, old, at, run, errors);
    }
}

/// Evaluates only the rules on transitions: the rest held before.
fn transitions(node: &Node, value: &Value, at: &str, run: &mut Run, errors: &mut Vec<FieldError>) {
    if !value.is_null() {
        rules(node, value, Some(value), at, run, errors);
    }
    children(node, value, Some(value), at, &mut |node, value, _, at| transitions(node, value, at, run, errors));
}

/// Gets a node, the value there, the old value that corresponds to it, and the path.
type Visit<'a, 'v> = dyn FnMut(&'a Node, &'a Value, Option<&'a Value>, &str) + 'v;

/// Visits what lies directly below `value`, each with the old value that corresponds to it.
fn children<'a>(node: &'a Node, value: &'a Value, old: Option<&'a Value>, at: &str, visit: &mut Visit<'a, '_>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let old = old.and_then(|old| old.get(key));
                if let Some(child) = node.properties.get(key) {
                    visit(child, value, old, &path::child(at, key));
                } else if let Additional::Schema(child) = &node.additional {
                    visit(child, value, old, &path::child(at, key));
                }
            }
        }
        Value::Array(items) => {
            let Some(child) = &node.items else { return };
            for (index, item) in items.iter().enumerate() {
                let old = match &node.list {
                    List::Map(keys) => old
                        .and_then(Value::as_array)
                        .and_then(|old| old.iter().find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))),
                    List::Atomic | List::Set => None,
                };
                visit(child, item, old, &path::index(at, index));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Checks a value validation: no rules, no old values.
fn constrain(node: &Node, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    shallow(node, value, at, errors);
    children(node, value, None, at, &mut |node, value, _, at| constrain(node, value, at, errors));
}

/// Checks the value itself, not what lies below it.
fn shallow(node: &Node, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if value.is_null() && (node.nullable || (node.type_.is_none() && !node.int_or_string)) {
        return;
    }
    if let Some(expected) = wrong_type(node, value) {
        let found = type_name(value);
        let message = format!("Invalid value: {found:?}: {at} in body must be of type {expected}: {found:?}");
        errors.push(error(at, FieldErrorReason::TypeInvalid, message));
        return;
    }
    if let Some(checks) = &node.checks {
        demands(checks, value, at, errors);
    }
    if let Value::Array(items) = value {
        distinct(&node.list, items, at, errors);
    }
}

/// Checks what a schema demands besides a type.
fn demands(checks: &Checks, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if !checks.one_of_values.is_empty() && !checks.one_of_values.iter().any(|allowed| same(allowed, value)) {
        let mut allowed: Vec<String> =
            checks.one_of_values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        allowed.sort();
        let allowed: Vec<String> = allowed.iter().map(|v| format!("{v:?}")).collect();
        errors.push(error(
            at,
            FieldErrorReason::NotSupported,
            format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")),
        ));
    }
    match value {
        Value::String(text) => string(checks, value, text, at, errors),
        Value::Number(n) => number(checks, value, n, at, errors),
        Value::Array(items) => array(checks, value, items, at, errors),
        Value::Object(map) => object(checks, value, map, at, errors),
        Value::Null | Value::Bool(_) => {}
    }
    combinations(checks, value, at, errors);
}

fn wrong_type(node: &Node, value: &Value) -> Option<String> {
    if node.int_or_string {
        return (!value.is_string() && !is_integer(value)).then(|| "integer,string".to_owned());
    }
    let expected = node.type_?;
    let right = match expected {
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => is_integer(value),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
    };
    (!right).then(|| expected.name().to_owned())
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && b.is_number() && a.as_f64() == b.as_f64())
}

fn string(checks: &Checks, value: &Value, text: &str, at: &str, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as u64;
    if let Some(max) = checks.length_max.filter(|max| length > *max) {
        errors.push(error(at, FieldErrorReason::TooLong, format!("Too long: may not be more than {max} characters")));
    }
    if let Some(min) = checks.length_min.filter(|min| length < *min) {
        errors.push(invalid(at, value, &format!("should be at least {min} chars long")));
    }
    if let Some(pattern) = checks.pattern.as_ref().filter(|p| !p.is_match(text)) {
        errors.push(invalid(at, value, &format!("should match '{}'", pattern.as_str())));
    }
    if let Some(format) = checks.format.as_ref().filter(|f| !format::matches(f, text)) {
        // What is written in base64 may be a secret, and is not repeated.
        let value = if format == "byte" { &json!("") } else { value };
        errors.push(error(
            at,
            FieldErrorReason::TypeInvalid,
            format!("Invalid value: {value}: {at} in body must be of type {format}: {value}"),
        ));
    }
}

fn number(checks: &Checks, value: &Value, number: &Number, at: &str, errors: &mut Vec<FieldError>) {
    let Some(n) = number.as_f64() else { return };
    if let Some((bound, exclusive)) = checks.minimum
        && (n < bound || (exclusive && n <= bound))
    {
        let or_equal = if exclusive { "" } else { " or equal to" };
        errors.push(invalid(at, value, &format!("should be greater than{or_equal} {bound}")));
    }
    if let Some((bound, exclusive)) = checks.maximum
        && (n > bound || (exclusive && n >= bound))
    {
        let or_equal = if exclusive { "" } else { " or equal to" };
        errors.push(invalid(at, value, &format!("should be less than{or_equal} {bound}")));
    }
    if let Some(factor) = checks.multiple_of.filter(|factor| {
        let quotient = n / factor;
        (quotient - quotient.round()).abs() > 1e-9
    }) {
        errors.push(invalid(at, value, &format!("should be a multiple of {factor}")));
    }
    let fits = match checks.format.as_deref() {
        Some("int32") => number.as_i64().is_none_or(|n| i32::try_from(n).is_ok()),
        _ => true,
    };
    if !fits {
        errors.push(error(
            at,
            FieldErrorReason::Invalid,
            format!("Invalid value: {value}: {at} in body must be of type int32: {value}"),
        ));
    }
}

fn array(checks: &Checks, value: &Value, items: &[Value], at: &str, errors: &mut Vec<FieldError>) {
    let count = items.len() as u64;
    if let Some(max) = checks.items_max.filter(|max| count > *max) {
        errors.push(error(at, FieldErrorReason::TooMany, format!("Too many: {count}: must have at most {max} items")));
    }
    if let Some(min) = checks.items_min.filter(|min| count < *min) {
        errors.push(invalid(at, value, &format!("should have at least {min} items")));
    }
    if checks.unique && duplicates(items.iter().map(Value::to_string)).next().is_some() {
        errors.push(invalid(at, value, "shouldn't contain duplicates"));
    }
}

/// Checks that the items of a list can be told apart.
fn distinct(list: &List, items: &[Value], at: &str, errors: &mut Vec<FieldError>) {
    match list {
        List::Atomic => {}
        List::Set => {
            for index in duplicates(items.iter().map(Value::to_string)) {
                errors.push(error(
                    &path::index(at, index),
                    FieldErrorReason::Duplicate,
                    format!("Duplicate value: {}", items[index]),
                ));
            }
        }
        List::Map(keys) => {
            let key = |item: &Value| -> Value {
                let part = |k: &String| item.get(k).map(|v| (k.clone(), v.clone()));
                Value::Object(keys.iter().filter_map(part).collect())
            };
            let found: Vec<Value> = items.iter().map(key).collect();
            for index in duplicates(found.iter().map(Value::to_string)) {
                errors.push(error(
                    &path::index(at, index),
                    FieldErrorReason::Duplicate,
                    format!("Duplicate value: {}", found[index]),
                ));
            }
        }
    }
}

/// The indices of items that stood before.
fn duplicates(items: impl Iterator<Item = String>) -> impl Iterator<Item = usize> {
    let mut seen = std::collections::BTreeSet::new();
    items.enumerate().filter(move |(_, item)| !seen.insert(item.clone())).map(|(index, _)| index)
}

fn object(checks: &Checks, value: &Value, map: &Map<String, Value>, at: &str, errors: &mut Vec<FieldError>) {
    for name in checks.required.iter().filter(|name| !map.contains_key(*name)) {
        errors.push(error(&path::child(at, name), FieldErrorReason::Required, "Required value".to_owned()));
    }
    let count = map.len() as u64;
    if let Some(max) = checks.properties_max.filter(|max| count > *max) {
        errors.push(error(at, FieldErrorReason::TooMany, format!("Too many: {count}: must have at most {max} items")));
    }
    if let Some(min) = checks.properties_min.filter(|min| count < *min) {
        errors.push(invalid(at, value, &format!("should have at least {min} properties")));
    }
}

fn combinations(checks: &Checks, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    let of = |node: &Node| {
        let mut errors = Vec::new();
        constrain(node, value, at, &mut errors);
        errors
    };
    let mut complain = |text: &str, causes: Vec<FieldError>| {
        errors.extend(causes);
        errors.push(error(at, FieldErrorReason::Invalid, format!("Invalid value: {}: {:?} {text}", json!(""), at)));
    };
    let all: Vec<FieldError> = checks.all_of.iter().flat_map(of).collect();
    if !all.is_empty() {
        complain("must validate all the schemas (allOf)", all);
    }
    if !checks.any_of.is_empty() {
        let tried: Vec<_> = checks.any_of.iter().map(of).collect();
        if tried.iter().all(|errors| !errors.is_empty()) {
            complain("must validate at least one schema (anyOf)", nearest(tried));
        }
    }
    if !checks.one_of.is_empty() {
        let tried: Vec<_> = checks.one_of.iter().map(of).collect();
        match tried.iter().filter(|errors| errors.is_empty()).count() {
            0 => complain("must validate one and only one schema (oneOf). Found none valid", nearest(tried)),
            1 => {}
            more => complain(
                &format!("must validate one and only one schema (oneOf). Found {more} valid alternatives"),
                Vec::new(),
            ),
        }
    }
    if let Some(not) = &checks.not
        && of(not).is_empty()
    {
        complain("must not validate the schema (not)", Vec::new());
    }
}

/// The complaints of the alternative that was missed by the least: what the author most likely meant.
fn nearest(tried: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    tried.into_iter().min_by_key(Vec::len).unwrap_or_default()
}
