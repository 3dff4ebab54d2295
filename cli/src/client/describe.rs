//! `berth describe`: an object as a person reads it, with its conditions and events.

use std::fmt::Write;

use apiserver::clock::Clock;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::resource::{self, Resource};
use super::table::{aligned, plain};
use super::{Session, age};
use crate::args::Describe;
use crate::failure::Failures;
use crate::print;

/// Annotations that say again what stands elsewhere.
const HIDDEN: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration"];
/// Maps whose keys are names that people chose, and not words of ours.
const OF_NAMES: &[&str] = &["labels", "annotations", "data", "stringData", "addresses", "routes"];
/// Fields of metadata that stand at the top, or tell a person nothing.
const METADATA: &[&str] = &[
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

pub(crate) async fn describe(options: &Describe) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let now = Clock::system().now();
    let mut failures = Failures::default();
    let mut shown = 0;
    for (resource, names) in resource::targets(&session, &options.kind, &options.names).await? {
        let mut objects = Vec::new();
        if names.is_empty() {
            let path = resource.list_path(Some(&session.namespace));
            let mut list = session.send("GET", &path, "application/json").await?;
            if let Value::Array(items) = list["items"].take() {
                objects = items;
            }
        }
        for name in names {
            let path = resource.path(&session.namespace, &name);
            objects.extend(failures.check(session.send("GET", &path, "application/json").await));
        }
        for object in objects {
            if shown > 0 {
                print::text("\n\n");
            }
            let events = events(&session, &object).await?;
            print::text(&text(&resource, &object, &events, now));
            shown += 1;
        }
    }
    failures.end()?;
    if shown == 0 {
        print::note("No resources found");
    }
    Ok(())
}

fn text(resource: &Resource, object: &Value, events: &[Value], now: Timestamp) -> String {
    let mut out = head(resource, object, now);
    for (section, value) in object.as_object().into_iter().flatten() {
        if ["apiVersion", "kind", "metadata"].contains(&section.as_str()) {
            continue;
        }
        let value = visible(section, value, &resource.kind);
        field(&mut out, section, &value, 0);
    }
    conditions(&mut out, &object["status"]["conditions"], now);
    event_table(&mut out, events, now);
    out
}

/// What it is, and since when.
fn head(resource: &Resource, object: &Value, now: Timestamp) -> String {
    let metadata = &object["metadata"];
    let time = |field: &str| {
        let time = metadata[field].as_str()?;
        Some(format!("{time} ({} ago)", age::since(time, now)?))
    };
    let text = |field: &str| metadata[field].as_str().map(plain);
    let pairs = |field: &str| -> Vec<String> {
        let map = metadata[field].as_object().into_iter().flatten();
        map.filter(|(key, _)| !HIDDEN.contains(&key.as_str()))
            .map(|(key, value)| format!("{key}={}", scalar(value)))
            .collect()
    };
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = |key: &str, value: String| lines.push(vec![key.to_owned(), value]);
    line("Name:", text("name").unwrap_or_default());
    if let Some(namespace) = text("namespace") {
        line("Namespace:", namespace);
    }
    line("Kind:", resource.kind.clone());
    for (key, field) in [("Labels:", "labels"), ("Annotations:", "annotations")] {
        for (index, pair) in pairs(field).into_iter().enumerate() {
            line(if index == 0 { key } else { "" }, pair);
        }
    }
    line("Created:", time("creationTimestamp").unwrap_or_else(|| "unknown".to_owned()));
    if let Some(deleted) = time("deletionTimestamp") {
        line("Deleted:", format!("{deleted}; it is being taken down"));
    }
    let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
    for owner in owners.filter(|owner| owner["controller"] == true) {
        line("Controlled by:", format!("{}/{}", scalar(&owner["kind"]), scalar(&owner["name"])));
    }
    let rest = metadata.as_object().into_iter().flatten();
    for (key, value) in rest.filter(|(key, _)| !METADATA.contains(&key.as_str()) && *key != "ownerReferences") {
        line(&format!("{}:", title(key)), scalar(value));
    }
    aligned(&lines)
}

/// What is shown of a section: conditions come as a table, and a Secret's values not at all.
fn visible(section: &str, value: &Value, kind: &str) -> Value {
    let mut shown = value.clone();
    if let Some(map) = shown.as_object_mut() {
        if section == "status" {
            map.remove("conditions");
            map.remove("observedGeneration");
        }
        if kind == "Secret" && section == "data" {
            for value in map.values_mut() {
                *value = format!("{} bytes", value.as_str().map_or(0, decoded_length)).into();
            }
        }
    }
    shown
}

/// How many bytes a text of base64 stands for.
fn decoded_length(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

/// A field and what is in it; nothing if that is nothing.
fn field(out: &mut String, key: &str, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let name = title(key);
    match value {
        Value::Null => {}
        Value::Object(map) if map.is_empty() => {}
        Value::Array(items) if items.is_empty() => {}
        Value::Object(map) => {
            line(out, format_args!("{indent}{name}:"));
            fields(out, map, depth + 1, OF_NAMES.contains(&key));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            line(out, format_args!("{indent}{name}:"));
            for each in items {
                item(out, each, depth + 1);
            }
        }
        Value::String(text) if text.trim_end().contains('\n') => {
            line(out, format_args!("{indent}{name}:"));
            for part in text.trim_end().lines() {
                line(out, format_args!("{indent}  {}", plain(part)));
            }
        }
        _ => line(out, format_args!("{indent}{name}: {}", scalar(value))),
    }
}

fn fields(out: &mut String, map: &Map<String, Value>, depth: usize, verbatim: bool) {
    for (key, value) in map {
        match value {
            _ if !verbatim => field(out, key, value, depth),
            Value::Object(inner) => {
                line(out, format_args!("{}{}:", "  ".repeat(depth), plain(key)));
                fields(out, inner, depth + 1, false);
            }
            value => line(out, format_args!("{}{}: {}", "  ".repeat(depth), plain(key), scalar(value))),
        }
    }
}

/// One item of a list, with a dash before its first line.
fn item(out: &mut String, value: &Value, depth: usize) {
    let mut inner = String::new();
    match value {
        Value::Object(map) => fields(&mut inner, map, depth + 1, false),
        other => line(&mut inner, format_args!("{}{}", "  ".repeat(depth + 1), scalar(other))),
    }
    let indent = "  ".repeat(depth);
    let rest = inner.strip_prefix(&format!("{indent}  ")).unwrap_or(&inner);
    write!(out, "{indent}- {rest}").expect("a string takes all text");
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes all text");
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// `pricePerHour` as `Price per hour`, `containerId` as `Container ID`.
fn title(key: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for character in key.chars() {
        match words.last_mut() {
            Some(word) if !character.is_uppercase() => word.push(character),
            _ => words.push(character.to_lowercase().collect()),
        }
    }
    for (index, word) in words.iter_mut().enumerate() {
        if ["cpu", "url", "id", "ip"].contains(&word.as_str()) {
            *word = word.to_uppercase();
        } else if let Some(first) = word.get(..1).filter(|_| index == 0) {
            word.replace_range(..1, &first.to_uppercase());
        }
    }
    words.join(" ")
}

fn conditions(out: &mut String, conditions: &Value, now: Timestamp) {
    let Some(list) = conditions.as_array().filter(|list| !list.is_empty()) else { return };
    let mut lines = vec![["  TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"].map(str::to_owned).to_vec()];
    for condition in list {
        let cell = |key: &str| scalar(&condition[key]);
        let since = age::since(&cell("lastTransitionTime"), now).unwrap_or_default();
        lines.push(vec![format!("  {}", cell("type")), cell("status"), cell("reason"), since, cell("message")]);
    }
    out.push_str("Conditions:\n");
    out.push_str(&aligned(&lines));
}

async fn events(session: &Session, object: &Value) -> anyhow::Result<Vec<Value>> {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    let selector = resource::segment(&format!("involvedObject.uid={uid}"));
    let path = format!("/api/v1/namespaces/{}/events?fieldSelector={selector}", resource::segment(namespace));
    let mut list = session.send("GET", &path, "application/json").await?;
    let mut events = match list["items"].take() {
        Value::Array(events) => events,
        _ => Vec::new(),
    };
    events.sort_by_key(last_seen);
    Ok(events)
}

fn last_seen(event: &Value) -> Option<Timestamp> {
    let times =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]];
    let created = &event["metadata"]["creationTimestamp"];
    times.into_iter().chain([created]).find_map(|time| time.as_str()?.parse().ok())
}

fn event_table(out: &mut String, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        out.push_str("Events: none\n");
        return;
    }
    let mut lines = vec![["  LAST SEEN", "TYPE", "REASON", "COUNT", "MESSAGE"].map(str::to_owned).to_vec()];
    for event in events {
        let count = event["series"]["count"].as_i64().or(event["count"].as_i64()).unwrap_or(1);
        let last = last_seen(event).and_then(|time| age::since(&time.to_string(), now)).unwrap_or_default();
        lines.push(vec![
            format!("  {last}"),
            scalar(&event["type"]),
            scalar(&event["reason"]),
            count.max(1).to_string(),
            scalar(&event["message"]),
        ]);
    }
    out.push_str("Events:\n");
    out.push_str(&aligned(&lines));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secrets_values_are_not_shown() {
        let shown = visible("data", &json!({"key": "aHVudGVyMg==", "empty": ""}), "Secret");
        assert_eq!(shown, json!({"key": "7 bytes", "empty": "0 bytes"}));
    }

    #[test]
    fn reads_like_text() {
        let spec = json!({
            "pricePerHour": "0.01", "env": [{"name": "A", "value": "1"}, {"name": "B"}], "regions": ["a", "b"],
            "start": {}, "containerId": "x", "log": "one\ntwo\u{1b}[31m\n",
        });
        let mut out = String::new();
        field(&mut out, "spec", &spec, 0);
        let expected = "\
Spec:
  Container ID: x
  Env:
    - Name: A
      Value: 1
    - Name: B
  Log:
    one
    two [31m
  Price per hour: 0.01
  Regions: a, b
";
        assert_eq!(out, expected);
    }

    #[test]
    fn names_that_people_chose_stay_as_they_are() {
        let mut out = String::new();
        field(&mut out, "data", &json!({"tls.crt": "7 bytes", "fooBar": "1 bytes"}), 0);
        assert_eq!(out, "Data:\n  fooBar: 1 bytes\n  tls.crt: 7 bytes\n");
    }
}
