//! Strategic merge patch, for core kinds only: a merge patch that knows how lists merge, and obeys directives.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::PatchError;
use crate::schema::object_meta;

/// How `metadata` merges: the same for every kind, and said by no kind's own schema.
static METADATA: LazyLock<Value> = LazyLock::new(|| json!({"properties": {"metadata": object_meta::schema()}}));

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

/// Applies `patch` to `current`, whose kind has the schema `schema` (its `x-kubernetes-patch-*` and
/// `x-kubernetes-list-*` marks say how lists merge; a list without marks is replaced).
pub fn apply(current: &Value, patch: &[u8], schema: &Value) -> Result<Value, PatchError> {
    let patch = super::object(patch)?;
    let mut result = current.as_object().cloned().unwrap_or_default();
    let mut patch = patch.as_object().cloned().unwrap_or_default();
    let metadata = if patch.contains_key(DIRECTIVE) { None } else { patch.remove_entry("metadata") };
    merge_map(&mut result, patch, schema)?;
    if let Some((key, metadata)) = metadata {
        merge_member(&mut result, key, metadata, &METADATA)?;
    }
    Ok(Value::Object(result))
}

/// How a list takes a patch.
enum Strategy {
    Replace,
    /// A set of scalars.
    Union,
    /// Items with the same value of this key are merged.
    ByKey(String),
}

fn strategy(schema: &Value) -> Strategy {
    let key = schema["x-kubernetes-patch-merge-key"].as_str().or_else(|| {
        (schema["x-kubernetes-list-type"] == "map").then(|| schema["x-kubernetes-list-map-keys"][0].as_str()).flatten()
    });
    match key {
        Some(key) => Strategy::ByKey(key.to_owned()),
        None if schema["x-kubernetes-list-type"] == "set" || schema["x-kubernetes-patch-strategy"] == "merge" => {
            Strategy::Union
        }
        None => Strategy::Replace,
    }
}

fn below<'a>(schema: &'a Value, key: &str) -> &'a Value {
    let property = &schema["properties"][key];
    if property.is_null() { &schema["additionalProperties"] } else { property }
}

fn directive(patch: &mut Map<String, Value>) -> Result<Option<String>, PatchError> {
    match patch.remove(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(text)) if matches!(text.as_str(), "merge" | "replace" | "delete") => Ok(Some(text)),
        Some(other) => Err(PatchError::Syntax(format!("unknown patch directive {DIRECTIVE}: {other}"))),
    }
}

fn merge_map(
    current: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: &Value,
) -> Result<(), PatchError> {
    match directive(&mut patch)?.as_deref() {
        Some("replace") => {
            *current = patch;
            return Ok(());
        }
        Some("delete") => {
            current.clear();
            return Ok(());
        }
        _ => {}
    }
    if let Some(retain) = patch.remove(RETAIN_KEYS) {
        let retain = retain.as_array().ok_or_else(|| PatchError::Syntax(format!("{RETAIN_KEYS} must be a list")))?;
        let kept = |key: &str| retain.iter().any(|r| r == key);
        if let Some(extra) = patch.keys().find(|key| !key.starts_with('$') && !kept(key)) {
            return Err(PatchError::Syntax(format!("{RETAIN_KEYS} does not contain {extra:?}, which the patch sets")));
        }
        current.retain(|key, _| kept(key));
    }
    let mut orders = Vec::new();
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix(ORDER) {
            let Value::Array(order) = value else { return Err(PatchError::Syntax(format!("{key} must be a list"))) };
            orders.push((list.to_owned(), order));
        } else if let Some(list) = key.strip_prefix(DELETE_PRIMITIVES) {
            let Value::Array(gone) = value else { return Err(PatchError::Syntax(format!("{key} must be a list"))) };
            if let Some(Value::Array(items)) = current.get_mut(list) {
                items.retain(|item| !gone.contains(item));
            }
        } else {
            merge_member(current, key, value, schema)?;
        }
    }
    for (list, order) in orders {
        if let Some(Value::Array(items)) = current.get_mut(&list) {
            let key = match strategy(below(schema, &list)) {
                Strategy::ByKey(key) => Some(key),
                Strategy::Union | Strategy::Replace => None,
            };
            reorder(items, &order, key.as_deref());
        }
    }
    Ok(())
}

fn merge_member(current: &mut Map<String, Value>, key: String, value: Value, schema: &Value) -> Result<(), PatchError> {
    let schema = below(schema, &key);
    match value {
        Value::Null => {
            current.remove(&key);
        }
        Value::Object(patch) => {
            let mut inner = match current.remove(&key) {
                Some(Value::Object(map)) => map,
                _ => Map::new(),
            };
            merge_map(&mut inner, patch, schema)?;
            current.insert(key, Value::Object(inner));
        }
        Value::Array(patch) => {
            let mut items = match current.remove(&key) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            merge_list(&mut items, patch, schema)?;
            current.insert(key, Value::Array(items));
        }
        scalar => {
            current.insert(key, scalar);
        }
    }
    Ok(())
}

fn merge_list(items: &mut Vec<Value>, patch: Vec<Value>, schema: &Value) -> Result<(), PatchError> {
    match strategy(schema) {
        Strategy::Replace => *items = patch,
        Strategy::Union => {
            for item in patch {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
        }
        Strategy::ByKey(key) => {
            let mut patches = Vec::new();
            for item in patch {
                let Value::Object(mut item) = item else {
                    return Err(PatchError::Syntax(format!(
                        "expected an object with the merge key {key:?}, got {item}"
                    )));
                };
                match directive(&mut item)?.as_deref() {
                    Some("replace") => items.clear(),
                    directive => patches.push((directive == Some("delete"), item)),
                }
            }
            for (delete, item) in patches {
                if item.is_empty() {
                    continue;
                }
                let Some(id) = item.get(&key).cloned() else {
                    let item = Value::Object(item);
                    return Err(PatchError::Syntax(format!("map: {item} does not contain declared merge key: {key}")));
                };
                if delete {
                    items.retain(|existing| existing.get(&key) != Some(&id));
                } else if let Some(Value::Object(existing)) =
                    items.iter_mut().find(|existing| existing.get(&key) == Some(&id))
                {
                    merge_map(existing, item, &schema["items"])?;
                } else {
                    let mut fresh = Map::new();
                    merge_map(&mut fresh, item, &schema["items"])?;
                    items.push(Value::Object(fresh));
                }
            }
        }
    }
    Ok(())
}

/// Brings `items` into the wanted order. Items the order does not name keep their place among their neighbours.
fn reorder(items: &mut Vec<Value>, order: &[Value], key: Option<&str>) {
    let id = |value: &Value| key.map_or_else(|| Some(value.clone()), |key| value.get(key).cloned());
    let place = |item: &Value| order.iter().position(|o| id(o).is_some() && id(o) == id(item));
    let (mut named, unnamed): (Vec<_>, Vec<_>) =
        std::mem::take(items).into_iter().enumerate().partition(|(_, item)| place(item).is_some());
    named.sort_by_key(|(_, item)| place(item));
    let (mut named, mut unnamed) = (named.into_iter().peekable(), unnamed.into_iter().peekable());
    loop {
        let next = match (named.peek(), unnamed.peek()) {
            (Some((a, _)), Some((b, _))) if a <= b => named.next(),
            (Some(_), Some(_)) | (None, _) => unnamed.next(),
            (Some(_), None) => named.next(),
        };
        match next {
            Some((_, item)) => items.push(item),
            None => return,
        }
    }
}
