//! What differs between two states of an object.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;
use super::set::FieldSet;
use super::types::{Items, Type};

/// The fields in which two states differ. None is in two of the sets, except for items of which one becomes several
/// under the same key, or the other way round: they go and come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only the old state has them.
    pub removed: FieldSet,
    /// Both have them, with different values.
    pub modified: FieldSet,
    /// Only the new state has them.
    pub added: FieldSet,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// What the new state sets (modified or added), and what it removes.
    pub fn split(mut self) -> (FieldSet, FieldSet) {
        self.modified.add(self.added);
        (self.modified, self.removed)
    }

    fn put(&mut self, element: Element, below: Self) {
        self.removed.put(element.clone(), below.removed);
        self.modified.put(element.clone(), below.modified);
        self.added.put(element, below.added);
    }
}

impl Type {
    /// Compares two states.
    pub fn compare(&self, old: &Value, new: &Value) -> Comparison {
        let empty = Map::new();
        match (self.members(old), self.members(new)) {
            (Some(old), Some(new)) if !(old.is_empty() && new.is_empty()) => return self.compare_members(old, new),
            // To merging, null is a map without members.
            (Some(old), None) if new.is_null() && !old.is_empty() => return self.compare_members(old, &empty),
            (None, Some(new)) if old.is_null() && !new.is_empty() => return self.compare_members(&empty, new),
            _ => {}
        }
        if let Some(list) = &self.list {
            // Nearly always the case, and much cheaper than telling the items apart.
            if old == new {
                return Comparison::default();
            }
            match (self.items(old), self.items(new)) {
                (Some(old), Some(new)) if !(old.is_empty() && new.is_empty()) => return list.compare(old, new),
                (Some(old), None) if new.is_null() && !old.is_empty() => return list.compare(old, Vec::new()),
                (None, Some(new)) if old.is_null() && !new.is_empty() => return list.compare(Vec::new(), new),
                _ => {}
            }
        }
        let mut comparison = Comparison::default();
        if !equal(old, new) {
            comparison.modified.here = true;
            comparison.removed.below = self.everything(old).below;
            comparison.added.below = self.everything(new).below;
        }
        comparison
    }

    fn compare_members(&self, old: &Map<String, Value>, new: &Map<String, Value>) -> Comparison {
        let mut comparison = Comparison::default();
        for (name, old) in old {
            match new.get(name) {
                Some(new) => {
                    let below = self.member(name).compare(old, new);
                    if !below.is_same() {
                        comparison.put(Element::field(name), below);
                    }
                }
                None => comparison.removed.put(Element::field(name), self.member(name).everything(old)),
            }
        }
        for (name, new) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            comparison.added.put(Element::field(name), self.member(name).everything(new));
        }
        comparison
    }

    /// The place of a value that comes or goes as a whole, and all places below it.
    pub(super) fn everything(&self, value: &Value) -> FieldSet {
        let mut set = FieldSet::leaf();
        if let Some(members) = self.members(value) {
            for (name, value) in members {
                set.below.insert(Element::field(name), self.member(name).everything(value));
            }
        } else if let (Some(list), Some(items)) = (&self.list, self.items(value)) {
            for (element, items) in grouped(items) {
                set.below.insert(element, list.everything(&items));
            }
        }
        set
    }
}

impl Items {
    /// Items that stand more than once under one key are one value.
    fn everything(&self, items: &[&Value]) -> FieldSet {
        match items {
            [item] => self.item.everything(item),
            _ => FieldSet::leaf(),
        }
    }

    fn compare(&self, old: Vec<(Element, &Value)>, new: Vec<(Element, &Value)>) -> Comparison {
        let mut comparison = Comparison::default();
        let (old, mut new) = (grouped(old), grouped(new));
        for (element, old) in old {
            let below = match (old.as_slice(), new.remove(&element).unwrap_or_default().as_slice()) {
                ([old], [new]) => self.item.compare(old, new),
                (old, []) => Comparison { removed: self.everything(old), ..Comparison::default() },
                ([old], _) => {
                    Comparison { removed: self.item.everything(old), added: FieldSet::leaf(), ..Comparison::default() }
                }
                (_, [new]) => {
                    Comparison { removed: FieldSet::leaf(), added: self.item.everything(new), ..Comparison::default() }
                }
                (old, new) if old == new => Comparison::default(),
                _ => Comparison { modified: FieldSet::leaf(), ..Comparison::default() },
            };
            comparison.put(element, below);
        }
        for (element, new) in new {
            comparison.added.put(element, self.everything(&new));
        }
        comparison
    }
}

/// All items under the same key.
fn grouped(items: Vec<(Element, &Value)>) -> BTreeMap<Element, Vec<&Value>> {
    let mut groups: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for (element, item) in items {
        groups.entry(element).or_default().push(item);
    }
    groups
}

/// Numbers are equal by what they are, not by how they are written.
fn equal(left: &Value, right: &Value) -> bool {
    left == right
        || ((left.is_f64() || right.is_f64())
            && matches!((left.as_f64(), right.as_f64()), (Some(left), Some(right)) if left.total_cmp(&right).is_eq()))
}
