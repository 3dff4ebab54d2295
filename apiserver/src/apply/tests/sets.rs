//! Sets of paths and their form on the wire.

use serde_json::json;

use crate::apply::{Element, FieldSet};

#[test]
fn the_wire_form_is_that_of_kubernetes() {
    for wire in [
        json!({"f:spec": {"f:size": {}}, "f:metadata": {"f:labels": {".": {}, "f:app": {}}}}),
        json!({"f:list": {".": {}, "k:{\"name\":\"a\",\"port\":80}": {".": {}, "f:name": {}}, "v:\"x\"": {}, "v:1": {}, "v:true": {}, "i:0": {}}}),
        json!({}),
    ] {
        let set = FieldSet::from_wire(&wire).unwrap();
        assert_eq!(set.clone().into_wire(), wire);
        assert_eq!(FieldSet::from_wire(&set.clone().into_wire()).unwrap(), set);
    }
}

#[test]
fn other_writings_of_the_same_set_are_the_same() {
    let wire = json!({"f:a": {".": {}}, "k:{ \"b\" : 1.0, \"a\" : \"x\" }": {}, "z:future": {"f:x": {}}, ".": {}});
    let set = FieldSet::from_wire(&wire).unwrap();
    assert_eq!(set.clone().into_wire(), json!({"f:a": {}, "k:{\"a\":\"x\",\"b\":1}": {}}));
}

#[test]
fn what_is_malformed_is_refused() {
    for wire in
        [json!([]), json!({"f:a": 1}), json!({"a": {}}), json!({"k:[]": {}}), json!({"v:": {}}), json!({"i:x": {}})]
    {
        assert!(FieldSet::from_wire(&wire).is_err(), "{wire}");
    }
}

#[test]
fn paths_are_written_as_conflicts_name_them() {
    let (a, two) = (json!("a"), json!(2));
    let mut set = FieldSet::default();
    set.insert([Element::field("list"), Element::key(vec![("key", &a), ("id", &two)]), Element::field("id")]);
    set.insert([Element::field("value")]);
    set.insert([Element::field("set"), Element::value(&json!("x y"))]);
    let paths: Vec<String> = set.paths().iter().map(ToString::to_string).collect();
    assert_eq!(paths, [".value", ".list[id=2,key=\"a\"].id", ".set[=\"x y\"]"]);
    assert_eq!(set.len(), 3);
}

#[test]
fn leaves_are_the_paths_with_nothing_below() {
    let set = FieldSet::from_wire(&json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}})).unwrap();
    assert_eq!(set.leaves().into_wire(), json!({"f:a": {"f:b": {}}, "f:c": {}}));
}
