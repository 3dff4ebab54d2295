//! When an instance is gone, and what is said of one whose node is silent.

use crds::{FINALIZER, Instance};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::node::Side;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// `running on a`, `pending nowhere`, `stopped on a deleted`, …
fn instance(text: &str) -> Instance {
    let words: Vec<&str> = text.split(' ').collect();
    let phase = format!("{}{}", words[0][..1].to_uppercase(), &words[0][1..]);
    let runs = phase == "Running";
    let mut object = json!({
        "metadata": { "name": "web-1-0", "namespace": "acme", "uid": "u", "resourceVersion": "7", "finalizers": [FINALIZER] },
        "spec": {
            "application": "web", "release": "web-1", "ordinal": 0,
            "template": { "image": "app", "cpu": "100m", "memory": "64Mi", "disk": "1Gi", "drain": "1s" },
        },
        "status": { "phase": phase, "ready": runs, "routed": runs },
    });
    if let Some(at) = words.iter().position(|word| *word == "on") {
        object["spec"]["nodeName"] = json!(words[at + 1]);
    }
    if words.contains(&"deleted") {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:59:00Z");
    }
    serde_json::from_value(object).unwrap()
}

fn place(instance: &Instance, side: &str) -> Place {
    match (&instance.spec.node_name, side) {
        (None, "full") => Place::Unschedulable("0/1 nodes: 1 without 64Mi of memory left".to_owned()),
        (None, _) => Place::Waiting,
        (Some(node), "gone") => Place::On(node.clone(), Side::Gone),
        (Some(node), "silent") => Place::On(node.clone(), Side::Silent("2026-01-01T11:58:00Z".parse().unwrap())),
        (Some(node), _) => Place::On(node.clone(), Side::Heard),
    }
}

/// The steps, and what is said of it, in words.
#[track_caller]
fn check(text: &str, side: &str, expected: &str) {
    let instance = instance(text);
    let observed = Observed { now: now(), place: place(&instance, side) };
    let steps: Vec<&str> = instance
        .plan(&observed)
        .iter()
        .map(|step| match step {
            Step::Patch { patch, .. } if patch["metadata"]["finalizers"] == json!([]) => "let it go",
            Step::PatchStatus { patch, .. } if patch["phase"] == json!("Unknown") => "call it unknown",
            _ => "something else",
        })
        .collect();
    let status = serde_json::to_value(instance.status(&observed)).unwrap();
    let ready = &status["conditions"][0];
    let said =
        format!("{} | {} {}", steps.join(", "), ready["status"].as_str().unwrap(), ready["reason"].as_str().unwrap());
    assert_eq!(said, expected, "{text}, node {side}");
}

#[test]
fn it_goes_when_its_container_is_gone() {
    check("running on a deleted", "heard", " | False Stopping");
    check("draining on a deleted", "heard", " | False Stopping");
    check("stopped on a deleted", "heard", "let it go | False Stopping");
    check("running on a deleted", "silent", " | Unknown NodeSilent");
    check("running on a deleted", "gone", "let it go | Unknown NodeGone");
    check("pending nowhere deleted", "heard", "let it go | False Stopping");
}

#[test]
fn it_says_what_it_waits_for() {
    check("pending nowhere", "heard", " | False Pending");
    check("pending nowhere", "full", " | False Unschedulable");
    check("pulling on a", "heard", " | False Pulling");
    check("starting on a", "heard", " | False Starting");
    check("running on a", "heard", " | True Running");
    check("failed on a", "heard", " | False Failed");
}

#[test]
fn a_silent_node_is_never_the_last_green() {
    check("running on a", "silent", "call it unknown | Unknown NodeSilent");
    check("unknown on a", "silent", " | Unknown NodeSilent");
    check("failed on a", "silent", " | Unknown NodeSilent");
}

#[test]
fn an_agent_that_speaks_before_its_heartbeat_is_believed() {
    let mut told = instance("running on a");
    let silent = Observed { now: now(), place: place(&told, "silent") };
    let status = serde_json::to_value(told.status(&silent)).unwrap();
    told.status.as_mut().unwrap().conditions = serde_json::from_value(status["conditions"].clone()).unwrap();
    assert_eq!(told.plan(&silent), Vec::new(), "its silence was noted before it spoke");
}

proptest! {
    /// While there may be a container, the object stays; without one it goes; and nothing is done twice.
    #[test]
    fn laws(phase in 0_usize..8, on in any::<bool>(), deleted in any::<bool>(), side in 0_usize..3) {
        let phases = ["pending", "pulling", "starting", "running", "draining", "stopped", "failed", "unknown"];
        let text = format!("{}{}{}", phases[phase], if on { " on a" } else { " nowhere" }, if deleted { " deleted" } else { "" });
        let mut it = instance(&text);
        let side = ["heard", "silent", "gone"][side];
        let observed = Observed { now: now(), place: place(&it, side) };
        let goes = |steps: &[Step]| steps.iter().any(|s| matches!(s, Step::Patch { patch, .. } if patch["metadata"]["finalizers"] == json!([])));
        let may_run = on && side != "gone" && phases[phase] != "stopped";
        prop_assert_eq!(goes(&it.plan(&observed)), deleted && !may_run);
        for step in it.plan(&observed) {
            if let Step::PatchStatus { patch, .. } = step {
                let mut status: Value = serde_json::to_value(&it.status).unwrap();
                json_patch::merge(&mut status, &patch);
                it.status = serde_json::from_value(status).unwrap();
            }
        }
        let again = it.plan(&observed);
        prop_assert!(again.is_empty() || goes(&again), "at rest after one round");
    }
}
