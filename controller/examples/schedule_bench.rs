//! How fast instances are given nodes: 5,000 nodes, 10,000 instances, each decision on a ledger with all before it.
//! Storing the decisions is the API server's part and is measured with it.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints what it found")]

use controller::scheduler::Ledger;
use controller::world::Key;
use crds::{Instance, Node};
use serde_json::json;

const NODES: usize = 5_000;
const INSTANCES: usize = 10_000;

fn main() {
    let mut ledger = Ledger::default();
    for number in 0..NODES {
        let name = format!("node-{number:05}");
        let condition = |type_: &str| json!({ "type": type_, "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "region": format!("region-{}", number % 5) },
            "status": {
                "allocatable": { "cpu": "32", "memory": "64Gi", "disk": "1Ti", "instances": 500 },
                "conditions": [condition("Ready"), condition("DockerHealthy")],
            },
        }))
        .expect("a node");
        ledger.set_node(&name, &node);
    }
    let instances: Vec<Instance> = (0..INSTANCES).map(instance).collect();
    let started = tokio::time::Instant::now();
    let mut placed = 0;
    for instance in &instances {
        placed += usize::from(ledger.assume(&Key::of(instance), instance).is_ok());
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = f64::from(u32::try_from(placed).unwrap_or(u32::MAX)) / seconds;
    println!("{}", json!({ "nodes": NODES, "instances": placed, "seconds": seconds, "instancesPerSecond": rate }));
}

fn instance(number: usize) -> Instance {
    serde_json::from_value(json!({
        "metadata": { "name": format!("web-{number}"), "namespace": "acme" },
        "spec": {
            "application": format!("web-{}", number / 3), "release": "r", "ordinal": 0,
            "template": { "image": "app", "region": format!("region-{}", number % 5), "cpu": "250m", "memory": "256Mi",
                "disk": "1Gi", "drain": "1s" },
        },
    }))
    .expect("an instance")
}
