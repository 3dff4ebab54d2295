//! Events, in their two faces: `v1 Event`, which is stored and which kubectl reads, and `events.k8s.io/v1 Event`, which
//! newer clients write. The faces hold the same and differ in names.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{base, column, computed, strings, wrong};
use crate::kind::{Column, FieldError, FieldErrorReason, Kind, Scope, VERBS, View};

/// Kubernetes' own default (`--event-ttl`): what happened is of interest while one is looking into it.
const RETENTION_SECONDS: u32 = 3600;

/// The names that differ: of `v1`, of `events.k8s.io/v1`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// `v1 Event`: the stored face.
pub fn core_event() -> Kind {
    Kind {
        short_names: strings(&["ev"]),
        columns: columns(),
        selectable_fields: strings(&[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]),
        validate: Some(Arc::new(validate)),
        decode_protobuf: Some(crate::protobuf::core_event),
        retention_seconds: Some(RETENTION_SECONDS),
        ..base("", "v1", "Event", "events", Scope::Namespaced, schema(false))
    }
}

/// `events.k8s.io/v1 Event`: the same objects with newer names.
pub fn event() -> Kind {
    Kind {
        short_names: strings(&["ev"]),
        columns: columns(),
        selectable_fields: strings(&[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reason",
            "reportingController",
            "type",
        ]),
        validate: Some(Arc::new(validate)),
        decode_protobuf: Some(crate::protobuf::event),
        retention_seconds: Some(RETENTION_SECONDS),
        view_of: Some(View {
            group: String::new(),
            plural: "events".to_owned(),
            from_stored,
            to_stored: Some(to_stored),
            verbs: VERBS,
            shows: None,
            timed: None,
            fields: &[("reason", "reason"), ("type", "type")],
            labels: &[],
        }),
        ..base("events.k8s.io", "v1", "Event", "events", Scope::Namespaced, schema(true))
    }
}

fn schema(newer: bool) -> Value {
    let name = |core: &'static str| -> &'static str {
        NAMES.iter().find(|(c, _)| newer && *c == core).map_or(core, |(_, newer)| newer)
    };
    let reference = |description: &str| {
        let mut properties = json!({});
        for field in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
            properties[field] = json!({"type": "string"});
        }
        json!({"type": "object", "description": description, "x-kubernetes-map-type": "atomic", "properties": properties})
    };
    let time = |description: &str| json!({"type": "string", "format": "date-time", "nullable": true, "description": description});
    let mut properties = json!({
        "reason": {"type": "string", "maxLength": 128, "description": "Why this happened, as one word for programs."},
        "action": {"type": "string", "maxLength": 128, "description": "What was done or failed."},
        "type": {"type": "string", "description": "Normal or Warning."},
        "eventTime": time("When this was first observed."),
        "reportingInstance": {"type": "string", "maxLength": 128, "description": "Which instance of the controller reports."},
        "related": reference("A second object, for actions that involve two."),
        "series": {
            "type": "object",
            "description": "The series this belongs to, if it happened more than once.",
            "properties": {
                "count": {"type": "integer", "format": "int32", "description": "How often it happened."},
                "lastObservedTime": time("When it last happened."),
            },
        },
    });
    properties[name("involvedObject")] = reference("The object this is about.");
    properties[name("message")] =
        json!({"type": "string", "maxLength": 1024, "description": "What happened, for people."});
    properties[name("reportingComponent")] =
        json!({"type": "string", "maxLength": 253, "description": "Which controller reports."});
    properties[name("source")] = json!({
        "type": "object",
        "description": "Who reported this, in the older form.",
        "properties": {"component": {"type": "string"}, "host": {"type": "string"}},
    });
    properties[name("firstTimestamp")] = time("When this was first recorded, in the older form.");
    properties[name("lastTimestamp")] = time("When this was last recorded, in the older form.");
    properties[name("count")] =
        json!({"type": "integer", "format": "int32", "description": "How often this happened, in the older form."});
    json!({
        "description": "Event is a report of something that happened to an object. Events are kept for an hour.",
        "properties": properties,
    })
}

/// From the stored `v1` to `events.k8s.io/v1`.
fn from_stored(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", |(core, newer)| (core, newer))
}

/// From `events.k8s.io/v1` to the stored `v1`.
fn to_stored(event: Value) -> Value {
    renamed(event, "v1", |(core, newer)| (newer, core))
}

fn renamed(
    mut event: Value,
    api_version: &str,
    names: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    if let Some(map) = event.as_object_mut() {
        for (from, to) in NAMES.map(names) {
            if let Some(value) = map.remove(from) {
                map.insert(to.to_owned(), value);
            }
        }
        map.insert("apiVersion".to_owned(), json!(api_version));
    }
    event
}

/// A field in whichever face the object has.
fn field<'a>(event: &'a Value, core: &str) -> &'a Value {
    let newer = NAMES.iter().find(|(c, _)| *c == core).map_or(core, |(_, newer)| newer);
    if event[core].is_null() { &event[newer] } else { &event[core] }
}

fn first<'a>(candidates: impl IntoIterator<Item = &'a Value>) -> Value {
    candidates.into_iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null)
}

fn first_seen(event: &Value) -> Value {
    first([field(event, "firstTimestamp"), &event["eventTime"], &event["metadata"]["creationTimestamp"]])
}

fn last_seen(event: &Value) -> Value {
    let last = first([&event["series"]["lastObservedTime"], field(event, "lastTimestamp")]);
    if last.is_null() { first_seen(event) } else { last }
}

fn count(event: &Value) -> Value {
    let count = first([&event["series"]["count"], field(event, "count")]);
    if count.as_i64().unwrap_or_default() == 0 { json!(1) } else { count }
}

fn object(event: &Value) -> Value {
    let about = field(event, "involvedObject");
    let part = |name: &str| about[name].as_str().unwrap_or_default();
    json!(format!("{}/{}", part("kind").to_lowercase(), part("name")))
}

fn source(event: &Value) -> Value {
    let source = field(event, "source");
    let (who, which) = match source["component"].as_str().filter(|c| !c.is_empty()) {
        Some(component) => (component, &source["host"]),
        None => (field(event, "reportingComponent").as_str().unwrap_or_default(), &event["reportingInstance"]),
    };
    match which.as_str().filter(|w| !w.is_empty()) {
        Some(which) => json!(format!("{who}, {which}")),
        None => json!(who),
    }
}

fn columns() -> Vec<Column> {
    vec![
        computed("Last Seen", "date", last_seen, 0, "When this last happened."),
        column("Type", "string", ".type", 0, "Normal or Warning."),
        column("Reason", "string", ".reason", 0, "Why this happened."),
        computed("Object", "string", object, 0, "The object this is about."),
        computed(
            "Subobject",
            "string",
            |event| field(event, "involvedObject")["fieldPath"].clone(),
            1,
            "The part of the object.",
        ),
        computed("Source", "string", source, 1, "Who reported this."),
        computed(
            "Message",
            "string",
            |event| json!(field(event, "message").as_str().unwrap_or_default().trim()),
            0,
            "What happened.",
        ),
        computed("First Seen", "date", first_seen, 1, "When this first happened."),
        computed("Count", "integer", count, 1, "How often this happened."),
        column("Name", "string", ".metadata.name", 1, "The name of the event."),
    ]
}

/// An event lives beside the object it is about; those about cluster-scoped objects live in `default`.
fn validate(event: &Value, _: Option<&Value>) -> Vec<FieldError> {
    let namespace = event["metadata"]["namespace"].as_str().unwrap_or_default();
    let about = field(event, "involvedObject");
    let of = about["namespace"].as_str().unwrap_or_default();
    let path = if event["regarding"].is_object() { "regarding.namespace" } else { "involvedObject.namespace" };
    let right = if of.is_empty() { matches!(namespace, "default" | "kube-system") } else { of == namespace };
    if right {
        return Vec::new();
    }
    vec![wrong(
        path.to_owned(),
        FieldErrorReason::Invalid,
        format!("Invalid value: {of:?}: does not match event.namespace"),
    )]
}
