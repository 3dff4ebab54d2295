//! Taking fields out of a value, and keeping sets in step with types.

use serde_json::{Map, Value};

use super::element::Element;
use super::set::FieldSet;
use super::types::Type;

impl Type {
    /// `value` without the members and items in `set`. A map or list of which nothing is left becomes `null`, which the
    /// schema's defaults then fill in or drop.
    pub fn remove(&self, value: &Value, set: &FieldSet) -> Value {
        if let Some(members) = self.members(value) {
            let mut left = Map::new();
            for (name, value) in members {
                match set.below.get(&Element::field(name)) {
                    Some(set) if set.here => {}
                    Some(set) => {
                        left.insert(name.clone(), self.member(name).remove(value, set));
                    }
                    None => {
                        left.insert(name.clone(), value.clone());
                    }
                }
            }
            return if left.is_empty() && !members.is_empty() { Value::Null } else { Value::Object(left) };
        }
        if let (Some(list), Some(items)) = (&self.list, self.items(value)) {
            let mut left = Vec::with_capacity(items.len());
            for (element, item) in &items {
                match set.below.get(element) {
                    Some(set) if set.here => {}
                    // An item that has lost even its keys is none.
                    Some(set) => left.extend(Some(list.item.remove(item, set)).filter(|item| !item.is_null())),
                    None => left.push((*item).clone()),
                }
            }
            return if left.is_empty() && !items.is_empty() { Value::Null } else { Value::Array(left) };
        }
        value.clone()
    }

    /// `set`, and in it the fields named by the schema that have something below them. Of those a configuration owns
    /// only what it sets below; when all of that goes, they go too.
    pub(super) fn with_named(&self, set: &FieldSet) -> FieldSet {
        let mut with = FieldSet { here: set.here, ..FieldSet::default() };
        for (element, below) in &set.below {
            let mut below = match self.step(element) {
                Some(type_) => type_.with_named(below),
                None => below.clone(),
            };
            below.here |= !below.below.is_empty() && element.name().is_some_and(|name| self.names(name));
            with.below.insert(element.clone(), below);
        }
        with
    }

    /// `set` after a change of the kind's schema: what was merged item by item and is one value now is owned as one
    /// value. `None` if nothing has to change, which is nearly always.
    pub(super) fn reconcile(&self, set: &FieldSet) -> Option<FieldSet> {
        if set.below.is_empty() {
            return None;
        }
        if self.map.is_none() && self.list.is_none() {
            return Some(FieldSet::leaf());
        }
        let mut changed = None;
        for (element, below) in &set.below {
            if let Some(below) = self.step(element).and_then(|type_| type_.reconcile(below)) {
                changed.get_or_insert_with(|| set.clone()).below.insert(element.clone(), below);
            }
        }
        changed
    }
}
