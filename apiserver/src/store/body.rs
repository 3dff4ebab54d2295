//! From a JSON tree to the bytes that are stored and sent.
//!
//! An object is serialised once, by whoever writes it and outside of the writer task. Only the revision is not known
//! then: it is stamped in at commit by copying, together with the envelope of the watch line. `resourceVersion` is the
//! first member of `metadata`, so that its place is found without parsing.

use bytes::Bytes;
use serde_json::Value;

use super::error::Error;
use super::event::Change;

/// What precedes the digits of the revision. Only the strings `apiVersion` and `kind` stand before it, and inside a
/// JSON string its quotes would be escaped: the first occurrence is the right one.
const MARK: &[u8] = br#""metadata":{"resourceVersion":""#;

/// A serialised object that lacks its revision.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    revision_at: usize,
}

impl Draft {
    /// Serialises `value`, leaving out any `metadata.resourceVersion`.
    pub(super) fn new(value: &Value) -> Result<Self, Error> {
        let object = value.as_object().ok_or_else(|| Error::invalid("the body is not an object"))?;
        let metadata = object
            .get("metadata")
            .and_then(Value::as_object)
            .ok_or_else(|| Error::invalid("metadata is not an object"))?;
        let mut out = Vec::with_capacity(1024);
        out.push(b'{');
        for field in ["apiVersion", "kind"] {
            let text = object.get(field).and_then(Value::as_str);
            let text = text.ok_or_else(|| Error::invalid(format!("{field} is not a string")))?;
            member(&mut out, field, text)?;
            out.push(b',');
        }
        out.extend_from_slice(MARK);
        let revision_at = out.len();
        out.push(b'"');
        for (name, value) in metadata.iter().filter(|(name, _)| *name != "resourceVersion") {
            out.push(b',');
            member(&mut out, name, value)?;
        }
        out.push(b'}');
        for (name, value) in object {
            if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                out.push(b',');
                member(&mut out, name, value)?;
            }
        }
        out.push(b'}');
        Ok(Self { bytes: out, revision_at })
    }

    /// The watch line and, as a slice of it, the body.
    pub(super) fn stamp(&self, change: Change, revision: u64) -> (Bytes, Bytes) {
        let (before, after) = self.bytes.split_at(self.revision_at);
        enveloped(change.watch_type(), &[before, revision.to_string().as_bytes(), after])
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn member<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, name: &str, value: &T) -> Result<(), Error> {
    let failed = |error: serde_json::Error| Error::invalid(error.to_string());
    serde_json::to_writer(&mut *out, name).map_err(failed)?;
    out.push(b':');
    serde_json::to_writer(out, value).map_err(failed)
}

/// A line of type `kind` around `body`, and the body as a slice of the line.
fn enveloped(watch_type: &str, body: &[&[u8]]) -> (Bytes, Bytes) {
    const START: &[u8] = br#"{"type":""#;
    const MIDDLE: &[u8] = br#"","object":"#;
    const END: &[u8] = b"}\n";
    let head = START.len() + watch_type.len() + MIDDLE.len();
    let length: usize = body.iter().map(|part| part.len()).sum();
    let mut line = Vec::with_capacity(head + length + END.len());
    line.extend_from_slice(START);
    line.extend_from_slice(watch_type.as_bytes());
    line.extend_from_slice(MIDDLE);
    for part in body {
        line.extend_from_slice(part);
    }
    line.extend_from_slice(END);
    let line = Bytes::from(line);
    let body = line.slice(head..head + length);
    (line, body)
}

/// A line of type `watch_type` around `body`.
pub(super) fn line(watch_type: &str, body: &[u8]) -> Bytes {
    enveloped(watch_type, &[body]).0
}

/// The line and the body of an object read back from the disk.
pub(super) fn loaded(change: Change, body: &[u8]) -> (Bytes, Bytes) {
    enveloped(change.watch_type(), &[body])
}

/// `body` in a line of another type and under another revision, and the new body as a slice of it.
pub(super) fn restamped(change: Change, body: &[u8], revision: u64) -> (Bytes, Bytes) {
    match revision_range(body) {
        Some((start, end)) => enveloped(
            change.watch_type(),
            &[
                body.get(..start).unwrap_or_default(),
                revision.to_string().as_bytes(),
                body.get(end..).unwrap_or_default(),
            ],
        ),
        None => enveloped(change.watch_type(), &[body]),
    }
}

/// `body` under another revision.
pub(super) fn restamp(body: &[u8], revision: u64) -> Bytes {
    restamped(Change::Deleted, body, revision).1
}

/// Where the digits of the revision are.
fn revision_range(body: &[u8]) -> Option<(usize, usize)> {
    let start = body.windows(MARK.len()).position(|window| window == MARK)? + MARK.len();
    let digits = body.get(start..)?.iter().position(|byte| !byte.is_ascii_digit())?;
    Some((start, start + digits))
}

/// The revision that a stored body carries.
pub(super) fn revision(body: &[u8]) -> Option<u64> {
    let (start, end) = revision_range(body)?;
    std::str::from_utf8(body.get(start..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_stamped_body_is_the_object_with_its_revision_and_nothing_else_changed() {
        let tricky = r#"","metadata":{"resourceVersion":"999"#;
        let value = json!({
            "kind": "Thing", "apiVersion": tricky, "data": { "metadata": { "resourceVersion": "5" } },
            "metadata": { "name": "a", "resourceVersion": "4", "labels": { "resourceVersion": "4" },
                          "annotations": { "z": tricky } },
        });
        let (line, body) = Draft::new(&value).unwrap().stamp(Change::Updated, 18_446_744_073_709_551_615);
        let mut wanted = value.clone();
        wanted["metadata"]["resourceVersion"] = json!("18446744073709551615");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), wanted);
        assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), json!({ "type": "MODIFIED", "object": wanted }));
        assert!(line.ends_with(b"}\n"));
        assert_eq!(revision(&body), Some(u64::MAX));

        let again = restamp(&body, 7);
        wanted["metadata"]["resourceVersion"] = json!("7");
        assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), wanted);
        assert_eq!(revision(&again), Some(7));
    }

    #[test]
    fn the_order_is_that_people_know() {
        let value = json!({ "status": {}, "kind": "K", "data": 1, "apiVersion": "v1", "metadata": { "name": "a" } });
        let (_, body) = Draft::new(&value).unwrap().stamp(Change::Created, 3);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"apiVersion":"v1","kind":"K","metadata":{"resourceVersion":"3","name":"a"},"data":1,"status":{}}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for value in [json!([]), json!({ "apiVersion": "v1", "kind": "K" }), json!({ "kind": "K", "metadata": {} })] {
            assert!(matches!(Draft::new(&value), Err(Error::Invalid { .. })), "{value}");
        }
    }
}
