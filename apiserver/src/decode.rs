//! From a request body to JSON: JSON, YAML or a Kubernetes protobuf envelope. Never panics, whatever the bytes.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::kind::DecodeProtobuf;

/// The deepest nesting read. Kubernetes objects have about twenty levels; what is read here must still be readable
/// (serde_json stops at 128) when it comes back from the store inside of lists and events.
pub const DEPTH_MAX: usize = 100;
/// How many duplicate fields are reported; the rest would only lengthen a message nobody reads to its end.
const PROBLEMS_MAX: usize = 100;
/// The deepest YAML read. The parser needs up to 30 KiB of stack a level when not optimised, and a thread has 2 MiB.
const YAML_DEPTH_MAX: usize = 32;
/// YAML nodes in one document. The largest body is 3 MiB; manifests of that size have some hundred thousand.
const YAML_NODES_MAX: usize = 250_000;
/// Bytes YAML aliases may unfold to: four times the largest body.
const YAML_SCALAR_BYTES_MAX: usize = 12 * 1024 * 1024;

/// A body that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; integers are kept as 64-bit integers.
    pub value: Value,
    /// Complaints of strict decoding, such as `duplicate field "spec.foo"`: an error, a warning or nothing,
    /// depending on `fieldValidation`. The last of the duplicates counts.
    pub problems: Vec<String>,
}

/// Why a body was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// 415: nobody here reads that content type.
    #[error("the body of the request was in an unknown format - accepted media types include: {}", accepted.join(", "))]
    UnsupportedMediaType {
        /// What would have been read.
        accepted: Vec<&'static str>,
    },
    /// 400: the content type is known and the body does not follow it.
    #[error("{0}")]
    Malformed(String),
}

/// Reads `body`. No content type means JSON; protobuf is read if the kind has a decoder for it.
pub fn decode(
    body: &[u8],
    content_type: Option<&str>,
    protobuf: Option<DecodeProtobuf>,
) -> Result<Decoded, DecodeError> {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match (media_type.as_str(), protobuf) {
        ("" | "application/json", _) => json(body),
        ("application/yaml", _) => yaml(body),
        (crate::protobuf::MEDIA_TYPE, Some(decoder)) => {
            let value = crate::protobuf::decode(body, decoder).map_err(DecodeError::Malformed)?;
            Ok(Decoded { value, problems: Vec::new() })
        }
        (_, decoder) => {
            let mut accepted = vec!["application/json", "application/yaml"];
            accepted.extend(decoder.map(|_| crate::protobuf::MEDIA_TYPE));
            Err(DecodeError::UnsupportedMediaType { accepted })
        }
    }
}

/// Reads JSON.
pub fn json(body: &[u8]) -> Result<Decoded, DecodeError> {
    serde_json::from_slice(body).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// Reads YAML: one document. `yes` and `on` are booleans as they are to kubectl; `012` and `1_000` stay strings.
pub fn yaml(body: &[u8]) -> Result<Decoded, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: YAML_DEPTH_MAX,
            flow_nesting_limit: YAML_DEPTH_MAX,
            max_nodes: YAML_NODES_MAX,
            max_total_scalar_bytes: YAML_SCALAR_BYTES_MAX,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        emit_comments: false,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| DecodeError::Malformed(error.to_string()))
}

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let problems = RefCell::new(Vec::new());
        let value = Reader { path: Path::Root, depth: 0, problems: &problems }.deserialize(deserializer)?;
        Ok(Self { value, problems: problems.into_inner() })
    }
}

/// Where the reader is; written out only when there is something to report.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Builds the value and notices keys that stand twice.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: Path<'a>,
    depth: usize,
    problems: &'a RefCell<Vec<String>>,
}

impl Reader<'_> {
    fn descend<E: de::Error>(&self) -> Result<usize, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!("exceeded max depth of {DEPTH_MAX}")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        // Past the 64-bit signed range Kubernetes reads a float.
        #[expect(clippy::cast_precision_loss, reason = "what Kubernetes does with integers this large")]
        i64::try_from(value).map_or_else(|_| self.visit_f64(value as f64), |value| Ok(Value::Number(value.into())))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "what Kubernetes does with integers this large")]
        i64::try_from(value).map_or_else(|_| self.visit_f64(value as f64), |value| Ok(Value::Number(value.into())))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "what Kubernetes does with integers this large")]
        i64::try_from(value).map_or_else(|_| self.visit_f64(value as f64), |value| Ok(Value::Number(value.into())))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom(format_args!("unsupported value: {value}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.descend()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Reader {
            path: Path::Index(&self.path, items.len()),
            depth,
            problems: self.problems,
        })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let depth = self.descend()?;
        let mut map = Map::new();
        while let Some(Name(key)) = access.next_key()? {
            let path = Path::Key(&self.path, &key);
            let value = access.next_value_seed(Reader { path, depth, problems: self.problems })?;
            if map.contains_key(&key) {
                let mut problems = self.problems.borrow_mut();
                let problem = format!("duplicate field \"{path}\"");
                if problems.len() < PROBLEMS_MAX && !problems.contains(&problem) {
                    problems.push(problem);
                }
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A key. YAML's may be numbers and booleans, which become the text they were written as.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, value: &str) -> Result<Name, E> {
                Ok(Name(value.to_owned()))
            }

            fn visit_string<E>(self, value: String) -> Result<Name, E> {
                Ok(Name(value))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests;
