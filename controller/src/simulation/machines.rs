//! Nodes and their agents as they may be: they take their time, fall silent, come back, and fail what is broken.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::dice::Dice;
use super::store::{Store, is_deleted, target};
use crate::step::Noun;
use crate::world::Key;

/// All nodes' agents.
#[derive(Default)]
pub(crate) struct Machines {
    /// The nodes that cannot be heard.
    pub(crate) silent: BTreeSet<String>,
}

pub(crate) fn node(name: &str, memory: &str) -> Value {
    json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Node",
        "metadata": { "name": name }, "spec": { "region": "default" },
        "status": {
            "capacity": { "cpu": "4", "memory": memory, "disk": "100Gi" },
            "usage": { "cpu": "0", "memory": "0", "disk": "0" },
            "docker": { "healthy": true }, "ingress": { "healthy": true },
        }
    })
}

impl Machines {
    /// Lets every agent that can be heard do a little. Returns whether any had something to do.
    pub(crate) fn work(&self, store: &mut Store, dice: &mut Dice) -> bool {
        self.beat(store);
        let mut done = false;
        for (key, object) in store.of(Noun::Instance) {
            let Some(node) = object["spec"]["nodeName"].as_str() else { continue };
            if !self.runs(store, node) || dice.one_in(3) {
                done |= self.runs(store, node) && next(&object).is_some();
                continue;
            }
            if let Some(status) = next(&object) {
                store.merge(&target(&(Noun::Instance, key), &object), &json!({ "status": status })).unwrap();
                done = true;
            }
        }
        for (key, object) in store.of(Noun::Build) {
            let Some(node) = object["status"]["node"].as_str() else { continue };
            let over = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Cancelled"));
            if over || !self.runs(store, node) {
                continue;
            }
            done = true;
            if dice.one_in(2) {
                continue;
            }
            let cancelled = object["metadata"]["annotations"]["berth.dev/cancel"] == json!("true");
            let failed = object["spec"]["source"]["git"]["branch"] == json!("broken");
            let status = if cancelled {
                json!({ "phase": "Cancelled" })
            } else if failed {
                json!({ "phase": "Failed", "failure": { "reason": "CommandFailed", "message": "no" } })
            } else {
                json!({ "phase": "Succeeded", "image": format!("built/{}", key.name), "digest": "sha256:1" })
            };
            store.merge(&target(&(Noun::Build, key), &object), &json!({ "status": status })).unwrap();
        }
        done | self.route(store)
    }

    /// Every agent that can be heard says that it is alive.
    pub(crate) fn beat(&self, store: &mut Store) {
        for (key, object) in store.of(Noun::Node) {
            if self.silent.contains(&key.name) {
                continue;
            }
            let now = store.now.to_string();
            store.merge(&target(&(Noun::Node, key), &object), &json!({ "status": { "lastHeartbeat": now } })).unwrap();
        }
    }

    fn runs(&self, store: &Store, node: &str) -> bool {
        !self.silent.contains(node) && store.get(Noun::Node, &Key::cluster(node)).is_some()
    }

    /// Every node says of every application whether it routes it.
    fn route(&self, store: &mut Store) -> bool {
        let mut done = false;
        let mut routed: BTreeMap<(String, String), bool> = BTreeMap::new();
        for (_, object) in store.of(Noun::Instance) {
            if let (Some(node), Some(app)) =
                (object["spec"]["nodeName"].as_str(), object["spec"]["application"].as_str())
            {
                let routes = object["status"]["routed"] == json!(true);
                *routed.entry((app.to_owned(), node.to_owned())).or_default() |= routes;
            }
        }
        for (key, object) in store.of(Noun::Application) {
            let told: Vec<String> =
                object["status"]["routes"].as_object().into_iter().flatten().map(|(node, _)| node.clone()).collect();
            let mine = routed.keys().filter(|(app, _)| *app == key.name).map(|(_, node)| node.clone());
            for node in mine.chain(told).collect::<BTreeSet<_>>() {
                let ready = routed.get(&(key.name.clone(), node.clone())).copied().unwrap_or(false);
                let host = format!("{}.apps.example.com", crds::names::slug(&key.namespace, &key.name));
                let route = json!({ "ready": ready, "hosts": if ready { vec![host] } else { vec![] } });
                if !self.runs(store, &node) || object["status"]["routes"][&node] == route {
                    continue;
                }
                let name = (Noun::Application, key.clone());
                store.merge(&target(&name, &object), &json!({ "status": { "routes": { node: route } } })).unwrap();
                done = true;
            }
        }
        done
    }
}

/// What an agent would report of an instance next, if anything.
fn next(object: &Value) -> Option<Value> {
    let status = &object["status"];
    let phase = status["phase"].as_str().unwrap_or("Pending");
    let is = |phase: &str, ready: bool, routed: bool| json!({ "phase": phase, "ready": ready, "routed": routed });
    if is_deleted(object) {
        return match phase {
            "Stopped" => None,
            "Draining" => Some(is("Stopped", false, false)),
            _ => Some(is("Draining", status["ready"] == json!(true), false)),
        };
    }
    let broken = object["spec"]["template"]["image"].as_str().is_some_and(|image| image.contains("broken"));
    match phase {
        "Pending" | "Unknown" => Some(is("Pulling", false, false)),
        "Pulling" => Some(is("Starting", false, false)),
        "Starting" if broken => Some(json!({
            "phase": "Failed", "ready": false, "routed": false, "reason": "CrashLoop", "message": "it ended" })),
        "Starting" => Some(is("Running", true, false)),
        "Running" if status["routed"] != json!(true) || status["ready"] != json!(true) => {
            Some(is("Running", true, true))
        }
        _ => None,
    }
}
