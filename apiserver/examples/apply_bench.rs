//! Measures what field ownership costs a write: the entries of a new object, of a report of status, and applying what is
//! applied already. Prints one JSON object a line.
//!
//! `cargo run --release -p apiserver --example apply_bench [MILLISECONDS]`

use std::time::Duration;

use apiserver::apply::{Reach, Type, Writer, apply, entries, update};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

fn main() {
    let milliseconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(500);
    let time = Duration::from_millis(milliseconds);
    let type_ = Type::of_objects(&schema());
    let new = object();
    let main = Writer {
        manager: "controller",
        api_version: "example.dev/v1",
        subresource: "",
        reach: Reach::AllBut(&["status"]),
        time: Timestamp::UNIX_EPOCH,
    };
    let status = Writer { subresource: "status", reach: Reach::Only(&["status"]), ..main };
    measure("create", time, || update(&type_, None, &new, Vec::new(), &main));

    let created = update(&type_, None, &new, Vec::new(), &main);
    let reported = with_status(&new, 1);
    let first = update(&type_, Some(&new), &reported, entries(created.clone(), None), &status);
    let again = with_status(&new, 2);
    measure("first status", time, || update(&type_, Some(&new), &reported, entries(created.clone(), None), &status));
    measure("next status", time, || update(&type_, Some(&reported), &again, entries(first.clone(), None), &status));

    let configuration = object();
    let applier = Writer { manager: "kubectl", ..main };
    let Ok(applied) = apply(&type_, None, Vec::new(), &configuration, &applier, false) else { return };
    measure("apply what is applied", time, || {
        let entries = entries(applied.managed_fields.clone(), None);
        apply(&type_, Some(&applied.object), entries, &configuration, &applier, false).ok()
    });
    let bytes = |value: &Value| value.to_string().len();
    print(&json!({"measure": "bytes", "object": bytes(&new), "managed_fields": created.as_ref().map(bytes)}));
    measure("parse the object as it was stored before", time, || parse(&new.to_string()));
    let mut owned = new.clone();
    owned["metadata"]["managedFields"] = first.clone().unwrap_or_default();
    measure("parse the object with its entries", time, || parse(&owned.to_string()));
}

fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok()
}

fn measure<T>(what: &str, time: Duration, work: impl Fn() -> T) {
    let started = Instant::now();
    let mut count = 0_u32;
    while started.elapsed() < time {
        for _ in 0..100 {
            std::hint::black_box(work());
        }
        count += 100;
    }
    let nanoseconds = started.elapsed().as_nanos() / u128::from(count.max(1));
    print(&json!({"measure": what, "nanoseconds": u64::try_from(nanoseconds).unwrap_or(u64::MAX)}));
}

fn schema() -> Value {
    let condition = json!({"type": "object", "properties": {
        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"},
        "message": {"type": "string"}, "lastTransitionTime": {"type": "string"}}});
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "application": {"type": "string"}, "release": {"type": "string"}, "ordinal": {"type": "integer"},
            "node": {"type": "string"}, "image": {"type": "string"}, "port": {"type": "integer"},
            "resources": {"type": "object", "properties": {"cpu": {"type": "string"}, "memory": {"type": "string"}}},
            "env": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "value": {"type": "string"}}}},
        }},
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"}, "observedGeneration": {"type": "integer"},
            "conditions": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": condition},
        }},
    }})
}

/// About 1 KiB, as one of an application's instances has.
fn object() -> Value {
    let env: Vec<Value> = (0..6).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(60)})).collect();
    json!({
        "apiVersion": "example.dev/v1", "kind": "Instance",
        "metadata": {
            "name": "web-0", "namespace": "customer", "uid": "0190b0f2-7d8c-7b11-9d0c-1f6f0f9d2c11", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web", "release": "r1"},
            "finalizers": ["example.dev/instance"],
            "ownerReferences": [{"apiVersion": "example.dev/v1", "kind": "Release", "name": "r1", "uid": "u", "controller": true}],
        },
        "spec": {"application": "web", "release": "r1", "ordinal": 0, "node": "node-1", "image": "registry/web@sha256:1",
            "port": 8080, "resources": {"cpu": "500m", "memory": "256Mi"}, "env": env},
    })
}

fn with_status(object: &Value, number: i64) -> Value {
    let mut object = object.clone();
    object["status"] = json!({"phase": "Running", "observedGeneration": number, "conditions": [
        {"type": "Ready", "status": "True", "reason": "Probed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "Routed", "status": "True", "reason": "Routed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    object
}

#[expect(clippy::print_stdout, reason = "this program's result is what it prints")]
fn print(line: &Value) {
    println!("{line}");
}
