//! What a write that is no apply does to an object's entries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::element::Element;
use super::entry::{self, Entry, Operation};
use super::set::FieldSet;
use super::types::Type;
use super::wire;

/// More entries of updates than this are folded together: Kubernetes' bound (`DefaultMaxUpdateManagers`).
const UPDATE_ENTRIES_MAX: usize = 10;
/// Who owns what the oldest of them owned.
const ANCIENT: &str = "ancient-changes";
/// The name of writers that do not say who they are.
const UNKNOWN: &str = "unknown";
/// The metadata that nobody owns: the object's identity, and what only the server sets.
const UNOWNED_METADATA: &[&str] = &[
    "clusterName",
    "creationTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Which of an object's top-level fields a writer can set: an address takes only some, and gives back the others as
/// they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// All but these.
    AllBut(&'a [&'a str]),
    /// Only these.
    Only(&'a [&'a str]),
}

impl Reach<'_> {
    fn takes(self, name: &str) -> bool {
        match self {
            Self::AllBut(names) => !names.contains(&name),
            Self::Only(names) => names.contains(&name),
        }
    }

    /// The part of an object that can be written.
    pub(super) fn of(self, object: &Value) -> Value {
        let members = object.as_object().into_iter().flatten();
        let kept = members.filter(|(name, _)| matches!(name.as_str(), "apiVersion" | "kind") || self.takes(name));
        Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn limit(self, set: &mut FieldSet) {
        set.below.retain(|element, _| element.name().is_some_and(|name| self.takes(name)));
    }
}

/// Who writes, where and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The version in which fields are named.
    pub api_version: &'a str,
    /// The part of the object that is written; empty for the object itself.
    pub subresource: &'a str,
    /// What can be set there.
    pub reach: Reach<'a>,
    /// Now.
    pub time: Timestamp,
}

impl Writer<'_> {
    fn name(&self) -> &str {
        if self.manager.is_empty() { UNKNOWN } else { self.manager }
    }

    /// A new entry of this writer.
    pub(super) fn entry(&self, operation: Operation, set: FieldSet) -> Entry {
        let mut entry = Entry::new(self.name(), operation, self.api_version, self.subresource, set);
        entry.touch(self.time);
        entry
    }

    /// Whether an entry is this writer's.
    pub(super) fn is_owner(&self, operation: Operation, entry: &Entry) -> bool {
        entry.operation() == operation
            && entry.manager() == self.name()
            && entry.subresource() == self.subresource
            // Whoever applies has one entry whatever the version.
            && (operation == Operation::Apply || entry.api_version() == self.api_version)
    }
}

/// Takes out of a set what nobody owns.
pub(super) fn strip(set: &mut FieldSet) {
    for name in ["apiVersion", "kind"] {
        set.below.remove(Element::field(name).as_str());
    }
    let metadata = Element::field("metadata");
    if let Some(fields) = set.below.get_mut(&metadata) {
        fields.here = false;
        for name in UNOWNED_METADATA {
            if let Some(field) = fields.below.get_mut(Element::field(name).as_str()) {
                field.here = false;
            }
        }
        fields.below.retain(|_, field| !field.is_empty());
        if fields.is_empty() {
            set.below.remove(&metadata);
        }
    }
}

/// The `managedFields` of `new`, an object as it will be stored. `live` is its state before, `None` if it is new; both
/// without their entries, which are `entries`. The writer owns what it changes and nobody else does any more; what is
/// gone is nobody's.
///
/// An object without entries gets none by an update: somebody has removed them, and does not want them back. The first
/// apply brings them.
pub fn update(type_: &Type, live: Option<&Value>, new: &Value, entries: Vec<Entry>, by: &Writer<'_>) -> Option<Value> {
    if entries.is_empty() && live.is_some() {
        return None;
    }
    let nothing = Value::Object(Map::new());
    let comparison = type_.compare(live.unwrap_or(&nothing), new);
    let (mut set, mut removed) = comparison.split();
    // What the writer cannot set stays with its owners.
    by.reach.limit(&mut set);
    by.reach.limit(&mut removed);
    entry::finish(changed(entries, set, &removed, by))
}

/// The entries after `by` has set some fields and removed others.
pub(super) fn changed(mut entries: Vec<Entry>, set: FieldSet, removed: &FieldSet, by: &Writer<'_>) -> Vec<Entry> {
    let mut own = None;
    for (at, entry) in entries.iter_mut().enumerate() {
        // Fields of another version have other names: they cannot be compared with these.
        if entry.api_version() != by.api_version {
            continue;
        }
        entry.lose(removed);
        if by.is_owner(Operation::Update, entry) {
            own = Some(at);
        } else {
            entry.lose(&set);
        }
    }
    let mut mine = set;
    strip(&mut mine);
    if !mine.is_empty() {
        match own.and_then(|at| entries.get_mut(at)) {
            Some(entry) => {
                entry.gain(mine);
                entry.touch(by.time);
            }
            None => entries.push(by.entry(Operation::Update, mine)),
        }
    }
    entries.retain(|entry| !entry.is_empty());
    cap(&mut entries);
    entries
}

/// The oldest entry of a version: where it is kept, and what becomes of it when others are folded into it.
struct Oldest {
    at: usize,
    folded: Option<FieldSet>,
    /// Of the last that was folded in.
    time: Option<Timestamp>,
}

/// Folds the oldest entries of updates into one of their version, until there are not too many.
fn cap(entries: &mut Vec<Entry>) {
    let updates = entries.iter().filter(|entry| entry.operation() == Operation::Update).count();
    if updates <= UPDATE_ENTRIES_MAX {
        return;
    }
    let (mut updates, others): (Vec<Entry>, Vec<Entry>) =
        entries.drain(..).partition(|entry| entry.operation() == Operation::Update);
    updates.sort_by_cached_key(|entry| (entry.seconds(), entry.manager().to_owned(), entry.subresource().to_owned()));
    let mut surplus = updates.len() - UPDATE_ENTRIES_MAX;
    let mut oldest: BTreeMap<String, Oldest> = BTreeMap::new();
    let mut kept: Vec<Entry> = Vec::with_capacity(UPDATE_ENTRIES_MAX);
    for entry in updates {
        if let Some(oldest) = oldest.get_mut(entry.api_version()).filter(|_| surplus > 0) {
            let first = || kept.get(oldest.at).and_then(|entry| entry.set().ok()).unwrap_or_default();
            oldest.folded.get_or_insert_with(first).add(entry.set().unwrap_or_default());
            oldest.time = entry.time();
            surplus -= 1;
        } else {
            let first = Oldest { at: kept.len(), folded: None, time: None };
            oldest.entry(entry.api_version().to_owned()).or_insert(first);
            kept.push(entry);
        }
    }
    for (version, Oldest { at, folded, time }) in oldest {
        if let (Some(set), Some(entry)) = (folded, kept.get_mut(at)) {
            *entry = Entry::new(ANCIENT, Operation::Update, &version, "", set);
            if let Some(time) = time {
                entry.touch(time);
            }
        }
    }
    *entries = others;
    entries.extend(kept);
}

/// Whether somebody else's entry has any of these fields.
pub(super) fn owns_any(entry: &Entry, set: &FieldSet) -> bool {
    wire::overlaps(entry.fields(), set)
}
