//! An API server in memory: objects as JSON, with the rules that plans rely on, and none of our code in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::step::{Noun, Object, Step, Target};
use crate::world::Key;

/// Names an object of any kind.
pub(crate) type Name = (Noun, Key);

/// A change as a watch tells of it: the object after it, or before it was removed.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: Name,
    pub(crate) object: Value,
    pub(crate) removed: bool,
}

/// The object was not in the state that was named.
#[derive(Debug)]
pub(crate) struct Conflict;

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) objects: BTreeMap<Name, Value>,
    pub(crate) told: Vec<Told>,
    pub(crate) now: Timestamp,
    revision: u64,
}

impl Store {
    pub(crate) fn get(&self, noun: Noun, key: &Key) -> Option<&Value> {
        self.objects.get(&(noun, key.clone()))
    }

    pub(crate) fn of(&self, noun: Noun) -> Vec<(Key, Value)> {
        let mine = self.objects.iter().filter(|((kind, _), _)| *kind == noun);
        mine.map(|((_, key), object)| (key.clone(), object.clone())).collect()
    }

    /// Makes an object, if its name is free.
    pub(crate) fn create(&mut self, noun: Noun, mut object: Value) -> Option<Value> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = Key::new(text("namespace"), text("name"));
        if self.get(noun, &key).is_some() {
            return None;
        }
        object["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
        object["metadata"]["generation"] = json!(1);
        object["metadata"]["creationTimestamp"] = json!(crds::condition::whole_seconds(self.now).0.to_string());
        Some(self.put((noun, key), object))
    }

    /// Merges a patch into an object that is in the state that `target` names.
    pub(crate) fn merge(&mut self, target: &Target, patch: &Value) -> Result<Value, Conflict> {
        let name = (target.noun, target.key.clone());
        let before = self.expect(target)?.clone();
        let mut after = before.clone();
        json_patch::merge(&mut after, patch);
        if after == before {
            return Ok(before);
        }
        if after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            after["metadata"]["generation"] = json!(generation + 1);
        }
        if is_deleted(&after) && finalizers(&after) == 0 {
            return Ok(self.remove(name));
        }
        Ok(self.put(name, after))
    }

    /// Removes an object, or asks its finalizers to.
    pub(crate) fn delete(&mut self, target: &Target) -> Result<(), Conflict> {
        let mut object = self.expect(target)?.clone();
        let name = (target.noun, target.key.clone());
        if finalizers(&object) == 0 {
            self.remove(name);
        } else if !is_deleted(&object) {
            object["metadata"]["deletionTimestamp"] = json!(self.now.to_string());
            self.put(name, object);
        }
        Ok(())
    }

    /// Takes one step of a plan.
    pub(crate) fn take(&mut self, step: &Step) -> Result<(), Conflict> {
        let json = |object: Result<Value, serde_json::Error>| object.unwrap();
        match step {
            Step::Create(Object::Build(it)) => drop(self.create(Noun::Build, json(serde_json::to_value(it)))),
            Step::Create(Object::Release(it)) => drop(self.create(Noun::Release, json(serde_json::to_value(it)))),
            Step::Create(Object::Instance(it)) => drop(self.create(Noun::Instance, json(serde_json::to_value(it)))),
            Step::Patch { of, patch } => drop(self.merge(of, patch)?),
            Step::PatchStatus { of, patch } => drop(self.merge(of, &json!({ "status": patch }))?),
            // What is gone already need not be deleted.
            Step::Delete(of) if self.get(of.noun, &of.key).is_none() => {}
            Step::Delete(of) => self.delete(of)?,
            Step::Emit(_) => {}
        }
        Ok(())
    }

    /// Deletes what all of whose owners are gone.
    pub(crate) fn collect_garbage(&mut self) {
        let uids: Vec<String> = self.objects.values().map(uid).collect();
        let orphaned = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            !owners.is_empty() && owners.iter().all(|owner| !uids.iter().any(|uid| owner["uid"] == json!(uid)))
        };
        let orphans: Vec<Target> = self
            .objects
            .iter()
            .filter(|(_, object)| orphaned(object))
            .map(|(name, object)| target(name, object))
            .collect();
        for orphan in orphans {
            self.delete(&orphan).unwrap();
        }
    }

    fn expect(&self, target: &Target) -> Result<&Value, Conflict> {
        let object = self.get(target.noun, &target.key).ok_or(Conflict)?;
        let version = object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let same =
            uid(object) == target.uid && (target.resource_version.is_none() || target.resource_version == version);
        if same { Ok(object) } else { Err(Conflict) }
    }

    fn put(&mut self, name: Name, mut object: Value) -> Value {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert(name.clone(), object.clone());
        self.told.push(Told { name, object: object.clone(), removed: false });
        object
    }

    fn remove(&mut self, name: Name) -> Value {
        self.revision += 1;
        let mut object = self.objects.remove(&name).unwrap();
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.told.push(Told { name, object: object.clone(), removed: true });
        object
    }
}

pub(crate) fn target(name: &Name, object: &Value) -> Target {
    Target { noun: name.0, key: name.1.clone(), uid: uid(object), resource_version: None }
}

pub(crate) fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn is_deleted(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}
