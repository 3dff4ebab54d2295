//! The three formats, by example and by law.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn json_patch(current: &Value, patch: &Value, expected: Result<Value, &str>) {
    compare(json::apply(current, patch.to_string().as_bytes()), expected);
}

#[track_caller]
fn compare(result: Result<Value, PatchError>, expected: Result<Value, &str>) {
    match (result, expected) {
        (Ok(value), Ok(expected)) => assert_eq!(value, expected),
        (Err(PatchError::Failed(message)), Err(part)) => assert!(message.contains(part), "{message}"),
        (result, expected) => panic!("expected {expected:?}, got {result:?}"),
    }
}

#[test]
fn json_patch_follows_its_operations() {
    let object = json!({"metadata": {"name": "web"}, "spec": {"list": [1, 2]}});
    json_patch(
        &object,
        &json!([
            {"op": "test", "path": "/metadata/name", "value": "web"},
            {"op": "add", "path": "/spec/list/-", "value": 3},
            {"op": "replace", "path": "/spec/list/0", "value": 0},
            {"op": "copy", "from": "/spec/list", "path": "/spec/copy"},
            {"op": "remove", "path": "/spec/copy/1"},
            {"op": "move", "from": "/spec/copy", "path": "/moved"},
        ]),
        Ok(json!({"metadata": {"name": "web"}, "spec": {"list": [0, 2, 3]}, "moved": [0, 3]})),
    );
    json_patch(&object, &json!([{"op": "test", "path": "/metadata/name", "value": "db"}]), Err("it is \"web\""));
    json_patch(&object, &json!([{"op": "remove", "path": "/spec/none"}]), Err("there is no such path"));
    json_patch(&object, &json!([{"op": "replace", "path": "/spec/none", "value": 1}]), Err("there is no such path"));
    json_patch(&object, &json!([{"op": "add", "path": "/a/b/c", "value": 1}]), Err("there is no such path"));
    json_patch(&object, &json!([{"op": "copy", "from": "/a", "path": "/b"}]), Err("there is nothing at \"from\""));
    json_patch(&object, &json!([{"op": "move", "from": "/spec", "path": "/spec/in"}]), Err("moved into itself"));
}

#[test]
fn what_is_absent_equals_null() {
    // The first finalizer is added like this.
    json_patch(
        &json!({"metadata": {}}),
        &json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["berth.dev/cleanup"]},
        ]),
        Ok(json!({"metadata": {"finalizers": ["berth.dev/cleanup"]}})),
    );
    json_patch(&json!({"a": 1}), &json!([{"op": "test", "path": "/a", "value": null}]), Err("it is 1"));
    json_patch(&json!({"a": null}), &json!([{"op": "test", "path": "/a", "value": null}]), Ok(json!({"a": null})));
}

#[test]
fn json_patch_has_bounds() {
    let object = json!({"a": "x".repeat(1000)});
    let many = vec![json!({"op": "test", "path": "/b", "value": null}); json::OPERATIONS_MAX + 1];
    assert!(matches!(json::apply(&object, json!(many).to_string().as_bytes()), Err(PatchError::TooLarge(_))));
    let copy = |to: &str| json!({"op": "copy", "from": "", "path": to});
    let doubling: Vec<Value> = (0..40).map(|n| copy(if n % 2 == 0 { "/b" } else { "/c" })).collect();
    assert!(matches!(json::apply(&object, json!(doubling).to_string().as_bytes()), Err(PatchError::TooLarge(_))));
    let deepening = vec![json!({"op": "copy", "from": "", "path": "/b"}); 200];
    json_patch(&json!({}), &json!(deepening), Err("nested deeper"));
    for patch in ["", "{}", "[{\"op\":\"none\"}]", "[{\"op\":\"add\",\"path\":\"no-slash\",\"value\":1}]", "[1]"] {
        assert!(matches!(json::apply(&object, patch.as_bytes()), Err(PatchError::Syntax(_))), "{patch}");
    }
}

#[test]
fn merge_patch_merges() {
    // The examples of RFC 7386 whose patches are objects.
    for (current, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        compare(merge::apply(&current, patch.to_string().as_bytes()), Ok(expected));
    }
    for patch in ["[]", "1", "", "{"] {
        assert!(matches!(merge::apply(&json!({}), patch.as_bytes()), Err(PatchError::Syntax(_))), "{patch}");
    }
}

fn schema() -> Value {
    json!({"properties": {
        "metadata": {"type": "object"},
        "data": {"additionalProperties": {"type": "string"}},
        "status": crate::core_kinds::namespace().schema["properties"]["status"],
    }})
}

#[track_caller]
fn strategic(current: &Value, patch: &Value, expected: &Value) {
    compare(strategic::apply(current, patch.to_string().as_bytes(), &schema()), Ok(expected.clone()));
}

#[test]
fn strategic_patch_merges_by_the_schema() {
    let condition = |type_: &str, status: &str| json!({"type": type_, "status": status});
    let owner = |uid: &str, name: &str| json!({"uid": uid, "name": name});
    strategic(
        &json!({"data": {"a": "1", "b": "2"}}),
        &json!({"data": {"a": null, "c": "3"}}),
        &json!({"data": {"b": "2", "c": "3"}}),
    );
    strategic(
        &json!({"metadata": {"finalizers": ["a"]}}),
        &json!({"metadata": {"finalizers": ["b", "a"]}}),
        &json!({"metadata": {"finalizers": ["a", "b"]}}),
    );
    strategic(
        &json!({"metadata": {"finalizers": ["a", "b"]}}),
        &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
        &json!({"metadata": {"finalizers": ["b"]}}),
    );
    strategic(
        &json!({"metadata": {"ownerReferences": [owner("1", "a"), owner("2", "b")]}}),
        &json!({"metadata": {"ownerReferences": [{"uid": "2", "name": "c"}, {"uid": "3", "name": "d"}, {"uid": "1", "$patch": "delete"}]}}),
        &json!({"metadata": {"ownerReferences": [owner("2", "c"), owner("3", "d")]}}),
    );
    strategic(
        &json!({"status": {"conditions": [condition("A", "True"), condition("B", "True")]}}),
        &json!({"status": {"conditions": [{"type": "B", "status": "False"}]}}),
        &json!({"status": {"conditions": [condition("A", "True"), condition("B", "False")]}}),
    );
    // A list without marks is replaced.
    strategic(
        &json!({"spec": {"finalizers": ["a"]}}),
        &json!({"spec": {"finalizers": ["b"]}}),
        &json!({"spec": {"finalizers": ["b"]}}),
    );
}

#[test]
fn strategic_directives_are_obeyed_and_never_stored() {
    strategic(
        &json!({"data": {"a": "1"}}),
        &json!({"data": {"$patch": "replace", "b": "2"}}),
        &json!({"data": {"b": "2"}}),
    );
    strategic(&json!({"data": {"a": "1"}}), &json!({"data": {"$patch": "delete"}}), &json!({"data": {}}));
    strategic(
        &json!({"data": {"a": "1"}}),
        &json!({"data": {"$patch": "merge", "b": "2"}}),
        &json!({"data": {"a": "1", "b": "2"}}),
    );
    strategic(
        &json!({"data": {"a": "1", "b": "2"}}),
        &json!({"data": {"$retainKeys": ["a"], "a": "3"}}),
        &json!({"data": {"a": "3"}}),
    );
    strategic(&json!({}), &json!({"data": {"$patch": "merge", "x": null, "b": "2"}}), &json!({"data": {"b": "2"}}));
    strategic(
        &json!({"metadata": {"finalizers": ["c", "mine", "a"]}}),
        &json!({"metadata": {"$setElementOrder/finalizers": ["a", "b", "c"], "finalizers": ["b"]}}),
        &json!({"metadata": {"finalizers": ["mine", "a", "b", "c"]}}),
    );
    strategic(
        &json!({"status": {"conditions": [{"type": "A"}, {"type": "B"}]}}),
        &json!({"status": {"$setElementOrder/conditions": [{"type": "B"}, {"type": "A"}]}}),
        &json!({"status": {"conditions": [{"type": "B"}, {"type": "A"}]}}),
    );
    strategic(
        &json!({"status": {"conditions": [{"type": "A"}]}}),
        &json!({"status": {"conditions": [{"$patch": "replace"}, {"type": "B"}]}}),
        &json!({"status": {"conditions": [{"type": "B"}]}}),
    );
    for patch in [
        json!({"data": {"$patch": "explode"}}),
        json!({"data": {"$retainKeys": ["a"], "b": "2"}}),
        json!({"metadata": {"ownerReferences": [{"name": "no uid"}]}}),
        json!({"metadata": {"ownerReferences": ["text"]}}),
        json!({"metadata": {"$setElementOrder/finalizers": "a"}}),
        json!([]),
    ] {
        let result = strategic::apply(&json!({}), patch.to_string().as_bytes(), &schema());
        assert!(matches!(result, Err(PatchError::Syntax(_))), "{patch}: {result:?}");
    }
}

fn data() -> impl Strategy<Value = Value> {
    let map = proptest::collection::btree_map("[a-d]", "[x-z]".prop_map(Value::from), 0..4);
    let names = proptest::collection::btree_set("[a-e]", 0..4).prop_map(|set| json!(set));
    (map, names).prop_map(|(data, finalizers)| json!({"metadata": {"finalizers": finalizers}, "data": data}))
}

proptest! {
    #[test]
    fn patching_twice_is_patching_once(current in data(), patch in data()) {
        let patch = patch.to_string();
        for apply in [
            (|current: &Value, patch: &str| merge::apply(current, patch.as_bytes())) as fn(&Value, &str) -> _,
            |current, patch| strategic::apply(current, patch.as_bytes(), &schema()),
        ] {
            let once = apply(&current, &patch).unwrap();
            prop_assert_eq!(apply(&once, &patch), Ok(once.clone()));
            prop_assert_eq!(apply(&current, "{}"), Ok(current.clone()));
        }
    }

    #[test]
    fn a_strategic_patch_sets_what_it_names_and_loses_no_member(current in data(), patch in data()) {
        let result = strategic::apply(&current, patch.to_string().as_bytes(), &schema()).unwrap();
        for (key, value) in patch["data"].as_object().unwrap() {
            prop_assert_eq!(&result["data"][key], value);
        }
        let after = result["metadata"]["finalizers"].as_array().unwrap();
        for source in [&current, &patch] {
            for finalizer in source["metadata"]["finalizers"].as_array().unwrap() {
                prop_assert_eq!(after.iter().filter(|f| *f == finalizer).count(), 1);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_patches_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[{\"oppathvlu$:,/~01\\]}]{0,60}") {
        let object = json!({"metadata": {"finalizers": ["a"]}});
        for body in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(!matches!(json::apply(&object, body), Err(PatchError::TooLarge(_))));
            prop_assert!(matches!(merge::apply(&object, body), Ok(Value::Object(_)) | Err(PatchError::Syntax(_))));
            prop_assert!(matches!(strategic::apply(&object, body, &schema()), Ok(Value::Object(_)) | Err(PatchError::Syntax(_))));
        }
    }
}
