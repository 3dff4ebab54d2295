//! Applying a configuration.

use serde_json::{Map, Value};

use super::client_side;
use super::conflict::{Conflict, Conflicts};
use super::entry::{self, Entry, Operation};
use super::set::FieldSet;
use super::tracking::{self, Writer, strip};
use super::types::Type;

/// Who owns what was there before anybody applied, if nobody is known to.
const BEFORE: &str = "before-first-apply";

/// What applying leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, without entries and before defaults.
    pub object: Value,
    /// Its `managedFields`.
    pub managed_fields: Option<Value>,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be merged, whatever it is merged into: its lists have items without keys, or twice.
    Impossible(Vec<String>),
    /// Others own what it changes.
    Conflicts(Conflicts),
}

/// Applies `configuration` to `live`, `None` if there is no such object yet. Neither has `managedFields`: those of
/// `live` are `entries`. With `force`, fields that others own are taken from them.
pub fn apply(
    type_: &Type,
    live: Option<&Value>,
    mut entries: Vec<Entry>,
    configuration: &Value,
    by: &Writer<'_>,
    force: bool,
) -> Result<Applied, Refusal> {
    let configuration = by.reach.of(configuration);
    let problems = type_.problems(&configuration);
    if !problems.is_empty() {
        return Err(Refusal::Impossible(problems));
    }
    let nothing = Value::Object(Map::new());
    if let Some(live) = live.filter(|_| entries.is_empty()) {
        let before = Writer { manager: BEFORE, ..*by };
        let (everything, _) = type_.compare(&nothing, &by.reach.of(live)).split();
        entries = tracking::changed(entries, everything, &FieldSet::default(), &before);
    }
    reconcile(type_, &mut entries);
    let step = Step { type_, live: live.unwrap_or(&nothing), entries: &entries, configuration: &configuration, by };
    let (mut object, entries) = match step.take(force) {
        Err(conflicts) if by.manager == client_side::KUBECTL => {
            match client_side::remaining(type_, step.live, by.api_version, &conflicts) {
                Some(remaining) => return Err(Refusal::Conflicts(remaining)),
                None => step.take(true).map_err(Refusal::Conflicts)?,
            }
        }
        result => result.map_err(Refusal::Conflicts)?,
    };
    if by.manager == client_side::KUBECTL {
        client_side::refresh(&mut object, &configuration);
    }
    Ok(Applied { object, managed_fields: entry::finish(entries) })
}

fn reconcile(type_: &Type, entries: &mut [Entry]) {
    for entry in entries {
        if let Some(set) = entry.set().ok().and_then(|set| type_.reconcile(&set)) {
            entry.own(set);
        }
    }
}

/// One application, before it is known whether it has to be forced.
struct Step<'a> {
    type_: &'a Type,
    live: &'a Value,
    entries: &'a [Entry],
    configuration: &'a Value,
    by: &'a Writer<'a>,
}

impl Step<'_> {
    fn take(&self, force: bool) -> Result<(Value, Vec<Entry>), Conflicts> {
        let Self { type_, live, configuration, by, .. } = *self;
        let mut set = type_.fields(configuration);
        let mut others = self.entries.to_vec();
        let last = others.iter().position(|entry| by.is_owner(Operation::Apply, entry)).map(|at| others.remove(at));
        let mut object = type_.merge(live, configuration);
        if let Some(last) = &last {
            object = self.prune(object, &last.set().unwrap_or_default(), &set, &others);
        }
        let (changed, removed) = type_.compare(live, &object).split();
        let same_version = |entry: &&mut Entry| entry.api_version() == by.api_version;
        let mut conflicts = Vec::new();
        if !force {
            let mut owners: Vec<&mut Entry> =
                others.iter_mut().filter(same_version).filter(|entry| tracking::owns_any(entry, &changed)).collect();
            owners.sort_by(|left, right| left.rank().cmp(&right.rank()));
            for owner in owners {
                let fields = owner.set().unwrap_or_default().intersection(&changed);
                conflicts.extend(fields.paths().into_iter().map(|path| Conflict::new(owner, path)));
            }
        }
        if !conflicts.is_empty() {
            return Err(Conflicts(conflicts));
        }
        for entry in others.iter_mut().filter(same_version) {
            entry.lose(&changed);
            entry.lose(&removed);
        }
        strip(&mut set);
        others.push(by.entry(Operation::Apply, set));
        Ok((object, others))
    }

    /// `merged` without what the manager applied `last` time, does not apply now, and nobody else owns.
    fn prune(&self, merged: Value, last: &FieldSet, now: &FieldSet, others: &[Entry]) -> Value {
        let type_ = self.type_;
        if last.difference(now).is_empty() {
            return merged;
        }
        let merged = &merged;
        let last = type_.with_named(last);
        let all = type_.with_named(&type_.fields(merged));
        let mut owned = type_.with_named(now);
        for entry in others {
            owned.add(type_.with_named(&entry.set().unwrap_or_default()));
        }
        // Fields of which somebody else owns a part stay for that part. Items of lists, and members that the schema does
        // not name, are different: who owns one alone removes it with all that others have set in it.
        let left = |object: &Value| type_.with_named(&type_.fields(object));
        owned.add(left(&type_.remove(merged, &last)));
        let pruned = type_.remove(merged, &all.difference(&owned));
        // And there may be fields that this manager has never owned.
        let pruned = type_.remove(merged, &all.difference(&left(&pruned)).intersection(&last));
        // A map or list that lost its last member is gone now, also where it is applied as an empty one.
        let pruned = if pruned.is_null() { Value::Object(Map::new()) } else { pruned };
        type_.merge(&pruned, self.configuration)
    }
}
