//! Removing what the schema does not know.

use serde_json::Value;

use super::node::{Additional, Node, Type};
use super::path;

/// Removes unknown fields below `value` and adds their paths to `removed`.
pub(super) fn prune(node: &Node, value: &mut Value, at: &str, removed: &mut Vec<String>) {
    match value {
        // A map where there must be none is of the wrong type: its fields are not what is wrong with it.
        Value::Object(_) if node.type_.is_some_and(|wanted| wanted != Type::Object) => {}
        Value::Object(map) => {
            let known = |key: &str| {
                node.properties.contains_key(key)
                    || node.preserve_unknown
                    || !matches!(node.additional, Additional::No)
                    || (node.embedded && matches!(key, "apiVersion" | "kind" | "metadata"))
            };
            map.retain(|key, _| {
                let known = known(key);
                if !known {
                    removed.push(path::child(at, key));
                }
                known
            });
            for (key, value) in map {
                if let Some(child) = node.properties.get(key) {
                    prune(child, value, &path::child(at, key), removed);
                } else if let Additional::Schema(child) = &node.additional {
                    prune(child, value, &path::child(at, key), removed);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(child, item, &path::index(at, index), removed);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
