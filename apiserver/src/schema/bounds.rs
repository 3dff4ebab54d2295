//! Bounds that hold for every object, whatever its kind's schema says: how many of the things of its metadata there may
//! be, and how deep it may be.
//!
//! Kubernetes has a bound for annotations and, through its store, for the whole object. Labels, owners and finalizers are
//! kept in memory beside each object and looked through on many ways, so that their number is bounded here.

use serde_json::Value;

use crate::decode::DEPTH_MAX;
use crate::kind::{FieldError, FieldErrorReason};

/// Tools set some ten; Kubernetes' recommended ones are seven.
const LABELS_MAX: usize = 256;
/// Each stands for one program that has to let go.
const FINALIZERS_MAX: usize = 64;
/// An object with more owners is shared by so many that none of them owns it.
const OWNERS_MAX: usize = 64;

/// What is too much.
pub(super) fn check(object: &Value) -> Vec<FieldError> {
    let metadata = &object["metadata"];
    let mut errors = Vec::new();
    let counts = [
        ("labels", metadata["labels"].as_object().map_or(0, serde_json::Map::len), LABELS_MAX),
        ("finalizers", metadata["finalizers"].as_array().map_or(0, Vec::len), FINALIZERS_MAX),
        ("ownerReferences", metadata["ownerReferences"].as_array().map_or(0, Vec::len), OWNERS_MAX),
    ];
    for (field, count, max) in counts {
        if count > max {
            errors.push(FieldError {
                field: format!("metadata.{field}"),
                reason: FieldErrorReason::TooMany,
                message: format!("Too many: {count}: must have at most {max} items"),
            });
        }
    }
    // Bodies are bounded when they are read, but patches put one into another: what is stored must be readable again.
    if !is_within(object, DEPTH_MAX) {
        errors.push(FieldError {
            field: String::new(),
            reason: FieldErrorReason::Invalid,
            message: format!("Invalid value: the object is nested more than {DEPTH_MAX} levels deep"),
        });
    }
    errors
}

/// Whether there are at most so many levels. It goes no deeper than that, so that nothing can exhaust the stack.
fn is_within(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(map) => levels > 0 && map.values().all(|value| is_within(value, levels - 1)),
        Value::Array(list) => levels > 0 && list.iter().all(|value| is_within(value, levels - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn much_is_allowed_and_too_much_is_named() {
        let list = |count: usize| (0..count).map(|n| json!(format!("example.dev/f{n}"))).collect::<Vec<_>>();
        let fields = |object: Value| check(&object).into_iter().map(|error| error.field).collect::<Vec<_>>();
        assert!(fields(json!({"metadata": {"finalizers": list(64), "ownerReferences": list(64)}})).is_empty());
        assert_eq!(
            fields(json!({"metadata": {"finalizers": list(65), "ownerReferences": list(65)}})),
            ["metadata.finalizers", "metadata.ownerReferences"]
        );
        let labels: serde_json::Map<String, Value> = (0..257).map(|n| (format!("l{n}"), json!(""))).collect();
        assert_eq!(fields(json!({"metadata": {"labels": labels}})), ["metadata.labels"]);
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"a": inner}));
        assert!(fields(nested(DEPTH_MAX)).is_empty());
        assert_eq!(fields(nested(DEPTH_MAX + 1)), [""]);
    }
}
