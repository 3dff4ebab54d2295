//! What an agent reports, as changes of the status fields that are its own: pure.
//!
//! The definitions in `crds` mark those fields "Reported by the agent". All others are the reconcilers', and nothing
//! here names one.

use std::collections::BTreeMap;

use crds::node::Resources;
use crds::quantity::Quantity;
use jiff::Timestamp;
use node_protocol::{
    BuildObservation, Heartbeat, InstanceObservation, NodeResources, PartState, RouteObservation, UsageSample,
};
use serde_json::{Map, Value, json};

/// The longest text of an agent's that is kept in one field: a message is for a person.
const TEXT_BYTES_MAX: usize = 2 << 10;
/// The longest log tail that is kept with an exit, as the schema says.
const EXIT_LOG_BYTES_MAX: usize = 8 << 10;
/// Use is written in these steps: finer ones would change in every heartbeat and say no more.
const USAGE_CPU_MILLIS: u64 = 10;
const USAGE_BYTES: u64 = 1 << 20;

/// The fields of an Instance's status; `null` where there is nothing.
pub fn instance(seen: &InstanceObservation) -> Value {
    let exit = seen.last_exit.clone().map(|mut exit| {
        exit.log = exit.log.map(|log| tail(&log, EXIT_LOG_BYTES_MAX));
        exit
    });
    json!({
        "phase": seen.phase,
        "ready": seen.ready,
        "routed": seen.routed,
        "reason": seen.reason.as_deref().map(text),
        "message": seen.message.as_deref().map(text),
        "containerId": seen.container_id.as_deref().map(text),
        "address": seen.address.as_deref().map(text),
        "startedAt": seen.started_at.as_deref().and_then(time),
        "restarts": seen.restarts,
        "lastExit": exit,
    })
}

/// The fields of an Instance's status when it cannot be assigned.
pub fn withheld(reason: &str, message: &str) -> Value {
    json!({ "phase": "Pending", "ready": false, "routed": false, "reason": reason, "message": message })
}

/// The fields of a Build's status when there is nothing to sign in to its repository with.
pub fn unbuildable(message: &str, now: Timestamp) -> Value {
    json!({
        "phase": "Failed",
        "finishedAt": whole_second(now).to_string(),
        "failure": {
            "reason": "CloneFailed",
            "message": message,
            "hint": "make the Secret that spec.source.git.credentials names, with username and password for https or \
                     ssh-privatekey and known_hosts for ssh, and deploy again",
        },
    })
}

/// The use of an Instance.
pub fn usage(sample: &UsageSample) -> Value {
    let cpu = Quantity::from_millis(sample.cpu_millis.next_multiple_of(USAGE_CPU_MILLIS));
    let memory = Quantity::from_bytes(sample.memory_bytes.next_multiple_of(USAGE_BYTES));
    json!({ "usage": { "cpu": cpu, "memory": memory } })
}

/// The fields of a Build's status; `null` where there is nothing.
pub fn build(seen: &BuildObservation) -> Value {
    let failure = seen.failure.clone().map(|mut failure| {
        failure.reason = text(&failure.reason);
        failure.message = text(&failure.message);
        failure.hint = failure.hint.as_deref().map(text);
        failure
    });
    let commit = seen.commit.clone().map(|mut commit| {
        commit.message = text(&commit.message);
        commit.author = text(&commit.author);
        commit
    });
    json!({
        "phase": seen.phase,
        "commit": commit,
        "runtime": seen.runtime,
        "image": seen.image,
        "digest": seen.digest,
        "startCommand": seen.start_command,
        "port": seen.port,
        "startedAt": seen.started_at.as_deref().and_then(time),
        "finishedAt": seen.finished_at.as_deref().and_then(time),
        "exitCode": seen.exit_code,
        "failure": failure,
    })
}

/// A node's entry in `status.routes` of an Application. A route that is gone without an error has none.
pub fn route(node: &str, seen: &RouteObservation) -> Value {
    let entry = (seen.ready || seen.error.is_some()).then(|| {
        json!({
            "ready": seen.ready,
            "hosts": seen.hosts,
            "message": seen.error.as_deref().map(text),
        })
    });
    json!({ "routes": { node: entry } })
}

/// What an Application's status says of a node that does not have its route.
pub fn no_route(node: &str) -> Value {
    json!({ "routes": { node: null } })
}

/// The fields of a Node's status. The time is the server's: a node whose clock is wrong is not offline.
pub fn node(beat: &Heartbeat, now: Timestamp) -> Value {
    let addresses: BTreeMap<String, String> =
        beat.addresses.iter().take(16).map(|(type_, address)| (text(type_), text(address))).collect();
    json!({
        "capacity": resources(&beat.capacity),
        "usage": resources(&stepped(&beat.usage)),
        "addresses": addresses,
        "agentVersion": text(&beat.agent_version),
        "dockerVersion": beat.docker_version.as_deref().map(text),
        "nginxVersion": beat.nginx_version.as_deref().map(text),
        "docker": part(&beat.docker),
        "ingress": part(&beat.ingress),
        "lastHeartbeat": whole_second(now).to_string(),
    })
}

fn part(state: &PartState) -> Value {
    json!({ "healthy": state.healthy, "message": text(&state.message) })
}

fn stepped(amounts: &NodeResources) -> NodeResources {
    NodeResources {
        cpu_millis: amounts.cpu_millis.next_multiple_of(USAGE_CPU_MILLIS),
        memory_bytes: amounts.memory_bytes.next_multiple_of(USAGE_BYTES),
        disk_bytes: amounts.disk_bytes.next_multiple_of(USAGE_BYTES),
    }
}

fn resources(amounts: &NodeResources) -> Resources {
    Resources {
        cpu: Some(Quantity::from_millis(amounts.cpu_millis)),
        memory: Some(Quantity::from_bytes(amounts.memory_bytes)),
        disk: Some(Quantity::from_bytes(amounts.disk_bytes)),
        instances: None,
    }
}

/// What must be patched so that the fields of `report` stand in `present`, as a merge patch; `None` when they do.
/// A missing field and a `null` one are the same, and objects are replaced whole but for those in `merged`, which have
/// parts that others report.
pub fn difference(present: &Value, report: &Value) -> Option<Value> {
    let report = report.as_object()?;
    let mut patch = Map::new();
    for (field, wanted) in report {
        let before = present.get(field).unwrap_or(&Value::Null);
        let change = if field == "routes" { entries(before, wanted) } else { replaced(before, wanted) };
        if let Some(change) = change {
            patch.insert(field.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The patch of the entries that `wanted` names; the others are other nodes'.
fn entries(before: &Value, wanted: &Value) -> Option<Value> {
    let mut patch = Map::new();
    for (entry, wanted) in wanted.as_object()? {
        if let Some(change) = replaced(before.get(entry).unwrap_or(&Value::Null), wanted) {
            patch.insert(entry.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// The merge patch that turns one value into another; `None` when they are equal, a `null` field counting as missing.
fn replaced(before: &Value, wanted: &Value) -> Option<Value> {
    let (Some(old), Some(new)) = (before.as_object(), wanted.as_object()) else {
        return (before != wanted).then(|| wanted.clone());
    };
    let mut patch = Map::new();
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    for (field, wanted) in new {
        if let Some(change) = replaced(old.get(field).unwrap_or(&Value::Null), wanted) {
            patch.insert(field.clone(), change);
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// A text without control characters, cut to what one field holds.
fn text(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    cut.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// The end of a log, without what would move a terminal's cursor.
fn tail(log: &str, bytes_max: usize) -> String {
    let end = &log[log.ceil_char_boundary(log.len().saturating_sub(bytes_max))..];
    end.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// A time as the schema wants it; anything else an agent may write there is dropped.
fn time(text: &str) -> Option<String> {
    text.parse::<Timestamp>().ok().map(|time| whole_second(time).to_string())
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_differs_is_patched() {
        let present = json!({ "phase": "Running", "ready": true, "lastExit": { "code": 1, "log": "x" },
            "conditions": [1], "routes": { "a": { "ready": true, "hosts": ["h"] } } });
        let check = |report: Value, patch: Option<Value>| assert_eq!(difference(&present, &report), patch, "{report}");
        check(json!({ "phase": "Running", "reason": null }), None);
        check(json!({ "phase": "Failed", "ready": true }), Some(json!({ "phase": "Failed" })));
        check(
            json!({ "lastExit": { "code": 2, "outOfMemory": true } }),
            Some(json!({ "lastExit": { "code": 2, "outOfMemory": true, "log": null } })),
        );
        check(json!({ "lastExit": null }), Some(json!({ "lastExit": null })));
        check(json!({ "routes": { "a": { "ready": true, "hosts": ["h"], "message": null } } }), None);
        check(json!({ "routes": { "b": null } }), None);
        check(json!({ "routes": { "a": null } }), Some(json!({ "routes": { "a": null } })));
    }

    #[test]
    fn texts_from_a_node_are_bounded_and_harmless() {
        let seen = InstanceObservation {
            uid: "u".to_owned(),
            namespace: "n".to_owned(),
            name: "i".to_owned(),
            phase: crds::instance::InstancePhase::Failed,
            ready: false,
            routed: false,
            reason: Some("X\u{1b}[31m".to_owned()),
            message: Some("é".repeat(5_000)),
            container_id: None,
            address: None,
            started_at: Some("yesterday".to_owned()),
            restarts: 0,
            last_exit: Some(crds::instance::LastExit { log: Some("é".repeat(9_000)), ..Default::default() }),
        };
        let report = instance(&seen);
        assert_eq!(report["reason"], "X [31m");
        assert!(report["message"].as_str().unwrap().len() <= TEXT_BYTES_MAX);
        assert!(report["lastExit"]["log"].as_str().unwrap().len() <= EXIT_LOG_BYTES_MAX);
        assert_eq!(report["startedAt"], Value::Null);
    }

    fn merge(target: &mut Value, patch: &Value) {
        let Some(patch) = patch.as_object() else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let target = target.as_object_mut().unwrap();
        for (field, value) in patch {
            if value.is_null() {
                target.remove(field);
            } else {
                merge(target.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[a-c]".prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            proptest::collection::btree_map("[a-d]", inner, 0..4).prop_map(|map| map.into_iter().collect())
        })
    }

    proptest! {
        #[test]
        fn a_patched_status_needs_no_further_patch(
            mut present in proptest::collection::btree_map("[a-d]", value(), 0..5)
                .prop_map(|map| map.into_iter().collect::<Value>()),
            report in proptest::collection::btree_map("[a-d]", value(), 0..5)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ) {
            let before = present.clone();
            if let Some(patch) = difference(&present, &report) {
                merge(&mut present, &patch);
            }
            prop_assert_eq!(difference(&present, &report), None);
            for (field, value) in before.as_object().unwrap() {
                if report.get(field).is_none() {
                    prop_assert_eq!(present.get(field), Some(value), "a field that was not reported");
                }
            }
        }
    }
}
