//! A compiled schema: the JSON schema read once into a tree that is quick to walk.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::rules::Rules;

/// The deepest schema accepted; real ones have about ten levels, and every walk recurses this deep at most.
const DEPTH_MAX: usize = 64;

/// One place in a schema.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a flag of the schema language")]
pub(super) struct Node {
    pub(super) type_: Option<Type>,
    pub(super) nullable: bool,
    pub(super) int_or_string: bool,
    pub(super) preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: has apiVersion, kind and metadata without saying so.
    pub(super) embedded: bool,
    pub(super) default: Option<Value>,
    pub(super) properties: BTreeMap<String, Self>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Self>>,
    pub(super) list: List,
    pub(super) checks: Checks,
    /// Further demands whose errors count as the node's own: what a definition asks of `metadata`.
    pub(super) also: Vec<Self>,
    pub(super) rules: Rules,
}

/// What is allowed under keys that are no properties.
#[derive(Debug, Default)]
pub(super) enum Additional {
    /// Nothing: such keys are unknown fields.
    #[default]
    No,
    /// Anything.
    Any,
    /// What the schema says.
    Schema(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How the items of a list are told apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum List {
    #[default]
    Atomic,
    Set,
    /// By the values of these keys.
    Map(Vec<String>),
}

/// The value validations of a node.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pub(super) required: Vec<String>,
    pub(super) one_of_values: Vec<Value>,
    pub(super) pattern: Option<Regex>,
    pub(super) format: Option<String>,
    pub(super) minimum: Option<(f64, bool)>,
    pub(super) maximum: Option<(f64, bool)>,
    pub(super) multiple_of: Option<f64>,
    pub(super) length_min: Option<u64>,
    pub(super) length_max: Option<u64>,
    pub(super) items_min: Option<u64>,
    pub(super) items_max: Option<u64>,
    pub(super) properties_min: Option<u64>,
    pub(super) properties_max: Option<u64>,
    pub(super) unique: bool,
    pub(super) all_of: Vec<Node>,
    pub(super) any_of: Vec<Node>,
    pub(super) one_of: Vec<Node>,
    pub(super) not: Option<Box<Node>>,
}

impl Node {
    /// Compiles the schema of an object or of a part of one: every place has a type.
    pub(super) fn structural(schema: &Value) -> Result<Self, String> {
        Self::compile(schema, "", true, 0)
    }

    /// Compiles a value validation (inside `allOf`, `anyOf`, `oneOf`, `not`): it constrains, and need not name types.
    pub(super) fn constraint(schema: &Value) -> Result<Self, String> {
        Self::compile(schema, "", false, 0)
    }

    fn compile(schema: &Value, path: &str, structural: bool, depth: usize) -> Result<Self, String> {
        let at = |what: &str| if path.is_empty() { what.to_owned() } else { format!("{path}: {what}") };
        if depth > DEPTH_MAX {
            return Err(at("schema is nested too deeply"));
        }
        let map = schema.as_object().ok_or_else(|| at("a schema must be an object"))?;
        if map.contains_key("$ref") {
            return Err(at("$ref is not allowed in a structural schema"));
        }
        let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
        let type_ = match map.get("type").and_then(Value::as_str) {
            None | Some("") => None,
            Some(name) => Some(Type::parse(name).ok_or_else(|| at(&format!("unknown type {name:?}")))?),
        };
        let int_or_string = flag("x-kubernetes-int-or-string");
        let preserve_unknown = flag("x-kubernetes-preserve-unknown-fields");
        if structural && type_.is_none() && !int_or_string && !preserve_unknown {
            return Err(at("type: Required value: must not be empty for specified object fields"));
        }
        let mut properties = BTreeMap::new();
        for (name, schema) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            properties.insert(name.clone(), Self::compile(schema, &path, structural, depth + 1)?);
        }
        let additional = match map.get("additionalProperties") {
            None | Some(Value::Bool(false)) => Additional::No,
            Some(Value::Bool(true)) => Additional::Any,
            Some(schema) => {
                Additional::Schema(Box::new(Self::compile(schema, &format!("{path}[*]"), structural, depth + 1)?))
            }
        };
        let items = match map.get("items") {
            None => None,
            Some(schema) => Some(Box::new(Self::compile(schema, &format!("{path}[*]"), structural, depth + 1)?)),
        };
        let list = match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
            None | Some("atomic") => List::Atomic,
            Some("set") => List::Set,
            Some("map") => {
                let keys = strings(map, "x-kubernetes-list-map-keys");
                if keys.is_empty() {
                    return Err(at("a list of type map needs x-kubernetes-list-map-keys"));
                }
                List::Map(keys)
            }
            Some(other) => return Err(at(&format!("unknown x-kubernetes-list-type {other:?}"))),
        };
        Ok(Self {
            type_,
            nullable: flag("nullable"),
            int_or_string,
            preserve_unknown,
            embedded: flag("x-kubernetes-embedded-resource"),
            default: map.get("default").cloned(),
            properties,
            additional,
            items,
            list,
            checks: Checks::compile(map, depth).map_err(|error| at(&error))?,
            also: Vec::new(),
            rules: Rules::compile(schema).map_err(|error| at(&error))?,
        })
    }
}

impl Checks {
    fn compile(map: &Map<String, Value>, depth: usize) -> Result<Self, String> {
        let branches = |key: &str| -> Result<Vec<Node>, String> {
            let list = map.get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|schema| Node::compile(schema, key, false, depth + 1)).collect()
        };
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let count = |key: &str| map.get(key).and_then(Value::as_u64);
        let exclusive = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or_default();
        let pattern = match map.get("pattern").and_then(Value::as_str) {
            None | Some("") => None,
            Some(text) => Some(Regex::new(text).map_err(|error| format!("pattern {text:?} is not valid: {error}"))?),
        };
        Ok(Self {
            required: strings(map, "required"),
            one_of_values: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            pattern,
            format: map.get("format").and_then(Value::as_str).map(str::to_owned),
            minimum: number("minimum").map(|n| (n, exclusive("exclusiveMinimum"))),
            maximum: number("maximum").map(|n| (n, exclusive("exclusiveMaximum"))),
            multiple_of: number("multipleOf").filter(|n| *n > 0.0),
            length_min: count("minLength"),
            length_max: count("maxLength"),
            items_min: count("minItems"),
            items_max: count("maxItems"),
            properties_min: count("minProperties"),
            properties_max: count("maxProperties"),
            unique: exclusive("uniqueItems"),
            all_of: branches("allOf")?,
            any_of: branches("anyOf")?,
            one_of: branches("oneOf")?,
            not: match map.get("not") {
                None => None,
                Some(schema) => Some(Box::new(Node::compile(schema, "not", false, depth + 1)?)),
            },
        })
    }
}

fn strings(map: &Map<String, Value>, key: &str) -> Vec<String> {
    map.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
