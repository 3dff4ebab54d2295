//! A kind's schema as merging sees it: where maps and lists are merged item by item, and where they are one value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::schema::object_meta;

use super::element::Element;

/// The deepest schema that is read; the schema's own compiler refuses deeper ones.
const DEPTH_MAX: usize = 64;

/// What is merged item by item at one place of an object. What the schema says nothing about is a granular map or an
/// atomic list, whichever the value is.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Type {
    /// What may stand there at all.
    pub(super) form: Form,
    /// How a map is merged; `None` where none may stand or where it is one value.
    pub(super) map: Option<Fields>,
    /// How a list is merged; `None` where none may stand or where it is one value.
    pub(super) list: Option<Items>,
}

/// What may stand at a place, besides null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// What the schema says nothing about, and what may be a number or a string.
    #[default]
    Any,
    Map,
    List,
    String,
    Number,
    Boolean,
}

impl Form {
    fn of(name: &str) -> Self {
        match name {
            "object" => Self::Map,
            "array" => Self::List,
            "string" => Self::String,
            "integer" | "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// What is wrong with a value, in the words of Kubernetes and without the value.
    pub(super) fn misfit(self, value: &Value) -> Option<String> {
        let (fits, wanted) = match self {
            Self::Any => return None,
            Self::Map => (value.is_object(), "map"),
            Self::List => (value.is_array(), "list"),
            Self::String => (value.is_string(), "string"),
            Self::Number => (value.is_number(), "numeric (int or float)"),
            Self::Boolean => (value.is_boolean(), "boolean"),
        };
        let found = match value {
            Value::Null => return None,
            Value::Object(_) => "map",
            Value::Array(_) => "list",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
        };
        (!fits).then(|| format!("expected {wanted}, got {found}"))
    }
}

/// The members of a map.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Fields {
    /// The fields that the schema names. Unlike other members they are owned by being set, not by existing.
    named: BTreeMap<String, Type>,
    /// All others; `None` if the schema says nothing about them.
    others: Option<Box<Type>>,
}

/// The items of a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Items {
    /// What tells items apart, with the default of each key; empty for a set, whose items are what they are.
    keys: Vec<(String, Option<Value>)>,
    pub(super) item: Box<Type>,
}

/// What the schema says nothing about.
static UNTYPED: Type = Type { form: Form::Any, map: Some(Fields { named: BTreeMap::new(), others: None }), list: None };

impl Type {
    /// The type of a kind's objects by the kind's schema; `metadata` is that of all objects.
    pub fn of_objects(schema: &Value) -> Self {
        let mut type_ = Self::compile(schema, 0);
        let fields = type_.map.get_or_insert_default();
        fields.named.insert("metadata".to_owned(), Self::compile(&object_meta::schema(), 0));
        for name in ["apiVersion", "kind"] {
            fields.named.insert(name.to_owned(), Self::default());
        }
        type_
    }

    fn compile(schema: &Value, depth: usize) -> Self {
        let says = |key: &str| schema.get(key).and_then(Value::as_str);
        let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or_default();
        if depth > DEPTH_MAX || flag("x-kubernetes-int-or-string") {
            return Self::default();
        }
        let form = says("type").map(Form::of).unwrap_or_default();
        match says("type") {
            Some("object") if says("x-kubernetes-map-type") == Some("atomic") => Self { form, ..Self::default() },
            Some("object") => {
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                let named = properties.map(|(name, schema)| (name.clone(), Self::compile(schema, depth + 1))).collect();
                let others = schema.get("additionalProperties").filter(|schema| schema.is_object());
                let others = others.map(|schema| Box::new(Self::compile(schema, depth + 1)));
                Self { form, map: Some(Fields { named, others }), list: None }
            }
            Some("array") => Self { form, map: None, list: Items::compile(schema, depth) },
            Some(_) => Self { form, ..Self::default() },
            None => UNTYPED.clone(),
        }
    }

    /// The type of the member `name`, for maps that are merged.
    pub(super) fn member(&self, name: &str) -> &Self {
        let fields = self.map.as_ref();
        fields.and_then(|fields| fields.named.get(name).or(fields.others.as_deref())).unwrap_or(&UNTYPED)
    }

    /// Whether the schema names the member.
    pub(super) fn names(&self, name: &str) -> bool {
        self.map.as_ref().is_some_and(|fields| fields.named.contains_key(name))
    }

    /// The type of what a step leads to.
    pub(super) fn step(&self, element: &Element) -> Option<&Self> {
        match element.name() {
            Some(name) => self.map.as_ref().map(|_| self.member(name)),
            None if element.is_item() => self.list.as_ref().map(|items| &*items.item),
            None => None,
        }
    }

    /// The members of `value` if it is a map that is merged member by member.
    pub(super) fn members<'v>(&self, value: &'v Value) -> Option<&'v Map<String, Value>> {
        value.as_object().filter(|_| self.map.is_some())
    }

    /// The items of `value`, each with the step to it, if it is a list that is merged item by item. One with an item
    /// that has no key is one value, whatever the schema says.
    pub(super) fn items<'v>(&self, value: &'v Value) -> Option<Vec<(Element, &'v Value)>> {
        let (list, items) = (self.list.as_ref()?, value.as_array()?);
        items.iter().map(|item| list.index(item).ok().map(|element| (element, item))).collect()
    }
}

impl Items {
    fn compile(schema: &Value, depth: usize) -> Option<Self> {
        let item = schema.get("items");
        let keys = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Vec::new(),
            Some("map") => {
                let names = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array)?;
                let default = |name: &str| item?.get("properties")?.get(name)?.get("default").cloned();
                names.iter().filter_map(Value::as_str).map(|name| (name.to_owned(), default(name))).collect()
            }
            _ => return None,
        };
        let item = item.map_or_else(|| UNTYPED.clone(), |schema| Type::compile(schema, depth + 1));
        Some(Self { keys, item: Box::new(item) })
    }

    /// The step to an item, or why it has none.
    pub(super) fn index(&self, item: &Value) -> Result<Element, String> {
        if self.keys.is_empty() {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                _ => Ok(Element::value(item)),
            };
        }
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let keys: Vec<(&str, &Value)> = self
            .keys
            .iter()
            .filter_map(|(name, default)| map.get(name).or(default.as_ref()).map(|value| (name.as_str(), value)))
            .collect();
        if keys.is_empty() {
            let names: Vec<String> = self.keys.iter().map(|(name, _)| format!("{name:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(Element::key(keys))
    }
}
