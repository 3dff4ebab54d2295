//! Steps of paths into an object.

use std::borrow::Borrow;
use std::fmt;

use serde_json::Value;

/// One step of a path, kept as FieldsV1 writes it: `f:name` is a field, `k:{"name":"a"}` the item of a list with those
/// keys, `v:"a"` that value in a set, `i:0` a position. Equal steps have equal text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(Box<str>);

impl Element {
    /// The field `name` of a map.
    pub fn field(name: &str) -> Self {
        let mut text = String::with_capacity(name.len() + 2);
        text.push_str("f:");
        text.push_str(name);
        Self(text.into())
    }

    /// The item of a set that is `value`.
    pub fn value(value: &Value) -> Self {
        Self(format!("v:{}", canonical(value)).into())
    }

    /// The item of a list whose keys have these values.
    pub fn key(mut keys: Vec<(&str, &Value)>) -> Self {
        keys.sort_by_key(|(name, _)| *name);
        let mut text = String::from("k:{");
        for (position, (name, value)) in keys.into_iter().enumerate() {
            if position > 0 {
                text.push(',');
            }
            text.push_str(&Value::from(name).to_string());
            text.push(':');
            text.push_str(&canonical(value));
        }
        text.push('}');
        Self(text.into())
    }

    /// Reads a key of FieldsV1; `None` for kinds of steps that nobody here knows. Fails on one that is malformed.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let malformed = || format!("malformed path element {text:?}");
        let json = |text: &str| serde_json::from_str::<Value>(text).map_err(|_not_json| malformed());
        match text.split_once(':') {
            Some(("f", name)) => Ok(Some(Self::field(name))),
            Some(("v", value)) => Ok(Some(Self::value(&json(value)?))),
            Some(("k", keys)) => match json(keys)? {
                Value::Object(keys) => Ok(Some(Self::key(keys.iter().map(|(name, v)| (name.as_str(), v)).collect()))),
                _ => Err(malformed()),
            },
            Some(("i", index)) => {
                let index: u64 = index.parse().map_err(|_no_number| malformed())?;
                Ok(Some(Self(format!("i:{index}").into())))
            }
            Some(_) => Ok(None),
            None => Err(malformed()),
        }
    }

    /// The text that FieldsV1 has for it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text alone.
    pub(super) fn into_text(self) -> String {
        self.0.into_string()
    }

    /// The name, if this is a field.
    pub fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether this is an item of a list.
    pub(super) fn is_item(&self) -> bool {
        self.0.starts_with("k:") || self.0.starts_with("v:")
    }
}

/// The same text for the same value: `80.0` is `80`.
fn canonical(value: &Value) -> String {
    // Up to here every whole number has a float of its own, so that nothing is rounded.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value.as_f64() {
        Some(number) if value.is_f64() && number.fract() == 0.0 && number.abs() <= WHOLE_MAX => format!("{number:.0}"),
        _ => value.to_string(),
    }
}

impl Borrow<str> for Element {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// As conflicts name it: `.name`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.split_once(':') {
            Some(("f", name)) => write!(f, ".{name}"),
            Some(("v", value)) => write!(f, "[={value}]"),
            Some(("k", keys)) => {
                let keys: serde_json::Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
                let mut keys: Vec<_> =
                    keys.iter().map(|(name, value)| format!("{name}={}", canonical(value))).collect();
                keys.sort();
                write!(f, "[{}]", keys.join(","))
            }
            Some((_, rest)) => write!(f, "[{rest}]"),
            None => f.write_str(&self.0),
        }
    }
}

/// A place in an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(pub Vec<Element>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}
