//! Merging a configuration into an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::types::{Items, Type};

impl Type {
    /// `live` with everything that `configuration` sets. Nothing is removed; lists merged item by item come in the order
    /// of `configuration`, with what only `live` has in between where it stood.
    pub fn merge(&self, live: &Value, configuration: &Value) -> Value {
        match (self.members(live), self.members(configuration)) {
            (Some(live), Some(configuration)) if !live.is_empty() || !configuration.is_empty() => {
                return Value::Object(self.merge_members(live, configuration));
            }
            // Null neither sets nor removes what is merged member by member.
            (Some(members), None) if configuration.is_null() && !members.is_empty() => return live.clone(),
            _ => {}
        }
        if let (Some(list), Some(old)) = (&self.list, self.items(live)) {
            match self.items(configuration) {
                Some(new) if !(old.is_empty() && new.is_empty()) => return Value::Array(list.merge(&old, &new)),
                None if configuration.is_null() && !old.is_empty() => return live.clone(),
                _ => {}
            }
        }
        configuration.clone()
    }

    fn merge_members(&self, live: &Map<String, Value>, configuration: &Map<String, Value>) -> Map<String, Value> {
        let mut merged = live.clone();
        for (name, new) in configuration {
            let value = match live.get(name) {
                Some(old) => self.member(name).merge(old, new),
                None => new.clone(),
            };
            merged.insert(name.clone(), value);
        }
        merged
    }
}

impl Items {
    /// Walks both lists at once. An item that both have is taken when it is next in the order of the new list; those
    /// that only the old list has keep their place between them.
    fn merge(&self, old: &[(Element, &Value)], new: &[(Element, &Value)]) -> Vec<Value> {
        let mut old_items: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
        for (element, item) in old {
            // Items of which there are several are not merged with: the new one takes their place.
            old_items.entry(element).and_modify(|found| *found = None).or_insert(Some(item));
        }
        let in_new: BTreeSet<&Element> = new.iter().map(|(element, _)| element).collect();
        let mut shared = new.iter().map(|(element, _)| element).filter(|element| old_items.contains_key(element));
        let mut next_shared = shared.next();
        let mut taken: BTreeSet<&Element> = BTreeSet::new();
        let mut merged = Vec::with_capacity(old.len().max(new.len()));
        let (mut at_old, mut at_new) = (0, 0);
        while at_old < old.len() || at_new < new.len() {
            if let Some((element, item)) = old.get(at_old) {
                if let Some((candidate, _)) = new.get(at_new)
                    && element != candidate
                    && in_new.contains(element)
                    && next_shared.is_some_and(|next| next != element)
                {
                    // Both have it, and it is not its turn.
                    at_old += 1;
                    continue;
                }
                if !in_new.contains(element) {
                    merged.push((*item).clone());
                    at_old += 1;
                    continue;
                }
                if taken.contains(element) || new.get(at_new).is_some_and(|(candidate, _)| candidate == element) {
                    at_old += 1;
                }
            }
            if let Some((element, item)) = new.get(at_new) {
                taken.insert(element);
                merged.push(match old_items.get(element).copied().flatten() {
                    Some(old) => self.item.merge(old, item),
                    None => (*item).clone(),
                });
                at_new += 1;
                if next_shared == Some(element) {
                    next_shared = shared.next();
                }
            }
        }
        merged
    }
}
