//! Filling in defaults.

use serde_json::Value;

use super::node::{Additional, Node};

/// Fills in the defaults below `value`. A `null` where none may stand makes way for the default, or is dropped: to
/// Kubernetes it means "not given".
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, value| {
                let child = node.properties.get(key).or(match &node.additional {
                    Additional::Schema(schema) => Some(schema),
                    Additional::No | Additional::Any => None,
                });
                !(value.is_null() && child.is_some_and(|c| !c.nullable && !c.preserves_anything()))
            });
            for (name, child) in &node.properties {
                if let Some(default) = &child.default
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.clone());
                }
                if let Some(value) = map.get_mut(name) {
                    self::default(child, value);
                }
            }
            if let Additional::Schema(schema) = &node.additional {
                for (_, value) in map.iter_mut().filter(|(key, _)| !node.properties.contains_key(*key)) {
                    default(schema, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(node) = &node.items {
                for item in items {
                    default(node, item);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Node {
    /// Whether the node says nothing about its value, so that `null` is as good as any other.
    fn preserves_anything(&self) -> bool {
        self.preserve_unknown && self.type_.is_none()
    }
}
