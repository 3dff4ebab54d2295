//! The entries of `metadata.managedFields`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::set::FieldSet;
use super::wire;

/// How a manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying configurations: it owns what it wants.
    Apply,
    /// By everything else: it owns what it has changed.
    Update,
}

impl Operation {
    /// As entries spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// One entry: the fields that one manager owns. Kept as the JSON that it is, because most writes read one entry and
/// pass the others on.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(Map<String, Value>);

impl Entry {
    /// An entry that owns `set`. An empty subresource is the object itself.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str, set: FieldSet) -> Self {
        let mut map = Map::new();
        map.insert("manager".to_owned(), manager.into());
        map.insert("operation".to_owned(), operation.as_str().into());
        map.insert("apiVersion".to_owned(), api_version.into());
        map.insert("fieldsType".to_owned(), "FieldsV1".into());
        if !subresource.is_empty() {
            map.insert("subresource".to_owned(), subresource.into());
        }
        let mut entry = Self(map);
        entry.own(set);
        entry
    }

    /// Reads an entry; `None` if it is malformed. Its fields are looked at later, by whoever needs them.
    fn read(value: Value) -> Option<Self> {
        let Value::Object(map) = value else { return None };
        let entry = Self(map);
        let right = matches!(entry.text("operation"), "Apply" | "Update")
            && !entry.text("apiVersion").is_empty()
            && entry.text("fieldsType") == "FieldsV1"
            && entry.fields().is_object();
        right.then_some(entry)
    }

    /// The same entry as this server writes it, if it was written by somebody who may write it differently.
    fn canonical(self) -> Option<Self> {
        let mut canonical =
            Self::new(self.manager(), self.operation(), self.api_version(), self.subresource(), self.set().ok()?);
        if let Some(time) = self.time() {
            canonical.touch(time);
        }
        Some(canonical)
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// Who.
    pub fn manager(&self) -> &str {
        self.text("manager")
    }

    /// How.
    pub fn operation(&self) -> Operation {
        if self.text("operation") == "Apply" { Operation::Apply } else { Operation::Update }
    }

    /// In which version the fields are named.
    pub fn api_version(&self) -> &str {
        self.text("apiVersion")
    }

    /// Through which part of the object; empty for the object itself.
    pub fn subresource(&self) -> &str {
        self.text("subresource")
    }

    /// When the manager last changed something.
    pub fn time(&self) -> Option<Timestamp> {
        self.text("time").parse().ok()
    }

    pub(super) fn seconds(&self) -> i64 {
        self.time().map_or(0, Timestamp::as_second)
    }

    /// Notes when the manager has changed something.
    pub fn touch(&mut self, time: Timestamp) {
        self.0.insert("time".to_owned(), crate::admission::timestamp(time).into());
    }

    /// FieldsV1.
    pub(super) fn fields(&self) -> &Value {
        self.0.get("fieldsV1").unwrap_or(&Value::Null)
    }

    /// The fields.
    pub fn set(&self) -> Result<FieldSet, String> {
        FieldSet::from_wire(self.fields())
    }

    /// Replaces the fields.
    pub fn own(&mut self, set: FieldSet) {
        self.0.insert("fieldsV1".to_owned(), set.into_wire());
    }

    /// Whether nothing is owned.
    pub(super) fn is_empty(&self) -> bool {
        self.fields().as_object().is_none_or(Map::is_empty)
    }

    /// Takes fields away. What cannot be read is not owned.
    pub(super) fn lose(&mut self, lost: &FieldSet) {
        if wire::overlaps(self.fields(), lost) {
            let mut set = self.set().unwrap_or_default();
            set.subtract(lost);
            self.own(set);
        }
    }

    /// Adds fields.
    pub(super) fn gain(&mut self, gained: FieldSet) {
        if !wire::covers(self.fields(), &gained) {
            let mut set = self.set().unwrap_or_default();
            set.add(gained);
            self.own(set);
        }
    }

    /// By what entries are sorted when neither operation nor time tells.
    pub(super) fn rank(&self) -> (&str, &str, &str) {
        (self.manager(), self.api_version(), self.subresource())
    }
}

/// Takes `managedFields` out of an object.
pub fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata").and_then(Value::as_object_mut)?.remove("managedFields")
}

/// The entries that a write starts from: those of the stored object, unless the caller has sent others, as clients do
/// that clean them up. An empty list, or a list of one empty entry, removes them all; what is malformed does not count.
pub fn entries(stored: Option<Value>, sent: Option<Value>) -> Vec<Entry> {
    match sent {
        Some(Value::Array(sent)) if is_reset(&sent) => return Vec::new(),
        Some(sent @ Value::Array(_)) if stored.as_ref() != Some(&sent) => {
            let entries: Option<Vec<Entry>> =
                read(sent).and_then(|entries| entries.into_iter().map(Entry::canonical).collect());
            if let Some(entries) = entries {
                return unique(entries);
            }
        }
        _ => {}
    }
    stored.and_then(read).unwrap_or_default()
}

/// One entry for each that they are told apart by; the last counts.
fn unique(entries: Vec<Entry>) -> Vec<Entry> {
    let mut unique: BTreeMap<String, Entry> = BTreeMap::new();
    for entry in entries {
        // Whoever applies has one entry whatever the version.
        let version = if entry.operation() == Operation::Apply { "" } else { entry.api_version() };
        let key = [entry.manager(), entry.operation().as_str(), version, entry.subresource()].join("\n");
        unique.insert(key, entry);
    }
    unique.into_values().collect()
}

fn is_reset(sent: &[Value]) -> bool {
    let empty = |entry: &Value| {
        entry.as_object().is_some_and(|map| map.values().all(|v| v.is_null() || v.as_str().is_some_and(str::is_empty)))
    };
    match sent {
        [] => true,
        [one] => empty(one),
        _ => false,
    }
}

fn read(entries: Value) -> Option<Vec<Entry>> {
    let Value::Array(entries) = entries else { return None };
    entries.into_iter().map(Entry::read).collect()
}

/// As objects carry them: without empty ones, in Kubernetes' order. `None` if there are none.
pub(super) fn finish(mut entries: Vec<Entry>) -> Option<Value> {
    entries.retain(|entry| !entry.is_empty());
    if entries.len() > 1 {
        entries.sort_by(|left, right| {
            let when = |entry: &Entry| (entry.operation(), entry.seconds());
            when(left).cmp(&when(right)).then_with(|| left.rank().cmp(&right.rank()))
        });
    }
    (!entries.is_empty()).then(|| Value::Array(entries.into_iter().map(|entry| Value::Object(entry.0)).collect()))
}

/// Whether two lists of entries say something different about who owns what. When is no difference.
pub fn differ(left: Option<&Value>, right: Option<&Value>) -> bool {
    let content = |entries: Option<&Value>| -> Vec<String> {
        let entries = entries.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).cloned();
        let mut texts: Vec<String> = entries
            .map(|mut entry| {
                entry.remove("time");
                Value::Object(entry).to_string()
            })
            .collect();
        // The order follows the times.
        texts.sort_unstable();
        texts
    };
    content(left) != content(right)
}
