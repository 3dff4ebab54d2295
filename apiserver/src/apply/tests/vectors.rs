//! The cases of `sigs.k8s.io/structured-merge-diff` (Apache-2.0, `merge/*_test.go`), in a language of our own. A line each:
//!
//! - `type SCHEMA`: the schema of what follows;
//! - `case NAME`: begins with nothing there;
//! - `ignores WHO NAME …`: WHO cannot set these fields of the object;
//! - `apply WHO WHAT`, `force WHO WHAT`, `update WHO WHAT`: applies, applies with force, or replaces;
//! - `extract WHO WHAT`: applies what WHO owns already and WHAT in addition;
//! - `conflict WHO WHAT | OWNER:PATH …`: applies, and is refused because of these; without any, because it is impossible;
//! - `is WHAT`: what is there now;
//! - `owns WHO PATH …`: all that WHO owns now; who is not named owns nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{json, paths, writer};
use crate::apply::{FieldSet, Reach, Refusal, Type, Writer, apply, entries, update};

struct Case<'a> {
    type_: Type,
    live: Option<Value>,
    managed_fields: Option<Value>,
    ignored: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Case<'a> {
    fn writer<'w>(&'w self, who: &'w str) -> Writer<'w> {
        let ignored = self.ignored.get(who).map(Vec::as_slice).unwrap_or_default();
        Writer { reach: Reach::AllBut(ignored), ..writer(who) }
    }

    fn apply(&mut self, who: &str, what: &Value, force: bool) -> Result<(), Refusal> {
        let entries = entries(self.managed_fields.clone(), None);
        let applied = apply(&self.type_, self.live.as_ref(), entries, what, &self.writer(who), force)?;
        self.live = Some(applied.object);
        self.managed_fields = applied.managed_fields;
        Ok(())
    }

    fn update(&mut self, who: &str, what: Value) {
        let entries = entries(self.managed_fields.clone(), None);
        self.managed_fields = update(&self.type_, self.live.as_ref(), &what, entries, &self.writer(who));
        self.live = Some(what);
    }

    fn owned(&self) -> BTreeMap<String, FieldSet> {
        let entries = entries(self.managed_fields.clone(), None);
        entries.iter().map(|entry| (entry.manager().to_owned(), entry.set().unwrap())).collect()
    }

    /// What `who` owns, as a configuration.
    fn extract(&self, who: &str) -> Value {
        let Some(live) = &self.live else { return json!({}) };
        let owned = self.type_.with_named(&self.owned().remove(who).unwrap_or_default());
        let extracted = self.type_.remove(live, &self.type_.with_named(&self.type_.fields(live)).difference(&owned));
        if extracted.is_null() { json!({}) } else { extracted }
    }

    fn line(&mut self, line: &'a str) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (who, what) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "ignores" => {
                self.ignored.insert(who, what.split(' ').collect());
            }
            "apply" => self.apply(who, &json(what), false).unwrap(),
            "force" => self.apply(who, &json(what), true).unwrap(),
            "update" => self.update(who, json(what)),
            "extract" => {
                let whole = self.type_.merge(&self.extract(who), &json(what));
                self.apply(who, &whole, false).unwrap();
            }
            "conflict" => {
                let (what, wanted) = what.split_once(" | ").unwrap_or((what, ""));
                match self.apply(who, &json(what), false).unwrap_err() {
                    Refusal::Impossible(_) => assert_eq!(wanted, ""),
                    Refusal::Conflicts(conflicts) => {
                        let conflict = |c: &crate::apply::Conflict| {
                            let owner = c.owner.trim_start_matches('"').split('"').next().unwrap().to_owned();
                            format!("{owner}:{}", c.path)
                        };
                        let mut found: Vec<String> = conflicts.0.iter().map(conflict).collect();
                        found.sort();
                        assert_eq!(found.join(" "), wanted);
                    }
                }
            }
            "is" => assert_eq!(self.live, Some(json(rest))),
            _ => panic!("what is {verb}?"),
        }
    }
}

fn run(text: &str) {
    let mut schema = Value::Null;
    for block in text.split("\ncase ") {
        let (name, lines) = block.split_once('\n').unwrap_or((block, ""));
        println!("{name}");
        let mut case =
            Case { type_: Type::of_objects(&schema), live: None, managed_fields: None, ignored: BTreeMap::new() };
        let mut wanted: Option<BTreeMap<&str, &str>> = None;
        for line in lines.lines() {
            if let Some(type_) = line.strip_prefix("type ") {
                schema = json(type_);
            } else if let Some(owns) = line.strip_prefix("  owns ") {
                let (who, paths) = owns.split_once(' ').unwrap_or((owns, ""));
                wanted.get_or_insert_default().insert(who, paths);
            } else {
                case.line(line.trim());
            }
        }
        if let Some(mut wanted) = wanted {
            wanted.retain(|who, _| *who != "nobody");
            let found: BTreeMap<String, String> =
                case.owned().into_iter().map(|(who, set)| (who, paths(&set).join(" "))).collect();
            let found: BTreeMap<&str, &str> = found.iter().map(|(who, paths)| (who.as_str(), paths.as_str())).collect();
            assert_eq!(found, wanted, "{name}");
        }
    }
}

macro_rules! vectors {
    ($($name:ident),*) => {
        $(#[test] fn $name() { run(include_str!(concat!("vectors/", stringify!($name), ".txt"))); })*
    };
}

vectors!(
    deduced,
    default_keys,
    duplicates,
    extract_apply,
    field_level_overrides,
    ignored,
    key,
    leaf,
    multiple_appliers,
    nested,
    preserve_unknown,
    set
);
