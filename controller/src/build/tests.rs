//! Where a build is made, and how it ends when its node cannot end it.

use crds::Build;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::node::Side;
use crate::world::World;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A build in a phase, begun so many minutes ago if at all.
fn build(name: &str, phase: &str, node: Option<&str>, begun_minutes_ago: Option<i64>, cancel: bool) -> Build {
    let begun = begun_minutes_ago.map(|ago| (now() - jiff::SignedDuration::from_mins(ago)).to_string());
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "acme", "uid": "u", "resourceVersion": "7",
            "annotations": if cancel { json!({ "berth.dev/cancel": "true" }) } else { json!({}) } },
        "spec": { "application": "web", "source": { "git": { "url": "https://git.example.com/a/b.git", "branch": "main" } } },
        "status": { "phase": phase, "node": node, "startedAt": begun },
    }))
    .unwrap()
}

#[track_caller]
fn check(build: &Build, choice: Choice, expected: &str) {
    let steps = build.plan(&Observed { now: now(), choice });
    let words: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::PatchStatus { of, patch } => {
                assert_eq!(of.resource_version.as_deref(), Some("7"), "only in the state that was seen");
                let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                Some(format!("{}{} {}", word(&patch["node"]), word(&patch["phase"]), word(&patch["failure"]["reason"])))
            }
            _ => None,
        })
        .collect();
    assert_eq!(words.join(", ").trim(), expected);
}

fn given(side: Side) -> Choice {
    Choice::Given("a".to_owned(), side)
}

fn silent(minutes: i64) -> Side {
    Side::Silent(now() - jiff::SignedDuration::from_mins(minutes))
}

#[test]
fn it_is_given_a_node_once() {
    check(&build("b", "Pending", None, None, false), Choice::Best("a".to_owned()), "a");
    check(&build("b", "Pending", None, None, false), Choice::None("0/0 nodes".to_owned()), "");
    check(&build("b", "Pending", Some("a"), None, false), given(Side::Heard), "");
}

#[test]
fn it_ends_when_its_node_cannot_end_it() {
    let building = |minutes| build("b", "Building", Some("a"), Some(minutes), false);
    check(&building(14), given(Side::Heard), "");
    check(&building(16), given(Side::Heard), "");
    check(&building(18), given(Side::Heard), "Failed TimedOut");
    check(&building(10), given(silent(6)), "");
    check(&building(18), given(silent(6)), "Failed NodeLost");
    check(&building(1), given(Side::Gone), "Failed NodeLost");
    check(&build("b", "Pending", Some("a"), None, false), given(silent(6)), "Failed NodeLost");
    check(&build("b", "Pending", Some("a"), None, false), given(silent(3)), "");
}

#[test]
fn its_node_cancels_it_if_it_has_one() {
    check(&build("b", "Pending", None, None, true), Choice::Best("a".to_owned()), "Cancelled Cancelled");
    check(&build("b", "Building", Some("a"), Some(1), true), given(Side::Heard), "");
    check(&build("b", "Building", Some("a"), Some(1), true), given(Side::Gone), "Cancelled Cancelled");
}

#[test]
fn the_node_with_the_fewest_builds_is_the_best() {
    let world = World::default();
    for name in ["a", "b"] {
        world.ledger().set_node(name, &crate::scheduler::tests::node(name, "eu", 1000, 1024));
    }
    let mut busy = build("busy", "Building", Some("a"), Some(1), false);
    let done = build("done", "Succeeded", Some("b"), Some(1), false);
    busy.metadata.name = Some("busy".to_owned());
    world.builds.replace(vec![busy, done]);
    let new = build("new", "Pending", None, None, false);
    let settings = crate::Settings { platform_domain: "x.y".to_owned(), public_port: None };
    assert_eq!(new.observe(&world, &settings, now()).choice, Choice::Best("b".to_owned()));
    let mut elsewhere = new;
    elsewhere.spec.region = Some("us".to_owned());
    let choice = elsewhere.observe(&world, &settings, now()).choice;
    assert_eq!(choice, Choice::None("0/2 nodes: 2 in another region than us".to_owned()));
}

proptest! {
    /// What has ended stays as it ended, and a node is never taken back.
    #[test]
    fn laws(phase in 0_usize..6, node in any::<bool>(), begun in proptest::option::of(0_i64..30), cancel in any::<bool>(), side in 0_usize..4) {
        let phases = ["Pending", "Cloning", "Building", "Succeeded", "Failed", "Cancelled"];
        let it = build("b", phases[phase], node.then_some("a"), begun, cancel);
        let sides = [Side::Heard, silent(2), silent(20), Side::Gone];
        let choice = if node { given(sides[side]) } else { Choice::Best("a".to_owned()) };
        let steps = it.plan(&Observed { now: now(), choice });
        prop_assert!(phase < 3 || steps.is_empty());
        for step in &steps {
            if let Step::PatchStatus { patch, .. } = step {
                prop_assert!(!node || patch.get("node").is_none());
            }
        }
    }
}
