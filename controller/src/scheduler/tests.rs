//! Where instances go, and that no room is promised twice.

use std::collections::BTreeMap;

use crds::{Instance, Node};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const MI: u64 = 1 << 20;

/// A node that is heard of and has so much to promise.
pub(crate) fn node(name: &str, region: &str, cpu: u64, memory_mi: u64) -> Node {
    serde_json::from_value(json!({
        "metadata": { "name": name },
        "spec": { "region": region },
        "status": {
            "allocatable": { "cpu": format!("{cpu}m"), "memory": format!("{memory_mi}Mi"), "disk": "100Gi", "instances": 100 },
            "conditions": [condition("Ready", "True"), condition("DockerHealthy", "True")],
        },
    }))
    .unwrap()
}

fn condition(type_: &str, status: &str) -> serde_json::Value {
    json!({ "type": type_, "status": status, "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

fn instance(name: &str, application: &str, memory_mi: u64) -> Instance {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "acme" },
        "spec": {
            "application": application, "release": "r", "ordinal": 0,
            "template": { "image": "app", "cpu": "100m", "memory": format!("{memory_mi}Mi"), "disk": "1Gi", "drain": "1s" },
        },
    }))
    .unwrap()
}

fn ledger(nodes: &[Node]) -> Ledger {
    let mut ledger = Ledger::default();
    for node in nodes {
        ledger.set_node(node.metadata.name.as_deref().unwrap(), node);
    }
    ledger
}

/// Places instances of one application, one after the other: where each went, or why not.
fn placed(ledger: &mut Ledger, application: &str, memory_mi: u64, count: usize) -> Vec<String> {
    let place = |index: usize| {
        let instance = instance(&format!("{application}-{index}"), application, memory_mi);
        let key = Key::of(&instance);
        ledger.assume(&key, &instance).unwrap_or_else(|refused| refused.sentence(&request(&instance)))
    };
    (0..count).map(place).collect()
}

#[test]
fn instances_of_one_application_are_spread_and_the_emptiest_node_comes_first() {
    let mut ledger = ledger(&[node("a", "eu", 4000, 1024), node("b", "eu", 4000, 4096), node("c", "eu", 4000, 2048)]);
    assert_eq!(placed(&mut ledger, "web", 256, 4), ["b", "c", "a", "b"]);
    assert_eq!(placed(&mut ledger, "shop", 256, 1), ["b"], "4 GiB with three of them are emptier than 2 GiB with two");
}

#[test]
fn reasons_are_counted_in_words() {
    let mut closed = node("d", "eu", 4000, 4096);
    closed.spec.unschedulable = true;
    let mut silent = node("e", "eu", 4000, 4096);
    silent.status.as_mut().unwrap().conditions[0].status = "Unknown".to_owned();
    let nodes = [node("a", "us", 4000, 4096), node("b", "us", 1, 4096), node("c", "eu", 4000, 511), closed, silent];
    let ledger = ledger(&nodes);
    let mut it = instance("web-0", "web", 512);
    it.spec.template.region = Some("eu".to_owned());
    let refused = ledger.try_place(&Key::of(&it), &it).unwrap_err();
    assert_eq!(
        refused.sentence(&request(&it)),
        "0/5 nodes: 2 in another region than eu, 1 not heard of, 1 that takes no new instances, 1 without 512Mi of memory left"
    );
    let none = Ledger::default().try_place(&Key::of(&it), &it).unwrap_err();
    assert_eq!(none.sentence(&request(&it)), "0/0 nodes: no node has joined yet");
}

#[test]
fn an_image_that_only_one_node_has_is_run_there() {
    let ledger = ledger(&[node("a", "eu", 4000, 4096), node("b", "eu", 4000, 128)]);
    let mut it = instance("web-0", "web", 128);
    it.spec.template.image_node = Some("b".to_owned());
    assert_eq!(ledger.try_place(&Key::of(&it), &it).unwrap(), "b");
    it.spec.template.image_node = Some("gone".to_owned());
    assert!(ledger.try_place(&Key::of(&it), &it).is_err());
}

#[test]
fn what_is_assumed_counts_until_it_is_known_or_given_up() {
    let mut ledger = ledger(&[node("a", "eu", 4000, 256)]);
    let (one, two) = (instance("web-0", "web", 256), instance("web-1", "web", 256));
    let (first, second) = (Key::of(&one), Key::of(&two));
    assert!(ledger.assume(&first, &one).is_ok());
    ledger.set_instance(&first, &one);
    assert!(ledger.assume(&second, &two).is_err(), "the world has not heard of the first one's node, and it counts");
    ledger.forget(&first);
    assert!(ledger.assume(&second, &two).is_ok());
    let mut known = two.clone();
    known.spec.node_name = Some("a".to_owned());
    ledger.set_instance(&second, &known);
    ledger.forget(&second);
    assert_eq!(ledger.allocated("a").memory, 256 * MI, "what is known is no assumption any more");
    known.status =
        Some(crds::instance::InstanceStatus { phase: crds::instance::InstancePhase::Failed, ..Default::default() });
    assert!(ledger.set_instance(&second, &known), "what has ended for good leaves room");
    assert_eq!(ledger.allocated("a"), Amount::default());
}

#[test]
fn a_node_that_comes_back_has_what_it_had() {
    let mut ledger = ledger(&[node("a", "eu", 4000, 1024)]);
    placed(&mut ledger, "web", 256, 2);
    ledger.remove_node("a");
    assert_eq!(placed(&mut ledger, "shop", 256, 1), ["0/0 nodes: no node has joined yet"]);
    ledger.set_node("a", &node("a", "eu", 4000, 1024));
    assert_eq!(ledger.allocated("a").memory, 512 * MI);
}

proptest! {
    /// Whatever comes and goes, in whatever order: no node is promised more than it has, and the books are right.
    #[test]
    fn nothing_is_ever_oversubscribed(steps in proptest::collection::vec((0_usize..12, 0_usize..5, 1_u64..9), 1..120)) {
        let names = ["a", "b", "c"];
        let mut ledger = ledger(&names.map(|name| node(name, "eu", 1000, 1024)));
        let mut placed: BTreeMap<Key, (Instance, String)> = BTreeMap::new();
        for (which, what, size) in steps {
            let it = instance(&format!("i-{which}"), ["web", "shop"][which % 2], size * 64);
            let key = Key::of(&it);
            match what {
                0 | 1 if !placed.contains_key(&key) => {
                    if let Ok(node) = ledger.assume(&key, &it) {
                        placed.insert(key, (it, node));
                    }
                }
                2 => {
                    if let Some((it, node)) = placed.get(&key) {
                        let mut known = it.clone();
                        known.spec.node_name = Some(node.clone());
                        ledger.set_instance(&key, &known);
                    }
                }
                3 => {
                    placed.remove(&key);
                    ledger.remove_instance(&key);
                }
                _ => ledger.set_node(names[which % 3], &node(names[which % 3], "eu", 1000, 1024)),
            }
            for name in names {
                let sum = placed.values().filter(|(_, node)| node == name)
                    .fold(Amount::default(), |sum, (it, _)| sum.plus(amount(it)));
                prop_assert_eq!(ledger.allocated(name), sum);
                prop_assert!(sum.memory <= 1024 * MI && sum.cpu <= 1000);
            }
        }
    }
}
