//! FieldsV1, the form that sets have in objects: a tree of JSON objects whose keys are steps. A node is in the set if it
//! has the member `.` or no members at all.
//!
//! Most writes change a few fields of an object with several managers. What has to be asked of those managers' sets is
//! answered here on the JSON as it stands, and only a set that really changes is read into a [`FieldSet`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;
use super::set::FieldSet;

impl FieldSet {
    /// Reads FieldsV1.
    pub fn from_wire(fields: &Value) -> Result<Self, String> {
        let mut set = Self::read(fields)?;
        // The object as a whole is nobody's.
        set.here = false;
        Ok(set)
    }

    fn read(fields: &Value) -> Result<Self, String> {
        let map = fields.as_object().ok_or_else(|| format!("fields must be a map, not {fields}"))?;
        let mut below: BTreeMap<Element, Self> = BTreeMap::new();
        for (key, value) in map.iter().filter(|(key, _)| *key != ".") {
            if let Some(element) = Element::parse(key)? {
                below.entry(element).or_default().add(Self::read(value)?);
            }
        }
        Ok(Self { here: below.is_empty() || map.contains_key("."), below })
    }

    /// Writes FieldsV1.
    pub fn into_wire(self) -> Value {
        let mut map = Map::new();
        if self.here && !self.below.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, set) in self.below {
            map.insert(element.into_text(), set.into_wire());
        }
        Value::Object(map)
    }
}

fn is_member(fields: &Map<String, Value>) -> bool {
    fields.is_empty() || fields.contains_key(".")
}

/// Calls `found` for every path of `set`, saying whether it is in `fields` too, until it returns `true`.
fn any(fields: Option<&Map<String, Value>>, set: &FieldSet, found: &impl Fn(bool) -> bool) -> bool {
    (set.here && found(fields.is_some_and(is_member)))
        || set
            .below
            .iter()
            .any(|(element, set)| any(fields.and_then(|f| f.get(element.as_str())?.as_object()), set, found))
}

/// Whether a path of `set` is in `fields`.
pub(super) fn overlaps(fields: &Value, set: &FieldSet) -> bool {
    any(fields.as_object(), set, &|both| both)
}

/// Whether all paths of `set` are in `fields`.
pub(super) fn covers(fields: &Value, set: &FieldSet) -> bool {
    !any(fields.as_object(), set, &|both| !both)
}
