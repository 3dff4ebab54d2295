//! A Swagger document in protobuf, as gnostic defines it (`openapiv2/OpenAPIv2.proto`): what Go's clients ask for.
//!
//! Only the parts that our own document has are written. Values of any type travel as YAML, of which JSON is a part.

use serde_json::{Map, Value};

/// The bytes of a message `Document`.
pub(super) fn document(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    out.part(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["version"]);
    });
    out.part(8, |paths| named(paths, 2, &document["paths"], path_item));
    out.part(9, |definitions| named(definitions, 1, &document["definitions"], schema));
    out.bytes
}

/// A message that is being written. Fields that are missing, or have another type than expected, are left out.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.bytes.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.bytes.push(u8::try_from(value).unwrap_or(0));
    }

    fn raw(&mut self, number: u64, bytes: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u64, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.raw(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u64, values: &Value) {
        for text in values.as_array().into_iter().flatten().filter_map(Value::as_str) {
            self.raw(number, text.as_bytes());
        }
    }

    fn switch(&mut self, number: u64, value: &Value) {
        if *value == true {
            self.varint(number << 3);
            self.varint(1);
        }
    }

    fn integer(&mut self, number: u64, value: &Value) {
        if let Some(value) = value.as_i64() {
            self.varint(number << 3);
            self.varint(value.cast_unsigned());
        }
    }

    fn double(&mut self, number: u64, value: &Value) {
        if let Some(value) = value.as_f64() {
            self.varint(number << 3 | 1);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn part(&mut self, number: u64, write: impl FnOnce(&mut Self)) {
        let mut part = Self::default();
        write(&mut part);
        self.raw(number, &part.bytes);
    }

    /// A value of any type: the message `Any`.
    fn any(&mut self, number: u64, value: &Value) {
        self.part(number, |any| any.raw(2, value.to_string().as_bytes()));
    }

    /// The members that begin with `x-`.
    fn extensions(&mut self, number: u64, of: &Value) {
        for (name, value) in members(of).filter(|(name, _)| name.starts_with("x-")) {
            self.part(number, |extension| {
                extension.raw(1, name.as_bytes());
                extension.any(2, value);
            });
        }
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A map as gnostic writes it: a list of messages with a name and a value.
fn named(out: &mut Message, number: u64, map: &Value, write: fn(&mut Message, &Value)) {
    for (name, value) in members(map) {
        out.part(number, |pair| {
            pair.raw(1, name.as_bytes());
            pair.part(2, |message| write(message, value));
        });
    }
}

fn path_item(out: &mut Message, item: &Value) {
    for (verb, number) in [("get", 2), ("put", 3), ("post", 4), ("delete", 5), ("patch", 8)] {
        if let Some(of) = item.get(verb) {
            out.part(number, |message| operation(message, of));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Message, of: &Value) {
    out.text(3, &of["description"]);
    out.text(5, &of["operationId"]);
    out.texts(6, &of["produces"]);
    out.texts(7, &of["consumes"]);
    parameters(out, 8, &of["parameters"]);
    out.part(9, |responses| named(responses, 1, &of["responses"], response));
    out.texts(10, &of["schemes"]);
    out.extensions(13, of);
}

fn response(out: &mut Message, of: &Value) {
    out.part(1, |response| {
        response.text(1, &of["description"]);
        if let Some(shape) = of.get("schema") {
            response.part(2, |item| item.part(1, |message| schema(message, shape)));
        }
    });
}

/// Parameters, each in the message for where it stands.
fn parameters(out: &mut Message, number: u64, list: &Value) {
    for of in list.as_array().into_iter().flatten() {
        out.part(number, |item| {
            item.part(1, |parameter| match of["in"].as_str() {
                Some("body") => parameter.part(1, |body| {
                    body.text(2, &of["name"]);
                    body.text(3, &of["in"]);
                    body.switch(4, &of["required"]);
                    body.part(5, |message| schema(message, &of["schema"]));
                }),
                place => parameter.part(2, |other| {
                    // A parameter in the path cannot be empty: its message has one field less than that of the query.
                    let (message, shift) = if place == Some("path") { (4, 0) } else { (3, 1) };
                    other.part(message, |simple| {
                        simple.switch(1, &of["required"]);
                        simple.text(2, &of["in"]);
                        simple.text(3, &of["description"]);
                        simple.text(4, &of["name"]);
                        simple.text(5 + shift, &of["type"]);
                        simple.text(6 + shift, &of["format"]);
                        simple.switch(19 + shift, &of["uniqueItems"]);
                    });
                }),
            });
        });
    }
}

fn schema(out: &mut Message, of: &Value) {
    out.text(1, &of["$ref"]);
    out.text(2, &of["format"]);
    out.text(3, &of["title"]);
    out.text(4, &of["description"]);
    out.double(6, &of["multipleOf"]);
    out.double(7, &of["maximum"]);
    out.switch(8, &of["exclusiveMaximum"]);
    out.double(9, &of["minimum"]);
    out.switch(10, &of["exclusiveMinimum"]);
    out.integer(11, &of["maxLength"]);
    out.integer(12, &of["minLength"]);
    out.text(13, &of["pattern"]);
    out.integer(14, &of["maxItems"]);
    out.integer(15, &of["minItems"]);
    out.switch(16, &of["uniqueItems"]);
    out.integer(17, &of["maxProperties"]);
    out.integer(18, &of["minProperties"]);
    out.texts(19, &of["required"]);
    for value in of["enum"].as_array().into_iter().flatten() {
        out.any(20, value);
    }
    match of.get("additionalProperties") {
        Some(Value::Bool(allowed)) => {
            out.part(21, |item| {
                item.varint(2 << 3);
                item.varint(u64::from(*allowed));
            });
        }
        Some(values) => out.part(21, |item| item.part(1, |message| schema(message, values))),
        None => {}
    }
    if let Some(kind) = of["type"].as_str() {
        out.part(22, |item| item.raw(1, kind.as_bytes()));
    }
    if let Some(items) = of.get("items") {
        out.part(23, |item| item.part(1, |message| schema(message, items)));
    }
    if let Some(properties) = of.get("properties") {
        out.part(25, |message| named(message, 1, properties, schema));
    }
    out.extensions(31, of);
}
