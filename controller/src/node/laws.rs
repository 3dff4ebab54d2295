//! The laws of `reconcile.rs`. A Node's reconciler has nothing to do and all to say, so its goal is that what it says is so.

use crds::instance::InstancePhase;
use crds::node::Resources;
use crds::{Instance, Node};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Settings;
use crate::world::World;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// What there is to know of a node: what its agent reported, what administrators want, and what runs on it.
#[derive(Clone, Debug)]
struct State {
    heard_seconds_ago: Option<i64>,
    docker: Option<bool>,
    ingress: Option<bool>,
    /// Percent of processors, memory and disk that are used.
    usage: Option<[u64; 3]>,
    has_capacity: bool,
    instances_limit: Option<i64>,
    is_unschedulable: bool,
    is_deleted: bool,
    instances: Vec<InstancePhase>,
}

fn phase() -> impl Strategy<Value = InstancePhase> {
    use InstancePhase::{Draining, Failed, Pending, Pulling, Running, Starting, Stopped, Unknown};
    prop::sample::select(vec![Pending, Pulling, Starting, Running, Draining, Stopped, Failed, Unknown])
}

prop_compose! {
    fn state()(
        heard_seconds_ago in prop::option::of(prop_oneof![0_i64..200, 85_i64..95]),
        docker in any::<Option<bool>>(),
        ingress in any::<Option<bool>>(),
        usage in prop::option::of(prop::array::uniform3(prop_oneof![0_u64..=100, 88_u64..93])),
        has_capacity in any::<bool>(),
        instances_limit in prop::option::of(0_i64..1000),
        is_unschedulable in any::<bool>(),
        is_deleted in any::<bool>(),
        instances in prop::collection::vec(phase(), 0..5),
    ) -> State {
        State {
            heard_seconds_ago, docker, ingress, usage, has_capacity, instances_limit, is_unschedulable, is_deleted,
            instances,
        }
    }
}

impl State {
    /// The node as its agent and administrators have it, with `said` as what was said of it before.
    fn node(&self, said: &Value) -> Node {
        let mut status = said.clone();
        let reported = json!({
            "agentVersion": "1.2.3",
            "addresses": {"Hostname": "a"},
            "lastHeartbeat": self.heard_seconds_ago.map(|ago| (now() - SignedDuration::from_secs(ago)).to_string()),
            "docker": self.docker.map(|healthy| json!({"healthy": healthy})),
            "ingress": self.ingress.map(|healthy| json!({"healthy": healthy})),
            "capacity": self.has_capacity.then(|| json!({"cpu": "2", "memory": "100Gi", "disk": "100Gi"})),
            "usage": self.usage.map(|[cpu, memory, disk]| {
                json!({"cpu": format!("{}m", cpu * 20), "memory": format!("{memory}Gi"), "disk": format!("{disk}Gi")})
            }),
        });
        json_patch::merge(&mut status, &reported);
        let mut object = json!({
            "metadata": {"name": "a", "generation": 3, "resourceVersion": "7"},
            "spec": {"region": "eu", "unschedulable": self.is_unschedulable},
            "status": status,
        });
        if let Some(instances) = self.instances_limit {
            object["spec"]["limits"] = json!({"instances": instances});
        }
        if self.is_deleted {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:00:00Z");
        }
        serde_json::from_value(object).unwrap()
    }

    /// Its instances, and one that is elsewhere.
    fn instances(&self) -> Vec<Instance> {
        let here = self.instances.iter().map(|phase| (*phase, "a"));
        let all = here.chain([(InstancePhase::Running, "b")]).enumerate();
        all.map(|(number, (phase, on))| {
            serde_json::from_value(json!({
                "metadata": {"name": format!("web-{number}"), "namespace": "acme", "uid": number.to_string()},
                "spec": {
                    "application": "web", "release": "web-1", "ordinal": 0, "nodeName": on,
                    "template": {"image": "app", "cpu": "100m", "memory": "64Mi", "disk": "1Gi", "drain": "1s"},
                },
                "status": {"phase": phase},
            }))
            .unwrap()
        })
        .collect()
    }

    fn observed(&self, node: &Node, at: Timestamp) -> Observed {
        let world = World::default();
        world.instances.replace(self.instances());
        node.observe(&world, &settings(), at)
    }

    /// What stands in the status after a round, as the driver publishes it.
    fn told(&self, said: &Value, at: Timestamp) -> Value {
        let node = self.node(said);
        let mut status = serde_json::to_value(&node.status).unwrap();
        json_patch::merge(&mut status, &serde_json::to_value(node.status(&self.observed(&node, at))).unwrap());
        status
    }

    /// Whether what is said is so: stated without reading how it is decided.
    fn satisfied(&self, status: &Value) -> Result<(), TestCaseError> {
        let state = |flag: Option<bool>| flag.map_or("Unknown", |flag| if flag { "True" } else { "False" });
        let is_full = |parts: &[u64]| parts.iter().any(|percent| *percent > 90);
        let measured = self.usage.filter(|_| self.has_capacity);
        let is_heard = self.heard_seconds_ago.is_some_and(|ago| ago < 90);
        for (type_, expected) in [
            ("Ready", is_heard.then_some(self.docker == Some(true))),
            ("DockerHealthy", self.docker),
            ("IngressHealthy", self.ingress),
            ("CapacityPressure", measured.map(|parts| is_full(&parts))),
            ("DiskPressure", measured.map(|[_, _, disk]| is_full(&[disk]))),
        ] {
            let condition = condition(status, type_);
            prop_assert_eq!(&condition["status"], state(expected), "{}: {}", type_, condition);
            prop_assert_eq!(&condition["observedGeneration"], 3);
        }
        let there = |phase: &&InstancePhase| !matches!(phase, InstancePhase::Stopped | InstancePhase::Failed);
        let count = self.instances.iter().filter(there).count();
        prop_assert_eq!(&status["allocated"]["instances"], count);
        let allocated: Resources = serde_json::from_value(status["allocated"].clone()).unwrap();
        prop_assert_eq!(allocated.memory.unwrap().units().unwrap(), count as u64 * (64 << 20));
        prop_assert_eq!(status.get("allocatable").is_some_and(Value::is_object), self.has_capacity);
        if self.has_capacity {
            let promised = self.node(&json!({"allocatable": status["allocatable"]}));
            let promised = allocatable(&promised);
            prop_assert!(promised.cpu <= 2000 * 4, "at most four times its processors");
            prop_assert!(promised.memory < 100 << 30 && promised.disk < 100 << 30, "something is left to the system");
            prop_assert!(self.instances_limit.is_none_or(|most| promised.instances == most.unsigned_abs()));
        }
        Ok(())
    }
}

fn condition<'a>(status: &'a Value, type_: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == type_).unwrap()
}

fn settings() -> Settings {
    Settings { platform_domain: "apps.example.test".to_owned(), public_port: None }
}

proptest! {
    #[test]
    fn laws(before in state(), it in state()) {
        // Whatever was said before, of another state, with a stale world, or nothing at all: one round says what is so.
        let stale = before.told(&json!({}), now() - SignedDuration::from_secs(30));
        let told = it.told(&stale, now());
        it.satisfied(&told)?;
        it.satisfied(&it.told(&json!({}), now()))?;
        prop_assert_eq!(&it.told(&stale, now()), &told, "the same input, the same words");
        // Said once, it is said: nothing is written again, also when it is looked at once more a little later.
        prop_assert_eq!(&it.told(&told, now()), &told);
        let node = it.node(&told);
        let observed = it.observed(&node, now());
        if node.recheck(&observed).is_none_or(|after| after > Duration::from_secs(1)) {
            prop_assert_eq!(&it.told(&told, now() + SignedDuration::from_millis(500)), &told);
        }
        // Nothing is done to it or to what runs on it, however silent, full or unwanted it is.
        prop_assert!(node.plan(&observed).is_empty());
        // What its agent reports stays as it was reported.
        let own = ["observedGeneration", "allocatable", "allocated", "conditions"];
        let rest = |mut status: Value| {
            status.as_object_mut().unwrap().retain(|name, _| !own.contains(&name.as_str()));
            status
        };
        prop_assert_eq!(rest(told), rest(serde_json::to_value(it.node(&json!({})).status).unwrap()));
    }

    /// Only time makes a node silent, so the reconciler has to look again by itself, and not before.
    #[test]
    fn it_looks_again_when_silence_sets_in(it in state()) {
        let node = it.node(&json!({}));
        let ready = |at| condition(&it.told(&json!({}), at), "Ready")["status"].clone();
        if let Some(after) = node.recheck(&it.observed(&node, now())) {
            let after = SignedDuration::try_from(after).unwrap();
            prop_assert_eq!(ready(now() + after), "Unknown");
            prop_assert_ne!(ready(now() + after - SignedDuration::from_secs(1)), "Unknown");
        } else {
            prop_assert_eq!(ready(now()), "Unknown");
        }
    }
}
