//! Whole objects: metadata, status, the entries and what becomes of them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::writer;
use crate::apply::{
    Conflict, Conflicts, Entry, FieldSet, Operation, Reach, Refusal, Type, Writer, apply, differ, entries, update,
};

fn widgets() -> Type {
    Type::of_objects(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "colour": {"type": "string"},
            "port": {"x-kubernetes-int-or-string": true},
            "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "weight": {"type": "integer"}}}},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    }}))
}

fn widget(spec: Value) -> Value {
    let mut widget = json!({"apiVersion": "v1", "kind": "Widget", "metadata": {"name": "web", "namespace": "default"}});
    if !spec.is_null() {
        widget["spec"] = spec;
    }
    widget
}

fn main(manager: &str) -> Writer<'_> {
    Writer { reach: Reach::AllBut(&["status"]), ..writer(manager) }
}

fn status(manager: &str) -> Writer<'_> {
    Writer { reach: Reach::Only(&["status"]), subresource: "status", ..writer(manager) }
}

fn at(writer: Writer<'_>, second: i64) -> Writer<'_> {
    Writer { time: Timestamp::from_second(second).unwrap(), ..writer }
}

fn fields(managed_fields: Option<&Value>, at: usize) -> Value {
    managed_fields.map_or(Value::Null, |entries| entries[at]["fieldsV1"].clone())
}

#[test]
fn who_creates_owns_everything_but_identity_and_status() {
    let mut new = widget(json!({"size": 1, "parts": [{"name": "a"}], "port": "http", "free": {"x": [1]}}));
    new["metadata"]["labels"] = json!({"app": "web"});
    new["metadata"]["finalizers"] = json!(["a.dev/b"]);
    new["metadata"]["ownerReferences"] = json!([{"uid": "u", "name": "n", "kind": "K", "apiVersion": "v1"}]);
    new["metadata"]["uid"] = json!("1");
    new["status"] = json!({"phase": "Up"});
    let managed_fields = update(&widgets(), None, &new, Vec::new(), &main("kubectl-create")).unwrap();
    assert_eq!(
        managed_fields,
        json!([{
            "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "1970-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {
                    "f:labels": {".": {}, "f:app": {}},
                    "f:finalizers": {".": {}, "v:\"a.dev/b\"": {}},
                    "f:ownerReferences": {".": {}, "k:{\"uid\":\"u\"}": {}},
                },
                "f:spec": {
                    ".": {}, "f:size": {}, "f:port": {}, "f:free": {".": {}, "f:x": {}},
                    "f:parts": {".": {}, "k:{\"name\":\"a\"}": {".": {}, "f:name": {}}},
                },
            },
        }])
    );
}

#[test]
fn an_update_takes_what_it_changes_and_nothing_else() {
    let (type_, old) = (widgets(), widget(json!({"size": 1, "colour": "red"})));
    let first = update(&type_, None, &old, Vec::new(), &at(main("ada"), 1));
    let new = widget(json!({"size": 2, "colour": "red"}));
    let second = update(&type_, Some(&old), &new, entries(first.clone(), None), &at(main("bob"), 2));
    assert_eq!(fields(second.as_ref(), 0), json!({"f:spec": {".": {}, "f:colour": {}}}));
    assert_eq!(fields(second.as_ref(), 1), json!({"f:spec": {"f:size": {}}}));
    // The same values again are no change, not even of a time.
    let third = update(&type_, Some(&new), &new, entries(second.clone(), None), &at(main("eve"), 3));
    assert_eq!(third, second);
    // What is gone is nobody's.
    let less = widget(json!({"size": 2}));
    let fourth = update(&type_, Some(&new), &less, entries(third.clone(), None), &at(main("eve"), 4));
    assert_eq!(fields(fourth.as_ref(), 0), json!({"f:spec": {}}));
    assert_eq!(fourth.unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn updates_of_status_have_an_entry_of_their_own() {
    let (type_, old) = (widgets(), widget(json!({"size": 1})));
    let first = update(&type_, None, &old, Vec::new(), &at(main("controller"), 1));
    let mut new = old.clone();
    new["status"] = json!({"phase": "Up"});
    let second = update(&type_, Some(&old), &new, entries(first.clone(), None), &at(status("controller"), 2)).unwrap();
    assert_eq!(second[1]["subresource"], "status");
    assert_eq!(second[1]["fieldsV1"], json!({"f:status": {".": {}, "f:phase": {}}}));
    // Changing the same fields again changes the time alone.
    let mut newer = new.clone();
    newer["status"]["phase"] = json!("Down");
    let third =
        update(&type_, Some(&new), &newer, entries(Some(second.clone()), None), &at(status("controller"), 3)).unwrap();
    assert_eq!(third[1]["time"], "1970-01-01T00:00:03Z");
    assert!(!differ(Some(&second), Some(&third)), "only the time differs");
    assert_eq!(third[0], second[0]);
}

#[test]
fn at_most_ten_entries_of_updates_are_kept() {
    let type_ = widgets();
    let mut object = widget(json!({"free": {}}));
    let mut managed_fields = update(&type_, None, &object, Vec::new(), &at(main("first"), 0));
    for number in 1..=15 {
        let mut next = object.clone();
        next["spec"]["free"][format!("x{number}")] = json!(number);
        let name = format!("writer-{number:02}");
        let before = entries(managed_fields.clone(), None);
        managed_fields = update(&type_, Some(&object), &next, before, &at(main(&name), number));
        object = next;
    }
    let entries = entries(managed_fields.clone(), None);
    let names: Vec<&str> = entries.iter().map(Entry::manager).collect();
    assert_eq!(names.len(), 10);
    assert_eq!((names[0], names[9]), ("ancient-changes", "writer-15"));
    let owned = entries.iter().fold(crate::apply::FieldSet::default(), |all, entry| all.union(&entry.set().unwrap()));
    assert_eq!(owned.leaves().len(), 15, "{owned:?}");
}

#[test]
fn who_applies_to_what_nobody_owned_conflicts_with_what_was_before() {
    let (type_, live) = (widgets(), widget(json!({"size": 1, "colour": "red"})));
    let configuration = widget(json!({"size": 2}));
    let refusal = apply(&type_, Some(&live), Vec::new(), &configuration, &main("ada"), false).unwrap_err();
    let Refusal::Conflicts(conflicts) = refusal else { panic!("{refusal:?}") };
    assert_eq!(
        conflicts.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1 at 1970-01-01T00:00:00Z: .spec.size"
    );
    let applied = apply(&type_, Some(&live), Vec::new(), &configuration, &main("ada"), true).unwrap();
    assert_eq!(applied.object["spec"], json!({"size": 2, "colour": "red"}));
    assert_eq!(fields(applied.managed_fields.as_ref(), 0), json!({"f:spec": {"f:size": {}}}));
    assert_eq!(fields(applied.managed_fields.as_ref(), 1), json!({"f:spec": {".": {}, "f:colour": {}}}));
}

#[test]
fn several_conflicts_are_listed_by_owner() {
    let type_ = widgets();
    let one =
        apply(&type_, None, Vec::new(), &widget(json!({"size": 1, "colour": "red"})), &main("ada"), false).unwrap();
    let mut live = one.object.clone();
    live["spec"]["port"] = json!(80);
    let managed = update(&type_, Some(&one.object), &live, entries(one.managed_fields.clone(), None), &main("bob"));
    let other = widget(json!({"size": 2, "colour": "green", "port": "http"}));
    let refused = apply(&type_, Some(&live), entries(managed.clone(), None), &other, &main("eve"), false).unwrap_err();
    let Refusal::Conflicts(conflicts) = refused else { panic!("{refused:?}") };
    assert_eq!(
        conflicts.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"ada\":\n- .spec.colour\n- .spec.size\nconflicts with \"bob\" using v1 at 1970-01-01T00:00:00Z:\n- .spec.port"
    );
}

/// The cases of `sigs.k8s.io/structured-merge-diff` (Apache-2.0, `merge/conflict_test.go`) about how conflicts read.
#[test]
fn conflicts_name_items_of_lists_by_their_keys() {
    let owned = |manager: &str, fields: &Value| {
        let set = FieldSet::from_wire(fields).unwrap();
        let entry = Entry::new(manager, Operation::Apply, "v1", "", set.clone());
        set.paths().into_iter().map(move |path| Conflict::new(&entry, path)).collect::<Vec<_>>()
    };
    let item = "k:{\"key\":\"a\",\"id\":2}";
    let alice = owned("Alice", &json!({"f:value": {}, "f:list": {item: {"f:key": {}}}}));
    let bob = owned("Bob", &json!({"f:key": {}, "f:list": {item: {"f:id": {}}}}));
    assert_eq!(
        Conflicts([alice, bob].concat()).to_string(),
        "Apply failed with 4 conflicts: conflicts with \"Alice\":\n- .value\n- .list[id=2,key=\"a\"].key\nconflicts with \"Bob\":\n- .key\n- .list[id=2,key=\"a\"].id"
    );
    let nested = json!({"f:template": {"f:list": {"k:{\"name\":\"a\"}": {"f:id": {}, "f:key": {}}}}});
    assert_eq!(
        Conflicts(owned("Bob", &nested)).to_string(),
        "Apply failed with 2 conflicts: conflicts with \"Bob\":\n- .template.list[name=\"a\"].id\n- .template.list[name=\"a\"].key"
    );
}

#[test]
fn status_in_a_configuration_is_applied_only_where_it_can_be_written() {
    let type_ = widgets();
    let mut configuration = widget(json!({"size": 1}));
    configuration["status"] = json!({"phase": "Up"});
    let applied = apply(&type_, None, Vec::new(), &configuration, &main("ada"), false).unwrap();
    assert_eq!(applied.object.get("status"), None);
    let live = applied.object;
    let before = entries(applied.managed_fields.clone(), None);
    configuration["metadata"]["labels"] = json!({"not": "here"});
    let applied = apply(&type_, Some(&live), before, &configuration, &status("ada"), false).unwrap();
    assert_eq!(applied.object["status"], json!({"phase": "Up"}));
    assert_eq!(applied.object["metadata"], live["metadata"]);
    let managed = applied.managed_fields.unwrap();
    assert_eq!(managed.as_array().unwrap().len(), 2);
    assert_eq!(managed[1]["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
}

#[test]
fn who_leaves_out_what_others_own_too_gives_up_the_ownership_alone() {
    let type_ = widgets();
    let both = widget(json!({"size": 1, "parts": [{"name": "a", "weight": 1}]}));
    let ada = apply(&type_, None, Vec::new(), &both, &main("ada"), false).unwrap();
    let bob = apply(&type_, Some(&ada.object), entries(ada.managed_fields.clone(), None), &both, &main("bob"), false);
    let bob = bob.unwrap();
    let none = widget(Value::Null);
    let ada = apply(&type_, Some(&bob.object), entries(bob.managed_fields.clone(), None), &none, &main("ada"), false);
    let ada = ada.unwrap();
    assert_eq!(ada.object, bob.object);
    assert!(differ(bob.managed_fields.as_ref(), ada.managed_fields.as_ref()));
    let bob = apply(&type_, Some(&ada.object), entries(ada.managed_fields.clone(), None), &none, &main("bob"), false);
    let bob = bob.unwrap();
    assert_eq!(bob.object, none, "nobody is left who wants it");
    assert_eq!(bob.managed_fields, None);
}

#[test]
fn entries_that_are_sent_count_unless_they_are_none() {
    let type_ = widgets();
    let stored = update(&type_, None, &widget(json!({"size": 1})), Vec::new(), &main("ada"));
    let count = |sent: Value| entries(stored.clone(), Some(sent)).len();
    assert_eq!(count(Value::Null), 1, "absent keeps");
    assert_eq!(count(json!([])), 0, "empty removes");
    assert_eq!(count(json!([{}])), 0, "one empty entry removes");
    assert_eq!(count(json!([{"manager": "x"}, {}])), 1, "malformed does not count");
    let other = json!([{"manager": "eve", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                        "time": "2026-01-01T01:00:00+01:00", "fieldsV1": {"f:spec": {"f:size": {".": {}}}}}]);
    let read = entries(stored.clone(), Some(other));
    assert_eq!(read[0].manager(), "eve");
    assert_eq!(read[0].time().unwrap().to_string(), "2026-01-01T00:00:00Z");
}

#[test]
fn an_object_whose_entries_were_removed_is_tracked_again_by_the_first_apply() {
    let (type_, old, new) = (widgets(), widget(json!({"size": 1})), widget(json!({"size": 2})));
    assert_eq!(update(&type_, Some(&old), &new, Vec::new(), &main("ada")), None);
    let applied = apply(&type_, Some(&new), Vec::new(), &new, &main("ada"), false).unwrap();
    assert_eq!(applied.managed_fields.unwrap().as_array().unwrap().len(), 2);
}

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[test]
fn what_kubectl_applied_itself_does_not_stand_in_its_way() {
    let type_ = widgets();
    let applied = widget(json!({"size": 1, "colour": "red"}));
    let mut live = applied.clone();
    live["metadata"]["annotations"] = json!({ANNOTATION: applied.to_string()});
    let by = main("kubectl-client-side-apply");
    let managed = update(&type_, None, &live, Vec::new(), &by);
    let next = widget(json!({"size": 2, "colour": "red"}));
    let before = || entries(managed.clone(), None);
    assert!(apply(&type_, Some(&live), before(), &next, &main("somebody"), false).is_err());
    let upgraded = apply(&type_, Some(&live), before(), &next, &main("kubectl"), false).unwrap();
    assert_eq!(upgraded.object["spec"]["size"], 2);
    let refreshed = upgraded.object["metadata"]["annotations"][ANNOTATION].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(refreshed).unwrap(), next);
    // Somebody else has changed a field since: that one is in the way, the other is not.
    let mut changed = live.clone();
    changed["spec"]["colour"] = json!("green");
    let managed = update(&type_, Some(&live), &changed, before(), &main("eve"));
    let next = widget(json!({"size": 3, "colour": "blue"}));
    let refused = apply(&type_, Some(&changed), entries(managed.clone(), None), &next, &main("kubectl"), false);
    let Err(Refusal::Conflicts(conflicts)) = refused else { panic!("{refused:?}") };
    assert_eq!(conflicts.0.len(), 1, "{conflicts}");
    assert!(conflicts.to_string().ends_with(".spec.colour"), "{conflicts}");
}

#[test]
fn a_list_that_has_become_atomic_is_owned_as_one_value() {
    let schema = |list: &str| json!({"type": "object", "properties": {"list": {"type": "array", "x-kubernetes-list-type": list, "items": {"type": "string"}}}});
    let (before, after) = (Type::of_objects(&schema("set")), Type::of_objects(&schema("atomic")));
    let ada = apply(&before, None, Vec::new(), &json!({"list": ["a"]}), &writer("ada"), false).unwrap();
    let old = entries(ada.managed_fields.clone(), None);
    let refused = apply(&after, Some(&ada.object), old.clone(), &json!({"list": ["b"]}), &writer("bob"), false);
    assert!(matches!(refused, Err(Refusal::Conflicts(_))), "{refused:?}");
    let ada = apply(&after, Some(&ada.object), old, &json!({"list": ["b"]}), &writer("ada"), false).unwrap();
    assert_eq!(ada.object, json!({"list": ["b"]}));
    assert_eq!(fields(ada.managed_fields.as_ref(), 0), json!({"f:list": {}}));
}

#[test]
fn lists_that_cannot_be_merged_are_named() {
    let type_ = widgets();
    let twice = widget(json!({"parts": [{"name": "a"}, {"name": "a"}, {"weight": 1}, 5]}));
    let Err(Refusal::Impossible(problems)) = apply(&type_, None, Vec::new(), &twice, &main("ada"), true) else {
        panic!()
    };
    assert_eq!(
        problems,
        [
            ".spec.parts: duplicate entries for key [name=\"a\"]",
            ".spec.parts: element 2: associative list with keys has an element that omits all key fields [\"name\"] (and doesn't have default values for any key fields)",
            ".spec.parts: element 3: associative list with keys may not have non-map elements",
        ]
    );
}
