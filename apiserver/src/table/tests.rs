//! Tables as `kubectl get` shows them.

use serde_json::json;

use super::*;
use crate::core_kinds;

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

/// A table as text: the headings, with those only shown wide in brackets, and the rows.
fn text(kind: &Kind, objects: &[Value]) -> String {
    let table = table(kind, objects, json!({}), IncludeObject::None, true, now());
    let heading = |c: &Value| {
        let name = c["name"].as_str().unwrap();
        if c["priority"] == 0 { name.to_owned() } else { format!("[{name}]") }
    };
    let line = |cells: Vec<String>| cells.join(" | ") + "\n";
    let mut out = line(table["columnDefinitions"].as_array().unwrap().iter().map(heading).collect());
    for row in table["rows"].as_array().unwrap() {
        out += &line(row["cells"].as_array().unwrap().iter().map(ToString::to_string).collect());
    }
    out
}

#[test]
fn core_kinds_show_what_kubectl_shows() {
    insta::assert_snapshot!(text(&core_kinds::namespace(), &[
        json!({"metadata": {"name": "acme", "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Active"}}),
        json!({"metadata": {"name": "odd"}}),
    ]), @r#"
    Name | Status | Age
    "acme" | "Active" | "60m"
    "odd" | null | null
    "#);
    insta::assert_snapshot!(text(&core_kinds::secret(), &[
        json!({"metadata": {"name": "shop", "creationTimestamp": "2025-12-31T23:00:00Z"}, "type": "Opaque", "data": {"a": "", "b": ""}}),
        json!({"metadata": {"name": "empty", "creationTimestamp": "wrong"}, "type": "Opaque"}),
    ]), @r#"
    Name | Type | Data | Age
    "shop" | "Opaque" | 2 | "120m"
    "empty" | "Opaque" | 0 | "<invalid>"
    "#);
    let old = json!({
        "metadata": {"name": "web.1"}, "type": "Warning", "reason": "Failed", "message": " no memory \n", "count": 3,
        "involvedObject": {"kind": "Instance", "name": "web-0", "fieldPath": "spec.template"},
        "source": {"component": "agent", "host": "node-a"},
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:59:30Z",
    });
    let new = json!({
        "metadata": {"name": "web.2", "creationTimestamp": "2026-01-01T00:30:00Z"}, "type": "Normal", "reason": "Started",
        "note": "started", "regarding": {"kind": "Application", "name": "web"}, "reportingController": "berth.dev/controller",
        "eventTime": "2026-01-01T00:50:00.000000Z", "series": {"count": 2, "lastObservedTime": "2026-01-01T00:59:50.000000Z"},
    });
    let lines = text(&core_kinds::core_event(), &[old.clone(), new.clone()]);
    assert_eq!(lines, text(&core_kinds::event(), &[old, new]), "both faces show the same");
    insta::assert_snapshot!(lines, @r#"
    Last Seen | Type | Reason | Object | [Subobject] | [Source] | Message | [First Seen] | [Count] | [Name]
    "30s" | "Warning" | "Failed" | "instance/web-0" | "spec.template" | "agent, node-a" | "no memory" | "60m" | 3 | "web.1"
    "10s" | "Normal" | "Started" | "application/web" | null | "berth.dev/controller" | "started" | "10m" | 2 | "web.2"
    "#);
}

#[test]
fn cells_have_the_type_of_their_column() {
    let mut kind = core_kinds::lease();
    let column = |name: &str, type_: &str| Column {
        name: name.to_owned(),
        type_: type_.to_owned(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        json_path: format!(".v.{name}"),
        cell: None,
    };
    kind.columns = ["string", "integer", "number", "boolean", "date"].map(|type_| column(type_, type_)).to_vec();
    insta::assert_snapshot!(text(&kind, &[
        json!({"metadata": {"name": "right"}, "v": {"string": "s", "integer": 1, "number": 1.5, "boolean": true, "date": "2026-01-01T00:59:59Z"}}),
        json!({"metadata": {"name": "wrong"}, "v": {"string": {"a": 1}, "integer": "1", "number": "x", "boolean": 1, "date": 5}}),
        json!({"metadata": {"name": "absent"}}),
        json!({"metadata": {"name": "null"}, "v": {"string": null, "integer": 2.7}}),
    ]), @r#"
    Name | string | integer | number | boolean | date
    "right" | "s" | 1 | 1.5 | true | "1s"
    "wrong" | "{\"a\":1}" | null | null | null | null
    "absent" | null | null | null | null | null
    "null" | null | 2.0 | null | null | null
    "#);
    kind.columns.clear();
    insta::assert_snapshot!(text(&kind, &[json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}})]), @r#"
    Name | Age
    "a" | "60m"
    "#);
}

#[test]
fn rows_carry_what_was_asked_for() {
    let kind = core_kinds::namespace();
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "uid": "1"}, "status": {"phase": "Active"}});
    let row = |include: &str| {
        let include = IncludeObject::parse(Some(include)).unwrap();
        table(&kind, [&object], json!({"resourceVersion": "7"}), include, true, now())["rows"][0]["object"].clone()
    };
    assert_eq!(row("Object"), object);
    assert_eq!(row("None"), Value::Null);
    assert_eq!(
        row("Metadata"),
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a", "uid": "1"}})
    );
    assert!(IncludeObject::parse(Some("All")).is_err());
    let later = table(&kind, [&object], json!({"resourceVersion": "7"}), IncludeObject::None, false, now());
    assert_eq!((&later["columnDefinitions"], &later["metadata"]["resourceVersion"]), (&Value::Null, &json!("7")));
    let list = partial_list([&object], json!({"resourceVersion": "7"}));
    assert_eq!(list["items"][0], row("Metadata"));
    assert_eq!(list["kind"], "PartialObjectMetadataList");
}

#[test]
fn durations_are_those_of_kubectl() {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    for (seconds, expected) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (2 * MINUTE + 5, "2m5s"),
        (10 * MINUTE + 5, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR + 5 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (48 * HOUR, "2d"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (8 * DAY + 3 * HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (2 * 365 * DAY + 5 * DAY, "2y5d"),
        (8 * 365 * DAY + 5 * DAY, "8y"),
    ] {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}
