//! Taking over from client-side apply. `kubectl apply` keeps what it applied in an annotation; when the same people go on
//! with `kubectl apply --server-side`, what they applied before must not stand in their way.

use serde_json::Value;

use super::conflict::Conflicts;
use super::types::Type;

/// The manager to whom this applies: `kubectl apply --server-side` without `--field-manager`.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations of an object together (`validation.TotalAnnotationSizeLimitB`).
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The conflicts that are left when those are allowed that come from client-side apply: about fields that were applied
/// by it, and are still as they were applied. `None` if none is left.
pub(super) fn remaining(type_: &Type, live: &Value, api_version: &str, conflicts: &Conflicts) -> Option<Conflicts> {
    let applied: Option<Value> = annotation(live).and_then(|text| serde_json::from_str(text).ok());
    let applied = applied.filter(|applied| applied.get("apiVersion").and_then(Value::as_str) == Some(api_version));
    let Some(applied) = applied else { return Some(conflicts.clone()) };
    let mut allowed = type_.fields(&applied);
    let comparison = type_.compare(&applied, live);
    for differing in [&comparison.modified, &comparison.added, &comparison.removed] {
        allowed.subtract(differing);
    }
    let left = conflicts.0.iter().filter(|conflict| !allowed.contains(&conflict.path.0)).cloned().collect::<Vec<_>>();
    (!left.is_empty()).then_some(Conflicts(left))
}

/// Keeps the annotation, where there is one, at what is applied now: whoever goes back to client-side apply finds it
/// right.
pub(super) fn refresh(object: &mut Value, configuration: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = configuration.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
        if annotations.is_empty()
            && let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("annotations");
        }
    }
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else { return };
    annotations.insert(ANNOTATION.to_owned(), format!("{applied}\n").into());
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}
