//! Kubernetes' protobuf request bodies: the envelope and the messages of the core kinds, read into JSON.
//!
//! The messages are tables, not generated code: only what clients really send in protobuf is here. Field numbers are
//! those of the `generated.proto` files beside Kubernetes' types.

mod messages;

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::kind::DecodeProtobuf;

pub use messages::{
    binding, cluster_role, config_map, core_event, delete_options, event, lease, namespace, resource_quota, role,
    secret, self_subject_access_review, self_subject_review, self_subject_rules_review, service_account,
    subject_access_review, token_request, token_review,
};

/// The content type of Kubernetes protobuf.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Every body begins with it, so that no other format is taken for protobuf.
const MAGIC: &[u8] = b"k8s\0";

/// The deepest nesting of messages; the tables have six levels, and only their own recursion could have more.
const DEPTH_MAX: usize = 16;

/// Reads the envelope and, with the kind's decoder, what is in it.
pub fn decode(body: &[u8], decoder: DecodeProtobuf) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the protobuf body does not begin with \"k8s\\0\"")?;
    let unknown = messages::UNKNOWN.read(envelope, 0)?;
    if unknown.get("contentEncoding").is_some() {
        return Err("the protobuf envelope has a content encoding, which is not supported".to_owned());
    }
    let raw = raw(envelope)?;
    let mut value = match unknown.get("contentType").and_then(Value::as_str) {
        None | Some(MEDIA_TYPE) => decoder(raw)?,
        Some("application/json") => crate::decode::json(raw).map_err(|error| error.to_string())?.value,
        Some(other) => return Err(format!("the protobuf envelope holds {other}, which is not supported")),
    };
    // The type travels on the envelope, not in the message.
    if let (Some(object), Some(Value::Object(type_))) = (value.as_object_mut(), unknown.get("typeMeta")) {
        for (key, value) in type_ {
            object.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Ok(value)
}

/// Field 2 of the envelope: the encoded object.
fn raw(envelope: &[u8]) -> Result<&[u8], String> {
    let (mut rest, mut raw) = (envelope, &envelope[..0]);
    while !rest.is_empty() {
        let (number, field) = next(&mut rest)?;
        if let (2, Field::Bytes(bytes)) = (number, field) {
            raw = bytes;
        }
    }
    Ok(raw)
}

/// One message: its fields by number.
struct Message(&'static [(u32, &'static str, Kind)]);

/// How a field becomes JSON. A field Kubernetes holds by value is always sent, so its zero means "not given"; one held
/// by pointer is sent only if given, and its zero counts.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// A string held by pointer.
    OptionalText,
    Integer,
    OptionalInteger,
    OptionalBoolean,
    /// A message; left out when nothing is in it.
    Part(&'static Message),
    Texts,
    Parts(&'static Message),
    /// `map<string, string>`
    TextMap,
    /// `map<string, bytes>`
    BinaryMap,
    /// `map<string, Quantity>`: a message that is only a text.
    QuantityMap,
    /// `map<string, ExtraValue>`: a message that is only a list of strings.
    PartMap(&'static Message),
    /// RFC 3339 with seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// `FieldsV1`: JSON text in bytes.
    Fields,
}

/// A field as it stands on the wire.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number, of which these messages have none.
    Other,
}

impl Message {
    fn read(&self, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, String> {
        if depth > DEPTH_MAX {
            return Err("protobuf message is nested too deeply".to_owned());
        }
        let mut out = Map::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, field) = next(&mut rest)?;
            // Unknown fields come from newer clients.
            let Some((_, name, kind)) = self.0.iter().find(|(n, ..)| *n == number) else { continue };
            kind.read(&mut out, name, &field, depth).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(out)
    }

    fn object(&self, bytes: &[u8]) -> Result<Value, String> {
        self.read(bytes, 0).map(Value::Object)
    }
}

impl Kind {
    fn read(self, out: &mut Map<String, Value>, name: &str, field: &Field<'_>, depth: usize) -> Result<(), String> {
        let value = match (self, field) {
            (Self::Text, Field::Bytes(bytes)) => Some(json!(text(bytes)?)).filter(|t| t != ""),
            (Self::OptionalText, Field::Bytes(bytes)) => Some(json!(text(bytes)?)),
            (Self::Integer, Field::Varint(n)) => Some(json!(n.cast_signed())).filter(|n| *n != 0),
            (Self::OptionalInteger, Field::Varint(n)) => Some(json!(n.cast_signed())),
            (Self::OptionalBoolean, Field::Varint(n)) => Some(json!(*n != 0)),
            (Self::Part(message), Field::Bytes(bytes)) => {
                Some(message.read(bytes, depth + 1)?).filter(|m| !m.is_empty()).map(Value::Object)
            }
            (Self::Texts, Field::Bytes(bytes)) => {
                push(out, name, json!(text(bytes)?));
                None
            }
            (Self::Parts(message), Field::Bytes(bytes)) => {
                push(out, name, Value::Object(message.read(bytes, depth + 1)?));
                None
            }
            (Self::TextMap | Self::BinaryMap | Self::QuantityMap | Self::PartMap(_), Field::Bytes(bytes)) => {
                let (key, value) = self.entry(bytes, depth)?;
                if let Some(map) = out.entry(name).or_insert_with(|| json!({})).as_object_mut() {
                    map.insert(key, value);
                }
                None
            }
            (Self::Time, Field::Bytes(bytes)) => time(bytes, 0)?,
            (Self::MicroTime, Field::Bytes(bytes)) => time(bytes, 6)?,
            (Self::Fields, Field::Bytes(bytes)) => {
                let raw = messages::FIELDS.read(bytes, depth + 1)?;
                let raw = raw.get("raw").and_then(Value::as_str).unwrap_or("{}");
                Some(crate::decode::json(raw.as_bytes()).map_err(|error| error.to_string())?.value)
            }
            _ => return Err("unexpected wire type".to_owned()),
        };
        if let Some(value) = value {
            out.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// One entry of a map: a message of the key (1) and the value (2).
    fn entry(self, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
        let (mut key, mut value) = (String::new(), &bytes[..0]);
        let mut rest = bytes;
        while !rest.is_empty() {
            match next(&mut rest)? {
                (1, Field::Bytes(bytes)) => text(bytes)?.clone_into(&mut key),
                (2, Field::Bytes(bytes)) => value = bytes,
                _ => {}
            }
        }
        let value = match self {
            Self::BinaryMap => base64(value),
            Self::QuantityMap => {
                let quantity = messages::QUANTITY.read(value, depth + 1)?;
                quantity.get("string").cloned().unwrap_or_else(|| json!("0"))
            }
            Self::PartMap(message) => {
                let message = message.read(value, depth + 1)?;
                message.get("items").cloned().unwrap_or_else(|| json!([]))
            }
            _ => json!(text(value)?),
        };
        Ok((key, value))
    }
}

fn push(out: &mut Map<String, Value>, name: &str, value: Value) {
    if let Some(items) = out.entry(name).or_insert_with(|| json!([])).as_array_mut() {
        items.push(value);
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn base64(bytes: &[u8]) -> Value {
    json!(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// A `Timestamp` message (seconds 1, nanos 2) as text; the zero time is "not given".
fn time(bytes: &[u8], digits: u8) -> Result<Option<Value>, String> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut rest = bytes;
    while !rest.is_empty() {
        match next(&mut rest)? {
            (1, Field::Varint(n)) => seconds = n.cast_signed(),
            (2, Field::Varint(n)) => nanos = n.cast_signed(),
            _ => {}
        }
    }
    // Go's zero time, the year 1, is what a time held by value has when it was never set.
    if bytes.is_empty() || seconds == -62_135_596_800 {
        return Ok(None);
    }
    let nanos = if digits == 0 { 0 } else { i32::try_from(nanos).map_err(|error| error.to_string())? };
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|error| error.to_string())?;
    Ok(Some(json!(format!("{time:.prec$}", prec = usize::from(digits)))))
}

/// Takes the next field off `rest`.
fn next<'a>(rest: &mut &'a [u8]) -> Result<(u32, Field<'a>), String> {
    let tag = varint(rest)?;
    let number = u32::try_from(tag >> 3).map_err(|error| format!("protobuf field number: {error}"))?;
    let field = match tag & 7 {
        0 => Field::Varint(varint(rest)?),
        1 => take(rest, 8).map(|_| Field::Other)?,
        2 => {
            let length = varint(rest)?;
            Field::Bytes(take(rest, length)?)
        }
        5 => take(rest, 4).map(|_| Field::Other)?,
        other => return Err(format!("unknown protobuf wire type {other}")),
    };
    Ok((number, field))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], String> {
    let length =
        usize::try_from(length).ok().filter(|length| *length <= rest.len()).ok_or("protobuf body ends early")?;
    let (taken, after) = rest.split_at(length);
    *rest = after;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or("protobuf body ends early")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("protobuf number is too long".to_owned())
}

#[cfg(test)]
mod tests;
