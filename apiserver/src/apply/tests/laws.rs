//! What holds whatever is applied by whom.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::writer;
use crate::apply::{Applied, FieldSet, Refusal, Type, apply, entries, update};

fn type_() -> Type {
    Type::of_objects(&json!({"type": "object", "properties": {
        "number": {"type": "integer"},
        "atomic": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
        "free": {"x-kubernetes-preserve-unknown-fields": true},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "kind"],
            "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "kind": {"type": "string", "default": "x"}, "value": {"type": "integer"},
                "inner": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}}}}},
    }}))
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn set() -> impl Strategy<Value = Value> {
    prop::collection::btree_set(word(), 0..4).prop_map(|words| json!(words)).prop_shuffle_list()
}

/// A list in any order.
trait Shuffled: Strategy<Value = Value> + Sized {
    fn prop_shuffle_list(self) -> BoxedStrategy<Value>
    where
        Self: 'static,
    {
        self.prop_flat_map(|list| {
            Just(list.as_array().cloned().unwrap_or_default()).prop_shuffle().prop_map(Value::Array)
        })
        .boxed()
    }
}

impl<S: Strategy<Value = Value>> Shuffled for S {}

fn items() -> impl Strategy<Value = Value> {
    let rest = (prop::option::of(0..3), prop::option::of(prop::collection::btree_set(0..3, 0..3)));
    let keyed = prop::collection::btree_map((word(), prop::option::of(word())), rest, 0..3);
    let list = keyed.prop_map(|items| {
        let items = items.into_iter().map(|((name, kind), (value, inner))| {
            let all = [("name", json!(name)), ("kind", json!(kind)), ("value", json!(value)), ("inner", json!(inner))];
            let given = all.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect())
        });
        Value::Array(items.collect())
    });
    list.prop_shuffle_list()
}

fn free() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![Just(Value::Null), (0..3).prop_map(|n| json!(n)), word().prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(word(), inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    let some = |value: BoxedStrategy<Value>| prop::option::of(value);
    let fields = (
        some((0..3).prop_map(|n| json!(n)).boxed()),
        some(prop::collection::vec(word(), 0..3).prop_map(|list| json!(list)).boxed()),
        some(set().boxed()),
        some(prop::collection::btree_map(word(), word(), 0..3).prop_map(|map| json!(map)).boxed()),
        some(free().boxed()),
        some(items().boxed()),
    );
    fields.prop_map(|(number, atomic, set, map, free, items)| {
        let all =
            [("number", number), ("atomic", atomic), ("set", set), ("map", map), ("free", free), ("items", items)];
        let given = all.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value)));
        Value::Object(given.collect())
    })
}

fn field_set() -> impl Strategy<Value = FieldSet> {
    object().prop_map(|object| type_().fields(&object))
}

/// Something that happens to an object.
#[derive(Clone, Debug)]
enum Event {
    Apply(usize, Value),
    Update(usize, Value),
}

const NAMES: [&str; 3] = ["ada", "bob", "eve"];

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = (any::<bool>(), 0..NAMES.len(), object());
    let event =
        event.prop_map(|(apply, who, what)| if apply { Event::Apply(who, what) } else { Event::Update(who, what) });
    prop::collection::vec(event, 1..6)
}

struct World {
    type_: Type,
    live: Option<Value>,
    managed_fields: Option<Value>,
}

impl World {
    fn after(events: Vec<Event>) -> Self {
        let mut world = Self { type_: type_(), live: None, managed_fields: None };
        for event in events {
            match event {
                Event::Apply(who, what) => world.keep(world.apply(NAMES[who], &what, true)),
                Event::Update(who, what) => {
                    let entries = entries(world.managed_fields.clone(), None);
                    world.managed_fields =
                        update(&world.type_, world.live.as_ref(), &what, entries, &writer(NAMES[who]));
                    world.live = Some(what);
                }
            }
        }
        world
    }

    fn apply(&self, who: &str, what: &Value, force: bool) -> Result<Applied, Refusal> {
        let entries = entries(self.managed_fields.clone(), None);
        apply(&self.type_, self.live.as_ref(), entries, what, &writer(who), force)
    }

    fn keep(&mut self, applied: Result<Applied, Refusal>) {
        if let Ok(applied) = applied {
            self.live = Some(applied.object);
            self.managed_fields = applied.managed_fields;
        }
    }

    /// What everybody but `who` owns by applying or updating.
    fn owned_by_others(&self, who: &str) -> FieldSet {
        let all = entries(self.managed_fields.clone(), None);
        let others = all.iter().filter(|e| !(e.manager() == who && e.operation() == crate::apply::Operation::Apply));
        others.fold(FieldSet::default(), |all, entry| all.union(&entry.set().unwrap()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn applying_again_changes_nothing(events in events(), what in object()) {
        let mut world = World::after(events);
        // An object without any owner is one that was not tracked: the next apply names an owner of what it finds.
        if let Ok(first) = world.apply("ada", &what, true)
            && first.managed_fields.is_some()
        {
            world.keep(Ok(first.clone()));
            let second = world.apply("ada", &what, false);
            prop_assert_eq!(second, Ok(first));
        }
    }

    #[test]
    fn without_force_nothing_of_others_changes(events in events(), what in object()) {
        let world = World::after(events);
        if let (Ok(applied), Some(live)) = (world.apply("ada", &what, false), &world.live) {
            let (changed, _) = world.type_.compare(live, &applied.object).split();
            prop_assert!(changed.intersection(&world.owned_by_others("ada")).is_empty());
        }
    }

    #[test]
    fn only_what_one_owned_alone_disappears(events in events(), what in object()) {
        let world = World::after(events);
        if let (Ok(applied), Some(live)) = (world.apply("ada", &what, true), &world.live) {
            let all = entries(world.managed_fields.clone(), None);
            let mine = all.iter().find(|e| e.manager() == "ada" && e.operation() == crate::apply::Operation::Apply);
            let mine = world.type_.with_named(&mine.map(|entry| entry.set().unwrap()).unwrap_or_default());
            let before = world.type_.everything(live);
            let after = world.type_.everything(&applied.object);
            // What was replaced by a value of another kind is changed, not removed.
            let (changed, _) = world.type_.compare(live, &applied.object).split();
            let gone = before.difference(&after);
            let others = world.type_.with_named(&world.owned_by_others("ada"));
            for path in gone.paths() {
                if (1..=path.0.len()).any(|end| changed.contains(&path.0[..end])) {
                    continue;
                }
                // An item goes with all that is in it: what counts is who owns the item.
                let top = (1..=path.0.len()).map(|end| &path.0[..end]).find(|above| gone.contains(above)).unwrap();
                prop_assert!((1..=top.len()).any(|end| mine.contains(&top[..end])), "{} was never applied by ada", path);
                prop_assert!(!others.contains(top), "{} is somebody's", path);
            }
        }
    }

    #[test]
    fn what_is_applied_is_there_and_owned(events in events(), what in object()) {
        let world = World::after(events);
        if let Ok(applied) = world.apply("ada", &what, true) {
            // Merged into the result once more, it has nothing to add.
            prop_assert_eq!(&world.type_.merge(&applied.object, &what), &applied.object);
            let entries = entries(applied.managed_fields.clone(), None);
            let mine = entries.iter().find(|e| e.manager() == "ada" && e.operation() == crate::apply::Operation::Apply);
            let mine = mine.map(|entry| entry.set().unwrap()).unwrap_or_default();
            prop_assert_eq!(mine, world.type_.fields(&what));
        }
    }

    #[test]
    fn nothing_is_lost_by_merging(live in object(), what in object()) {
        let type_ = type_();
        let merged = type_.merge(&live, &what);
        let comparison = type_.compare(&live, &merged);
        let set = type_.fields(&what);
        for path in comparison.removed.paths() {
            let replaced = (1..=path.0.len()).any(|end| set.contains(&path.0[..end]));
            prop_assert!(replaced, "{} was lost", path);
        }
    }

    #[test]
    fn comparing_finds_exactly_what_differs(left in object(), right in object()) {
        let type_ = type_();
        prop_assert!(type_.compare(&left, &left).is_same());
        let comparison = type_.compare(&left, &right);
        let back = type_.compare(&right, &left);
        prop_assert_eq!(&comparison.added, &back.removed);
        prop_assert_eq!(&comparison.removed, &back.added);
        prop_assert_eq!(&comparison.modified, &back.modified);
    }

    #[test]
    fn nobody_owns_what_is_not_there(events in events()) {
        let world = World::after(events);
        let everything = world.type_.everything(world.live.as_ref().unwrap());
        for entry in entries(world.managed_fields.clone(), None) {
            let missing = entry.set().unwrap().difference(&everything);
            prop_assert!(missing.is_empty(), "{} owns {:?}", entry.manager(), missing.clone().into_wire());
        }
    }

    #[test]
    fn the_wire_form_is_read_back(set in field_set()) {
        prop_assert_eq!(FieldSet::from_wire(&set.clone().into_wire()).unwrap(), set);
    }

    #[test]
    fn sets_follow_the_laws_of_sets(a in field_set(), b in field_set(), c in field_set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.difference(&b.union(&c)), a.difference(&b).difference(&c));
        prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
        prop_assert_eq!(a.paths().into_iter().collect::<FieldSet>(), a.clone());
        prop_assert_eq!(a.paths().len(), a.len());
        prop_assert_eq!(crate::apply::wire::overlaps(&a.clone().into_wire(), &b), !a.intersection(&b).is_empty());
        prop_assert_eq!(crate::apply::wire::covers(&a.clone().into_wire(), &b), b.difference(&a).is_empty());
    }
}
