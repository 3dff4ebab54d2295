//! What Kubernetes asks of every object's metadata: names, labels, annotations, owners, finalizers.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::kind::{FieldError, FieldErrorReason, Kind, NameRule, Scope};

/// Names are at most this long (RFC 1123 subdomain, `validation.DNS1123SubdomainMaxLength`).
const SUBDOMAIN_LENGTH_MAX: usize = 253;
/// One label of a name is at most this long (RFC 1123, `validation.DNS1123LabelMaxLength`).
const LABEL_LENGTH_MAX: usize = 63;
/// All annotations of an object together, keys and values (`validation.TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_MESSAGE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").expect("a constant")
});
static LABEL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").expect("a constant"));
static QUALIFIED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$").expect("a constant"));

fn longer(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// What is wrong with `name` as an RFC 1123 subdomain.
pub fn subdomain_problem(name: &str) -> Option<String> {
    if name.len() > SUBDOMAIN_LENGTH_MAX {
        return Some(longer(SUBDOMAIN_LENGTH_MAX));
    }
    (!SUBDOMAIN.is_match(name)).then(|| SUBDOMAIN_MESSAGE.to_owned())
}

/// What is wrong with `name` as an RFC 1123 label.
pub fn dns_label_problem(name: &str) -> Option<String> {
    if name.len() > LABEL_LENGTH_MAX {
        return Some(longer(LABEL_LENGTH_MAX));
    }
    (!LABEL.is_match(name)).then(|| LABEL_MESSAGE.to_owned())
}

/// What is wrong with `key` as the key of a label or annotation: an optional DNS prefix, `/`, and a name.
pub fn label_key_problem(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        Some((_, name)) if name.contains('/') => {
            return Some(format!(
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName'): {QUALIFIED_MESSAGE}"
            ));
        }
        Some(("", _)) => return Some("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            if let Some(problem) = subdomain_problem(prefix) {
                return Some(format!("prefix part {problem}"));
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_LENGTH_MAX {
        return Some(format!("name part {}", longer(LABEL_LENGTH_MAX)));
    }
    (!QUALIFIED.is_match(name)).then(|| QUALIFIED_MESSAGE.to_owned())
}

/// What is wrong with `value` as the value of a label.
pub fn label_value_problem(value: &str) -> Option<String> {
    if value.len() > LABEL_LENGTH_MAX {
        return Some(longer(LABEL_LENGTH_MAX));
    }
    (!value.is_empty() && !QUALIFIED.is_match(value)).then(|| VALUE_MESSAGE.to_owned())
}

/// What is wrong with `name` under a kind's rule.
pub fn name_problem(rule: NameRule, name: &str) -> Option<String> {
    match rule {
        NameRule::Subdomain => subdomain_problem(name),
        NameRule::Label => dns_label_problem(name),
        NameRule::PathSegment if name == "." || name == ".." => Some(format!("may not be '{name}'")),
        NameRule::PathSegment => {
            ['/', '%'].into_iter().find(|c| name.contains(*c)).map(|c| format!("may not contain '{c}'"))
        }
    }
}

/// Checks `metadata` of `object`, a new state of an object of `kind`; `old` is the stored state on update. Types are
/// the schema's business.
pub fn validate(kind: &Kind, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = super::bounds::check(object);
    let metadata = &object["metadata"];
    let text = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
    let mut report = |field: &str, reason: FieldErrorReason, message: String| {
        errors.push(FieldError { field: format!("metadata.{field}"), reason, message });
    };
    if let Some(prefix) = text("generateName") {
        // The generated end makes a trailing dash good; the rest must be a name already.
        if let Some(problem) = name_problem(kind.name_rule, prefix.strip_suffix('-').unwrap_or(prefix)) {
            report("generateName", FieldErrorReason::Invalid, format!("Invalid value: {prefix:?}: {problem}"));
        }
    }
    match text("name") {
        None => {
            report("name", FieldErrorReason::Required, "Required value: name or generateName is required".to_owned());
        }
        Some(name) => {
            if let Some(problem) = name_problem(kind.name_rule, name) {
                report("name", FieldErrorReason::Invalid, format!("Invalid value: {name:?}: {problem}"));
            }
        }
    }
    match (kind.scope, text("namespace")) {
        (Scope::Namespaced, None) => report("namespace", FieldErrorReason::Required, "Required value".to_owned()),
        (Scope::Namespaced, Some(namespace)) => {
            if let Some(problem) = dns_label_problem(namespace) {
                report("namespace", FieldErrorReason::Invalid, format!("Invalid value: {namespace:?}: {problem}"));
            }
        }
        (Scope::Cluster, Some(_)) => {
            report("namespace", FieldErrorReason::Forbidden, "Forbidden: not allowed on this type".to_owned());
        }
        (Scope::Cluster, None) => {}
    }
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if let Some(problem) = label_key_problem(key) {
            report("labels", FieldErrorReason::Invalid, format!("Invalid value: {key:?}: {problem}"));
        }
        if let Some(value) = value.as_str()
            && let Some(problem) = label_value_problem(value)
        {
            report("labels", FieldErrorReason::Invalid, format!("Invalid value: {value:?}: {problem}"));
        }
    }
    let mut bytes = 0;
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        // Upper case is allowed in the prefix of an annotation, unlike in a label's.
        if let Some(problem) = label_key_problem(&key.to_lowercase()) {
            report("annotations", FieldErrorReason::Invalid, format!("Invalid value: {key:?}: {problem}"));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATIONS_BYTES_MAX {
        report(
            "annotations",
            FieldErrorReason::TooLong,
            format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes"),
        );
    }
    owners(metadata, &mut report);
    finalizers(metadata, old.map(|old| &old["metadata"]), &mut report);
    if let Some(old) = old {
        for name in ["name", "namespace", "uid", "creationTimestamp"] {
            let (was, is) = (&old["metadata"][name], &metadata[name]);
            if was != is && !was.is_null() {
                report(name, FieldErrorReason::Invalid, format!("Invalid value: {is}: field is immutable"));
            }
        }
    }
    errors
}

fn owners(metadata: &Value, report: &mut impl FnMut(&str, FieldErrorReason, String)) {
    let mut controllers = 0;
    for (index, owner) in metadata["ownerReferences"].as_array().into_iter().flatten().enumerate() {
        for name in ["apiVersion", "kind", "name", "uid"] {
            if owner[name].as_str() == Some("") {
                report(
                    &format!("ownerReferences[{index}].{name}"),
                    FieldErrorReason::Invalid,
                    "Invalid value: \"\": must not be empty".to_owned(),
                );
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        report(
            "ownerReferences",
            FieldErrorReason::Invalid,
            "Invalid value: only one reference can have Controller set to true".to_owned(),
        );
    }
}

fn finalizers(metadata: &Value, old: Option<&Value>, report: &mut impl FnMut(&str, FieldErrorReason, String)) {
    let list = |metadata: &Value| -> Vec<String> {
        metadata["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let now = list(metadata);
    for (index, finalizer) in now.iter().enumerate() {
        if let Some(problem) = label_key_problem(finalizer) {
            report(
                &format!("finalizers[{index}]"),
                FieldErrorReason::Invalid,
                format!("Invalid value: {finalizer:?}: {problem}"),
            );
        }
    }
    if now.iter().any(|f| f == "orphan") && now.iter().any(|f| f == "foregroundDeletion") {
        report(
            "finalizers",
            FieldErrorReason::Invalid,
            "Invalid value: finalizer orphan and foregroundDeletion cannot be both set".to_owned(),
        );
    }
    // What is being deleted can only lose finalizers: a new one would keep it from ever going.
    if let Some(old) = old
        && !old["deletionTimestamp"].is_null()
    {
        let before = list(old);
        let added: Vec<&String> = now.iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            report(
                "finalizers",
                FieldErrorReason::Forbidden,
                format!(
                    "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
                ),
            );
        }
    }
}
