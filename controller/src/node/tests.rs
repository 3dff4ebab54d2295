//! When a node can be relied on, and what may be promised on it.

use crds::{Node, condition};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::world::World;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A node that was heard so many seconds ago.
fn node(name: &str, heard_seconds_ago: i64) -> Node {
    let heard = now() - SignedDuration::from_secs(heard_seconds_ago);
    serde_json::from_value(json!({
        "metadata": { "name": name, "generation": 1, "resourceVersion": "1" },
        "spec": { "region": "eu" },
        "status": {
            "capacity": { "cpu": "2", "memory": "8Gi", "disk": "100Gi" },
            "usage": { "cpu": "100m", "memory": "1Gi", "disk": "10Gi" },
            "docker": { "healthy": true }, "ingress": { "healthy": true },
            "lastHeartbeat": heard.to_string(),
        },
    }))
    .unwrap()
}

fn world(nodes: Vec<Node>) -> World {
    let world = World::default();
    world.nodes.replace(nodes);
    world
}

fn observed() -> Observed {
    Observed { now: now(), allocated: crate::scheduler::Amount::default() }
}

/// The node with its status as it is published.
fn told(mut node: Node) -> Node {
    let patch = serde_json::to_value(node.status(&observed())).unwrap();
    let mut status = serde_json::to_value(&node.status).unwrap();
    json_patch::merge(&mut status, &patch);
    node.status = serde_json::from_value(status).unwrap();
    node
}

#[track_caller]
fn check(node: Node, conditions: &str) {
    let told = told(node);
    let list = told.status.unwrap().conditions;
    let text: Vec<String> = list.iter().map(|it| format!("{}={} {}", it.type_, it.status, it.reason)).collect();
    for expected in conditions.split(" | ") {
        assert!(text.iter().any(|line| line == expected), "{expected} is not among {text:?}");
    }
}

#[test]
fn conditions_say_how_it_is() {
    check(node("a", 10), "Ready=True Heard | DockerHealthy=True Healthy | CapacityPressure=False Usable");
    check(node("a", 89), "Ready=True Heard");
    check(node("a", 90), "Ready=Unknown NodeSilent");
    let mut docker = node("a", 1);
    docker.status.as_mut().unwrap().docker.as_mut().unwrap().healthy = false;
    check(docker, "Ready=False DockerDown | DockerHealthy=False Unhealthy");
    let mut full = node("a", 1);
    full.status.as_mut().unwrap().usage.as_mut().unwrap().disk = Some("91Gi".parse().unwrap());
    check(full, "DiskPressure=True NearlyFull | CapacityPressure=True NearlyFull | Ready=True Heard");
    let mut new = node("a", 1);
    new.status = None;
    check(new, "Ready=Unknown NeverHeard");
}

#[test]
fn an_administrator_may_promise_less_or_more_than_there_is() {
    let plain = allocatable(&told(node("a", 1)));
    assert_eq!((plain.cpu, plain.memory >> 20, plain.disk >> 30), (8000, 8192 - 409 - 1, 90));
    let mut limited = node("a", 1);
    limited.spec.limits = serde_json::from_value(json!({ "memory": "1Gi", "instances": 3 })).unwrap();
    limited.spec.overcommit.memory = 150;
    let limited = allocatable(&told(limited));
    assert_eq!((limited.memory >> 20, limited.instances), (1536, 3));
}

#[test]
fn what_is_said_once_is_said_for_good() {
    let first = told(node("a", 10));
    assert_eq!(serde_json::to_value(told(first.clone())).unwrap(), serde_json::to_value(first).unwrap());
}

#[test]
fn a_silent_node_is_given_up_when_it_is_an_exception() {
    let lost = |others: &[i64]| {
        let mut nodes = vec![node("a", 301 + 90)];
        nodes.extend(others.iter().enumerate().map(|(index, ago)| node(&format!("n{index}"), *ago)));
        is_lost(&world(nodes), "a", now())
    };
    assert!(lost(&[1, 1, 1]), "one of four");
    assert!(!lost(&[]), "the only one: nowhere else to go");
    assert!(!lost(&[400, 1]), "two of three at once: the fault is between us");
    assert!(!lost(&[400, 400, 400, 1, 1, 1, 1, 1]), "four of nine");
    assert!(lost(&[400, 1, 1, 1, 1, 1, 1]), "two of eight");
    assert!(!is_lost(&world(vec![node("a", 200), node("b", 1)]), "a", now()), "it may be rebooting");
    assert!(is_lost(&world(vec![node("b", 1)]), "a", now()), "it was removed");
}

#[test]
fn nobody_else_is_told_of_a_heartbeat() {
    let before = told(node("a", 40));
    let mut after = before.clone();
    after.status.as_mut().unwrap().last_heartbeat = Some(now().to_string());
    after.status.as_mut().unwrap().usage.as_mut().unwrap().memory = Some("2Gi".parse().unwrap());
    assert_eq!(outlook(&before), outlook(&after));
    after.spec.drain = true;
    assert_ne!(outlook(&before), outlook(&after));
    assert!(!condition::is_true(&before.status.unwrap().conditions, "DiskPressure"));
}
