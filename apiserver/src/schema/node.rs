//! A compiled schema: the JSON schema read once into a tree that is quick to walk.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

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
    /// In boxes: a tree of maps has room for eleven values in every map, and most have two or three.
    pub(super) properties: BTreeMap<String, Box<Self>>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Self>>,
    pub(super) list: List,
    /// `None` where nothing is demanded but the type, as in most places.
    pub(super) checks: Option<Box<Checks>>,
    /// Further demands whose errors count as the node's own: what a definition asks of `metadata`.
    pub(super) also: Vec<Self>,
    pub(super) rules: Option<Box<Rules>>,
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
    pub(super) pattern: Option<Pattern>,
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
            properties.insert(name.clone(), Box::new(Self::compile(schema, &path, structural, depth + 1)?));
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
                let keys = map.get("x-kubernetes-list-map-keys").map(strings).unwrap_or_default();
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
    /// What a schema demands of values; `None` if it has none of the words that demand something.
    fn compile(map: &Map<String, Value>, depth: usize) -> Result<Option<Box<Self>>, String> {
        let demands = Cell::new(false);
        let get = |key: &str| {
            let value = map.get(key);
            demands.set(demands.get() || value.is_some());
            value
        };
        let branches = |key: &str| -> Result<Vec<Node>, String> {
            let list = get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|schema| Node::compile(schema, key, false, depth + 1)).collect()
        };
        let number = |key: &str| get(key).and_then(Value::as_f64);
        let count = |key: &str| get(key).and_then(Value::as_u64);
        let exclusive = |key: &str| get(key).and_then(Value::as_bool).unwrap_or_default();
        let pattern = get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty());
        let checks = Self {
            required: get("required").map(strings).unwrap_or_default(),
            one_of_values: get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            pattern: pattern.map(Pattern::new).transpose()?,
            format: get("format").and_then(Value::as_str).map(str::to_owned),
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
            not: match get("not") {
                None => None,
                Some(schema) => Some(Box::new(Node::compile(schema, "not", false, depth + 1)?)),
            },
        };
        Ok(demands.get().then(|| Box::new(checks)))
    }
}

/// A regular expression, made ready when the first value comes: that takes a tenth of a millisecond and ten kilobytes, and
/// most of a program's hundred patterns wait for kinds that nobody writes.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    /// `None` if it is too large to be made ready.
    ready: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: &str) -> Result<Self, String> {
        regex_syntax::parse(text).map_err(|error| format!("pattern {text:?} is not valid: {error}"))?;
        Ok(Self { text: text.to_owned(), ready: OnceLock::new() })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the value has a part that fits. Nothing fits a pattern that is too large.
    pub(super) fn is_match(&self, value: &str) -> bool {
        let ready = self.ready.get_or_init(|| Regex::new(&self.text).ok());
        ready.as_ref().is_some_and(|regex| regex.is_match(value))
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
