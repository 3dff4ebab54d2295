//! Which fields a value sets, and whether it may be applied.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::element::Element;
use super::set::FieldSet;
use super::types::Type;

impl Type {
    /// The fields that somebody who applies `value` owns: everything that is one value, and every member of a map or
    /// list that exists by being there.
    pub fn fields(&self, value: &Value) -> FieldSet {
        let mut set = FieldSet::default();
        if let Some(members) = self.members(value) {
            for (name, value) in members {
                let mut member = self.member(name).fields(value);
                let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
                member.here |= empty || !self.names(name);
                set.put(Element::field(name), member);
            }
        } else if let (Some(list), Some(items)) = (&self.list, self.items(value)) {
            let twice = duplicates(&items);
            for (element, item) in items {
                let mut fields = if twice.contains(&element) { FieldSet::default() } else { list.item.fields(item) };
                fields.here = true;
                set.put(element, fields);
            }
        } else {
            set.here = true;
        }
        set
    }

    /// What makes `configuration` impossible to apply, as Kubernetes words it; empty means nothing.
    pub fn problems(&self, configuration: &Value) -> Vec<String> {
        let mut problems = Vec::new();
        self.examine(configuration, &mut String::new(), &mut problems);
        problems
    }

    fn examine(&self, value: &Value, path: &mut String, problems: &mut Vec<String>) {
        let length = path.len();
        if let Some(misfit) = self.form.misfit(value) {
            problems.push(format!("{path}: {misfit}"));
        } else if let Some(members) = self.members(value) {
            for (name, value) in members {
                path.push('.');
                path.push_str(name);
                self.member(name).examine(value, path, problems);
                path.truncate(length);
            }
        } else if let (Some(list), Some(items)) = (&self.list, value.as_array()) {
            let mut seen = BTreeSet::new();
            for (position, item) in items.iter().enumerate() {
                match list.index(item) {
                    Err(problem) => problems.push(format!("{path}: element {position}: {problem}")),
                    Ok(element) => {
                        path.push_str(&element.to_string());
                        list.item.examine(item, path, problems);
                        path.truncate(length);
                        if seen.contains(&element) {
                            problems.push(format!("{path}: duplicate entries for key {element}"));
                        }
                        seen.insert(element);
                    }
                }
            }
        }
    }
}

/// The steps that stand more than once.
fn duplicates(items: &[(Element, &Value)]) -> BTreeSet<Element> {
    let mut counts: BTreeMap<&Element, usize> = BTreeMap::new();
    for (element, _) in items {
        *counts.entry(element).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(element, _)| element.clone()).collect()
}
