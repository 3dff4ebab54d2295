//! What must hold for whatever somebody sends. Each property takes any bytes and panics if it does not hold.
//!
//! The fuzzer looks for such bytes as long as it is let; `tests/it/properties.rs` asks the same with some thousand at each
//! run of the tests.

use apiserver::apply::{self, Reach, Type, Writer};
use apiserver::decode::{self, DEPTH_MAX};
use apiserver::patch::{json, merge, strategic};
use apiserver::query::{ListOptions, PageToken, Query, WriteOptions};
use apiserver::selector::{FieldSelector, LabelSelector};
use apiserver::{Kinds, core_kinds, path, protobuf};
use serde_json::{Value, json};

pub(crate) type Property = fn(&[u8]);

pub(crate) const ALL: &[(&str, Property)] = &[
    ("json_decode", json_decode),
    ("yaml_decode", yaml_decode),
    ("protobuf_decode", protobuf_decode),
    ("json_patch", json_patch),
    ("merge_patch", merge_patch),
    ("strategic_patch", strategic_patch),
    ("apply", apply),
    ("label_selector", label_selector),
    ("field_selector", field_selector),
    ("page_token", page_token),
    ("query", query),
    ("address", address),
];

/// How many levels a value has.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// What was read can be stored and read again, and is the same then.
fn can_be_stored(value: &Value) {
    assert!(depth(value) <= DEPTH_MAX, "{} levels", depth(value));
    let text = serde_json::to_vec(value).expect("what was read can be written");
    let again: Value = serde_json::from_slice(&text).expect("what was written can be read");
    assert!(same(value, &again), "{value} became {again}");
}

/// Equality, but for the last digit of fractions: serde_json reads them quickly and not exactly.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) if left.is_f64() && right.is_f64() => {
            let (left, right) = (left.as_f64().unwrap_or(0.0), right.as_f64().unwrap_or(1.0));
            // The smallest numbers of all have no smaller steps.
            (left - right).abs() <= left.abs() * 4.0 * f64::EPSILON + f64::from_bits(4)
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

pub(crate) fn json_decode(data: &[u8]) {
    if let Ok(decoded) = decode::json(data) {
        can_be_stored(&decoded.value);
    }
}

pub(crate) fn yaml_decode(data: &[u8]) {
    if let Ok(decoded) = decode::yaml(data) {
        can_be_stored(&decoded.value);
    }
}

pub(crate) fn protobuf_decode(data: &[u8]) {
    let decoders = core_kinds::all().into_iter().filter_map(|kind| kind.decode_protobuf);
    for decoder in decoders.chain([protobuf::delete_options as _, protobuf::token_review as _]) {
        for body in [data.to_vec(), [b"k8s\0", data].concat()] {
            if let Ok(decoded) = decode::decode(&body, Some(protobuf::MEDIA_TYPE), Some(decoder)) {
                can_be_stored(&decoded.value);
            }
        }
        // The message without its envelope.
        if let Ok(value) = decoder(data) {
            can_be_stored(&value);
        }
    }
}

/// An object and a patch of it: the bytes up to the first zero, and those behind.
fn pair(data: &[u8]) -> Option<(Value, &[u8])> {
    let middle = data.iter().position(|byte| *byte == 0)?;
    let object = decode::json(&data[..middle]).ok()?.value;
    Some((object, &data[middle + 1..]))
}

pub(crate) fn json_patch(data: &[u8]) {
    let Some((object, patch)) = pair(data) else { return };
    if let Ok(patched) = json::apply(&object, patch) {
        can_be_stored(&patched);
    }
}

pub(crate) fn merge_patch(data: &[u8]) {
    let Some((object, patch)) = pair(data) else { return };
    if let Ok(patched) = merge::apply(&object, patch) {
        can_be_stored(&patched);
        let again = merge::apply(&patched, patch).expect("what can be done once can be done again");
        assert!(again == patched, "a merge patch done twice is the same as once");
    }
}

pub(crate) fn strategic_patch(data: &[u8]) {
    let Some((object, patch)) = pair(data) else { return };
    let merged = |key: &str| json!({"type": "array", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": key});
    let schema = json!({"type": "object", "properties": {
        "a": merged("name"), "b": {"type": "array", "x-kubernetes-list-type": "set"},
        "metadata": {"type": "object", "properties": {"ownerReferences": merged("uid")}},
    }});
    if let Ok(patched) = strategic::apply(&object, patch, &schema) {
        can_be_stored(&patched);
    }
}

/// Takes out what is null: of what the schema knows, nothing in a stored object is.
fn forget_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(forget_nulls),
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(forget_nulls);
        }
        _ => {}
    }
}

/// A configuration is applied to an object that nobody owns anything of, then again, then by somebody else. Neither needs to
/// be of the types of the schema; what holds of owners where they are is asked in `src/apply/tests`.
pub(crate) fn apply(data: &[u8]) {
    let Some((mut live, configuration)) = pair(data) else { return };
    forget_nulls(&mut live);
    let Ok(configuration) = decode::json(configuration) else { return };
    let type_ = Type::of_objects(&json!({"type": "object", "properties": {
        "a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "b": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "c": {"type": "array", "items": {"type": "string"}},
    }}));
    let by = |manager| Writer {
        manager,
        api_version: "v1",
        subresource: "",
        reach: Reach::AllBut(&["status"]),
        time: jiff::Timestamp::UNIX_EPOCH,
    };
    let configuration = configuration.value;
    let Ok(first) = apply::apply(&type_, Some(&live), Vec::new(), &configuration, &by("one"), true) else { return };
    can_be_stored(&first.object);
    let entries = || apply::entries(first.managed_fields.clone(), None);
    let again = apply::apply(&type_, Some(&first.object), entries(), &configuration, &by("one"), false);
    let again = again.unwrap_or_else(|refusal| panic!("what was applied cannot be applied again: {refusal:?}"));
    assert!(same(&again.object, &first.object), "{} became {}", first.object, again.object);
    let other = apply::apply(&type_, Some(&first.object), entries(), &configuration, &by("two"), false);
    let other = other.unwrap_or_else(|refusal| panic!("who wants the same is in nobody's way: {refusal:?}"));
    assert!(same(&other.object, &first.object), "{} became {}", first.object, other.object);
}

pub(crate) fn label_selector(data: &[u8]) {
    let Some(Ok(selector)) = text(data).map(LabelSelector::parse) else { return };
    let shown = selector.to_string();
    let again = LabelSelector::parse(&shown).unwrap_or_else(|error| panic!("{shown:?} cannot be read: {error}"));
    assert_eq!(selector, again, "{shown:?}");
    selector.matches(&[("a".to_owned(), "1".to_owned())].into());
}

pub(crate) fn field_selector(data: &[u8]) {
    let Some(Ok(selector)) = text(data).map(FieldSelector::parse) else { return };
    let shown = selector.to_string();
    let again = FieldSelector::parse(&shown).unwrap_or_else(|error| panic!("{shown:?} cannot be read: {error}"));
    assert_eq!(selector, again, "{shown:?}");
    selector.matches(&json!({"metadata": {"name": "a"}}));
}

pub(crate) fn page_token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(token) = PageToken::decode(text) {
        token.after();
        let again = PageToken::decode(&token.encode()).expect("what was given out is taken");
        assert_eq!(token, again);
    }
    // The other way: what is given out for any name leads there again.
    let (namespace, name) = text.split_once('/').unwrap_or(("", text));
    let token =
        PageToken::decode(&PageToken::new(Some(7), namespace, name).encode()).expect("what was given out is taken");
    assert_eq!((token.revision(), token.after()), (Some(7), (namespace, name)));
    assert_eq!(token.at_newest().revision(), None);
}

pub(crate) fn query(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let query = Query::parse(Some(text));
    if let Ok(options) = ListOptions::parse(&query) {
        options.freshness();
    }
    drop(WriteOptions::parse(&query, "PatchOptions"));
}

pub(crate) fn address(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let kinds = Kinds::new(core_kinds::all()).expect("the kinds fit together");
    for path in [text.to_owned(), format!("/api/v1/{text}"), format!("/api/v1/namespaces/{text}")] {
        if let path::Endpoint::Resource(target) = path::resolve(&kinds, &path) {
            let smuggled = |part: &str| part.contains('/') || part == "." || part == "..";
            assert!(!smuggled(target.name()) && !smuggled(target.namespace()), "{path}");
        }
    }
}
