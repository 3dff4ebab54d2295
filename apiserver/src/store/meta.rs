//! Reading out of an object's JSON what the store keeps beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::Error;
use super::object::{Meta, Owner, Table};
use super::pairs::{Interner, Pairs};

/// What was read of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Read {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) uid: Arc<str>,
    pub(super) generation: i64,
    pub(super) created: Option<Timestamp>,
    pub(super) meta: Meta,
}

/// What of a kind's objects is read: the parts of `metadata` that the store needs and the selectable fields.
#[derive(Debug)]
pub(super) struct Reader {
    fields: Vec<(Arc<str>, Vec<String>)>,
    wanted: Wanted,
}

impl Reader {
    pub(super) fn new(table: &Table) -> Self {
        let mut wanted = Wanted::default();
        let names =
            "namespace name uid generation creationTimestamp deletionTimestamp labels ownerReferences finalizers";
        for name in names.split(' ') {
            wanted.add(&["metadata".to_owned(), name.to_owned()]);
        }
        let mut fields = Vec::new();
        for path in &table.selectable_fields {
            let path = path.trim_start_matches('.');
            let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
            wanted.add(&parts);
            fields.push((Arc::from(path), parts));
        }
        Self { fields, wanted }
    }

    /// Reads a whole object's tree.
    pub(super) fn read(&self, value: &Value, interner: &Interner) -> Result<Read, Error> {
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        let uid = text("uid").filter(|uid| !uid.is_empty()).ok_or_else(|| Error::invalid("metadata.uid is missing"))?;
        Ok(Read {
            namespace: text("namespace").map(str::to_owned),
            name: text("name").map(str::to_owned),
            uid: uid.into(),
            generation: metadata.get("generation").and_then(Value::as_i64).unwrap_or(0),
            created: time(metadata, "creationTimestamp")?,
            meta: self.meta(value, metadata, interner)?,
        })
    }

    fn meta(&self, value: &Value, metadata: &Value, interner: &Interner) -> Result<Meta, Error> {
        let owners = match metadata.get("ownerReferences") {
            None | Some(Value::Null) => Box::default(),
            Some(Value::Array(owners)) => {
                owners.iter().map(|value| owner(value, interner)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(Error::invalid("metadata.ownerReferences is not a list")),
        };
        let finalizers = match metadata.get("finalizers") {
            None | Some(Value::Null) => Box::default(),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| name.as_str().map(|name| interner.get(name)))
                .collect::<Option<_>>()
                .ok_or_else(|| Error::invalid("metadata.finalizers is not a list of strings"))?,
            Some(_) => return Err(Error::invalid("metadata.finalizers is not a list")),
        };
        let labels = match metadata.get("labels") {
            None | Some(Value::Null) => Pairs::default(),
            Some(Value::Object(labels)) => labels
                .iter()
                .map(|(key, value)| Some((interner.get(key), interner.get(value.as_str()?))))
                .collect::<Option<Vec<_>>>()
                .map(Pairs::new)
                .ok_or_else(|| Error::invalid("metadata.labels has a value that is not a string"))?,
            Some(_) => return Err(Error::invalid("metadata.labels is not an object")),
        };
        let fields = self.fields.iter().filter_map(|(name, path)| {
            let found = path.iter().try_fold(value, |at, part| at.get(part))?;
            Some((Arc::clone(name), interner.get(&scalar(found)?)))
        });
        Ok(Meta {
            labels,
            fields: Pairs::new(fields.collect()),
            owners,
            finalizers,
            deletion_timestamp: time(metadata, "deletionTimestamp")?.map(Box::new),
        })
    }

    /// Reads the same from bytes, skipping everything else without building its tree.
    pub(super) fn read_bytes(&self, body: &[u8], interner: &Interner) -> Result<Read, Error> {
        let mut json = serde_json::Deserializer::from_slice(body);
        let pruned = self.wanted.deserialize(&mut json).map_err(|error| Error::invalid(error.to_string()))?;
        self.read(&pruned, interner)
    }
}

/// A time as Kubernetes writes it (RFC 3339).
fn time(metadata: &Value, name: &str) -> Result<Option<Timestamp>, Error> {
    match metadata.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(time) => Ok(Some(time)),
            Err(error) => Err(Error::invalid(format!("metadata.{name}: {error}"))),
        },
        Some(_) => Err(Error::invalid(format!("metadata.{name} is not a string"))),
    }
}

/// Field selectors compare text: a number or boolean is compared as it is written, anything else has no value.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn owner(value: &Value, interner: &Interner) -> Result<Owner, Error> {
    let text = |name: &str| {
        let text = value.get(name).and_then(Value::as_str);
        text.ok_or_else(|| Error::invalid(format!("metadata.ownerReferences has an entry without {name}")))
    };
    let flag = |name: &str| value.get(name).and_then(Value::as_bool).unwrap_or(false);
    Ok(Owner {
        uid: interner.get(text("uid")?),
        api_version: interner.get(text("apiVersion")?),
        kind: interner.get(text("kind")?),
        name: interner.get(text("name")?),
        controller: flag("controller"),
        block_owner_deletion: flag("blockOwnerDeletion"),
    })
}

/// The members to keep; a leaf keeps everything below it.
#[derive(Debug, Default)]
struct Wanted(BTreeMap<String, Wanted>);

impl Wanted {
    fn add(&mut self, path: &[String]) {
        let mut at = self;
        for part in path {
            at = at.0.entry(part.clone()).or_default();
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Wanted {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Wanted {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(member) = map.next_key_seed(Member(self))? {
            match member {
                Some((name, wanted)) => {
                    let value = map.next_value_seed(wanted)?;
                    kept.insert(name.clone(), value);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(kept))
    }

    // Anything but an object has no members to keep: a path that leads through it finds nothing.
    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// The name of a member: which of the wanted ones it is. None is copied that is not.
struct Member<'w>(&'w Wanted);

impl<'de, 'w> DeserializeSeed<'de> for Member<'w> {
    type Value = Option<(&'w String, &'w Wanted)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'w> Visitor<'_> for Member<'w> {
    type Value = Option<(&'w String, &'w Wanted)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.0.get_key_value(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reader(fields: &[&str]) -> Reader {
        Reader::new(&Table {
            selectable_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            ..Table::default()
        })
    }

    #[test]
    fn bytes_and_tree_give_the_same() {
        let interner = Interner::default();
        let reader = reader(&["spec.nodeName", ".spec.ordinal", "status.ready", "spec.list.x", "type", "spec.gone"]);
        let value = json!({
            "apiVersion": "v1", "kind": "Thing", "type": "Opaque",
            "metadata": {
                "name": "a", "uid": "u-1", "generation": 3, "labels": { "app": "web", "a\"b": "c\n" }, "finalizers": ["x/y"],
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "ownerReferences": [{ "uid": "u", "apiVersion": "v1", "kind": "K", "name": "n", "controller": true }],
            },
            "spec": { "nodeName": "n1", "ordinal": 3, "list": [1, { "x": 2 }], "more": { "deep": [[]] } },
            "status": { "ready": false },
        });
        let read = reader.read(&value, &interner).unwrap();
        assert_eq!(read, reader.read_bytes(value.to_string().as_bytes(), &interner).unwrap());
        assert_eq!((read.name.as_deref(), read.namespace, &*read.uid, read.generation), (Some("a"), None, "u-1", 3));
        let meta = read.meta;
        let fields: Vec<_> = meta.fields.iter().collect();
        assert_eq!(
            fields,
            [("spec.nodeName", "n1"), ("spec.ordinal", "3"), ("status.ready", "false"), ("type", "Opaque"),]
        );
        assert_eq!(meta.labels.get("a\"b"), Some("c\n"));
        assert_eq!(meta.deletion_timestamp.as_deref(), "2026-01-02T03:04:05Z".parse().ok().as_ref());
        assert!(meta.owners[0].controller && !meta.owners[0].block_owner_deletion);
    }

    #[test]
    fn what_later_code_relies_on_is_checked() {
        let interner = Interner::default();
        let bad = [
            json!({}),
            json!({ "uid": "" }),
            json!({ "uid": "u", "labels": { "a": 1 } }),
            json!({ "uid": "u", "labels": ["a"] }),
            json!({ "uid": "u", "finalizers": [1] }),
            json!({ "uid": "u", "ownerReferences": [{ "uid": "u" }] }),
            json!({ "uid": "u", "deletionTimestamp": "yesterday" }),
            json!({ "uid": "u", "creationTimestamp": 5 }),
        ];
        for metadata in bad {
            let value = json!({ "metadata": metadata });
            assert!(matches!(reader(&[]).read(&value, &interner), Err(Error::Invalid { .. })), "{value}");
        }
    }
}
