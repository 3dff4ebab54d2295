//! The cases of `sigs.k8s.io/structured-merge-diff` (Apache-2.0, `typed/*_test.go`) about values and types alone, in a
//! language of our own. A line each:
//!
//! - `type SCHEMA`: the schema of what follows;
//! - `merge LIVE | CONFIGURATION | MERGED`;
//! - `valid VALUE`, `invalid VALUE`, `twice VALUE`: it can be applied, or not, or not only because items stand twice in it;
//! - `fields VALUE | PATH …`: what somebody who applies it owns;
//! - `compare OLD | NEW | -PATH … ~PATH … +PATH …`: what is removed, modified and added; the other way round it is the reverse;
//! - `remove VALUE | FIELDS | LEFT`;
//! - `reconcile FIELDS | PATH …`: what somebody owns after the schema has become this one.
//!
//! `FIELDS` are FieldsV1; no path at all is `nothing`, which for `reconcile` is no change.

use serde_json::{Value, json};

use super::{json, paths};
use crate::apply::{Comparison, FieldSet, Type};

/// The paths of a set, each behind a sign.
fn signed(sign: char, set: &FieldSet) -> impl Iterator<Item = String> {
    paths(set).into_iter().map(move |path| format!("{sign}{path}"))
}

fn words(words: impl IntoIterator<Item = String>) -> Value {
    let words: Vec<String> = words.into_iter().collect();
    Value::from(if words.is_empty() { "nothing".to_owned() } else { words.join(" ") })
}

fn differences(comparison: &Comparison) -> Value {
    let Comparison { removed, modified, added } = comparison;
    words(signed('-', removed).chain(signed('~', modified)).chain(signed('+', added)))
}

fn fields(text: &str) -> FieldSet {
    FieldSet::from_wire(&json(text)).unwrap()
}

/// What a line leads to, and what it should.
fn look(type_: &Type, line: &str) -> (Value, Value) {
    let (verb, rest) = line.split_once(' ').unwrap();
    let parts: Vec<&str> = rest.split(" | ").collect();
    match (verb, parts.as_slice()) {
        ("merge", [live, configuration, merged]) => (type_.merge(&json(live), &json(configuration)), json(merged)),
        ("valid", [value]) => (json!(type_.problems(&json(value))), json!([])),
        ("invalid", [value]) => (json!(type_.problems(&json(value)).is_empty()), json!(false)),
        ("twice", [value]) => {
            let problems = type_.problems(&json(value));
            (
                json!(problems.iter().all(|problem| problem.contains(": duplicate ")) && !problems.is_empty()),
                json!(true),
            )
        }
        ("fields", [value, owned]) => (words(paths(&type_.fields(&json(value)))), json!(owned)),
        ("compare", [old, new, differing]) => {
            let (there, mut back) = (type_.compare(&json(old), &json(new)), type_.compare(&json(new), &json(old)));
            std::mem::swap(&mut back.removed, &mut back.added);
            assert_eq!(there, back, "the other way round: {line}");
            (differences(&there), json!(differing))
        }
        ("remove", [value, set, left]) => (type_.remove(&json(value), &fields(set)), json(left)),
        ("reconcile", [set, owned]) => (words(type_.reconcile(&fields(set)).iter().flat_map(paths)), json!(owned)),
        _ => panic!("what is {line}?"),
    }
}

fn run(text: &str) {
    let mut type_ = Type::default();
    let mut wrong = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if let Some(schema) = line.strip_prefix("type ") {
            type_ = Type::of_objects(&json(schema));
            continue;
        }
        let (found, wanted) = look(&type_, line);
        if found != wanted {
            wrong.push(format!("{line}\n  leads to {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! vectors {
    ($($name:ident),*) => {
        $(#[test] fn $name() { run(include_str!(concat!("vectors/typed/", stringify!($name), ".txt"))); })*
    };
}

vectors!(deduced, merge, reconcile, remove, symdiff, toset, validate);
