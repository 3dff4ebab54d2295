//! What a node is to run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use controller::gateway::assign::{Assigned, assignment, build_image};
use controller::gateway::index::{Index, Objects};
use crds::{Application, Build, Instance, Plan, Runtime};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use node_protocol::{BuildTask, InstanceTask, Item, RouteTask, RunState};
use proptest::prelude::*;
use serde_json::{Value, json};

const DOMAIN: &str = "apps.example.com";

pub(crate) fn application(namespace: &str, name: &str, uid: &str, created: i64, domains: &[&str]) -> Application {
    let created = jiff::Timestamp::from_second(created).unwrap().to_string();
    serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Application",
        "metadata": { "namespace": namespace, "name": name, "uid": uid, "creationTimestamp": created },
        "spec": { "source": { "image": { "reference": "app:1" } }, "plan": "small", "domains": domains,
            "start": { "command": "node server.js", "port": 3000 } }
    }))
    .unwrap()
}

pub(crate) fn instance(namespace: &str, name: &str, uid: &str, application: &str, node: &str, env: &Value) -> Instance {
    serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Instance",
        "metadata": { "namespace": namespace, "name": name, "uid": uid },
        "spec": { "application": application, "release": "r1", "ordinal": 0, "nodeName": node, "template": {
            "image": "app:1", "command": "node 'server one.js'", "port": 8080, "env": env, "cpu": "500m", "memory": "64Mi",
            "disk": "1Gi", "drain": "7s", "health": { "path": "/healthz" } } }
    }))
    .unwrap()
}

fn build(namespace: &str, name: &str, uid: &str, node: &str, change: impl FnOnce(&mut Value)) -> Build {
    let mut value = json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Build",
        "metadata": { "namespace": namespace, "name": name, "uid": uid },
        "spec": { "application": "web", "source": { "git": { "url": "https://git.example.com/a/b.git" } } },
        "status": { "node": node, "phase": "Pending" }
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

pub(crate) fn secret(namespace: &str, name: &str, data: &[(&str, &str)]) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.name = Some(name.to_owned());
    secret.data =
        Some(data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))).collect());
    secret
}

fn runtime(name: &str, active: bool) -> Runtime {
    serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Runtime", "metadata": { "name": name },
        "spec": { "language": "nodejs", "version": "20", "runImage": "berth/nodejs:20", "active": active }
    }))
    .unwrap()
}

fn plan(name: &str, cpu: &str, memory: &str) -> Plan {
    serde_json::from_value(json!({
        "apiVersion": "berth.dev/v1alpha1", "kind": "Plan", "metadata": { "name": name },
        "spec": { "cpu": cpu, "memory": memory, "disk": "1Gi", "pricePerHour": "0.01" }
    }))
    .unwrap()
}

fn arcs<K>(objects: impl IntoIterator<Item = K>) -> Vec<Arc<K>> {
    objects.into_iter().map(Arc::new).collect()
}

fn from_secret(variable: &str, name: &str, key: &str) -> Value {
    json!([{ "name": variable, "valueFrom": { "secretKeyRef": { "name": name, "key": key } } }])
}

pub(crate) fn assigned(node: &str, objects: Objects) -> Assigned {
    assignment(node, &Index::new(objects, DOMAIN))
}

fn instances(assigned: &Assigned) -> Vec<&InstanceTask> {
    assigned.items.values().filter_map(|item| if let Item::Instance(task) = item { Some(task) } else { None }).collect()
}

fn routes(assigned: &Assigned) -> Vec<&RouteTask> {
    assigned.items.values().filter_map(|item| if let Item::Route(task) = item { Some(task) } else { None }).collect()
}

fn builds(assigned: &Assigned) -> Vec<&BuildTask> {
    assigned.items.values().filter_map(|item| if let Item::Build(task) = item { Some(task) } else { None }).collect()
}

#[test]
fn an_instance_is_told_all_that_it_needs() {
    let objects = Objects {
        applications: arcs([application("acme", "web", "app-1", 10, &[])]),
        instances: arcs([
            instance("acme", "web-0", "i-1", "web", "a", &from_secret("KEY", "web", "key")),
            instance("acme", "web-1", "i-2", "web", "b", &json!([])),
        ]),
        secrets: arcs([secret("acme", "web", &[("key", "hunter2")])]),
        ..Objects::default()
    };
    let assigned = assigned("a", objects);
    let [task] = instances(&assigned)[..] else { panic!("{assigned:?}") };
    assert_eq!((task.uid.as_str(), task.application_uid.as_str(), task.state), ("i-1", "app-1", RunState::Run));
    assert_eq!(task.command.as_deref().unwrap(), ["node", "server one.js"]);
    assert_eq!((task.cpu_millis, task.memory_bytes, task.drain_milliseconds), (500, 64 << 20, 7_000));
    assert_eq!((task.env[0].name.as_str(), task.env[0].value.as_str()), ("KEY", "hunter2"));
    assert_eq!(task.health.path.as_deref(), Some("/healthz"));
    let [route] = routes(&assigned)[..] else { panic!("{assigned:?}") };
    assert_eq!(route.hosts, ["web-acme.apps.example.com"]);
    assert_eq!(assigned.withheld, []);
}

#[test]
fn an_environment_is_of_bounded_size_wherever_its_values_stand() {
    let check = |value: usize, variables: usize| {
        let variable = |number| json!({ "name": format!("V{number}"), "valueFrom": { "secretKeyRef": { "name": "web", "key": "key" } } });
        let env: Value = (0..variables).map(variable).collect();
        let objects = Objects {
            instances: arcs([instance("acme", "web-0", "i-1", "web", "a", &env)]),
            secrets: arcs([secret("acme", "web", &[("key", &"x".repeat(value))])]),
            ..Objects::default()
        };
        assigned("a", objects).withheld.first().map(|withheld| (withheld.reason, withheld.message.clone()))
    };
    assert_eq!(check(32 << 10, 15), None);
    let (reason, message) = check((32 << 10) + 1, 1).unwrap();
    assert_eq!(reason, "EnvironmentTooLarge");
    assert!(message.contains("V0") && message.contains("32 KiB") && message.contains("512 KiB"), "{message}");
    assert_eq!(check(32 << 10, 16).unwrap().0, "EnvironmentTooLarge");
    assert_eq!(check(1 << 20, 500).unwrap().0, "EnvironmentTooLarge");
}

#[test]
fn what_signs_in_is_sent_without_the_line_ends_of_an_editor() {
    let git = json!({ "url": "https://git.example.com/a/b.git", "credentials": { "secretName": "web" } });
    let objects = Objects {
        builds: arcs([build("acme", "b", "b-1", "a", |build| build["spec"]["source"]["git"] = git)]),
        secrets: arcs([secret("acme", "web", &[("username", "ada\n"), ("password", "secret\r\n")])]),
        ..Objects::default()
    };
    let assigned = assigned("a", objects);
    let [task] = builds(&assigned)[..] else { panic!("{assigned:?}") };
    assert_eq!((task.git.username.as_deref(), task.git.password.as_deref()), (Some("ada"), Some("secret")));
}

#[test]
fn without_its_secret_an_instance_waits_and_says_so_but_can_always_be_stopped() {
    let check = |secrets: Vec<Secret>, deleted: bool| {
        let mut instance = instance("acme", "web-0", "i-1", "web", "a", &from_secret("KEY", "web", "key"));
        if deleted {
            instance.metadata.deletion_timestamp = Some(crds::condition::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        }
        let objects = Objects { instances: arcs([instance]), secrets: arcs(secrets), ..Objects::default() };
        let assigned = assigned("a", objects);
        let states: Vec<RunState> = instances(&assigned).iter().map(|task| task.state).collect();
        (states, assigned.withheld.first().map(|withheld| withheld.reason))
    };
    assert_eq!(check(vec![], false), (vec![], Some("SecretNotFound")));
    assert_eq!(check(vec![secret("acme", "web", &[])], false), (vec![], Some("SecretKeyNotFound")));
    assert_eq!(check(vec![secret("acme", "web", &[("key", "a\0b")])], false), (vec![], Some("SecretKeyNotFound")));
    assert_eq!(check(vec![secret("evil", "web", &[("key", "x")])], false), (vec![], Some("SecretNotFound")));
    assert_eq!(check(vec![], true), (vec![RunState::Stop], None));
}

#[test]
fn a_domain_belongs_to_the_oldest_application_that_claims_it() {
    let objects = Objects {
        applications: arcs([
            application("new", "web", "u-new", 20, &["shop.example.com", "new.example.com"]),
            application("old", "web", "u-old", 10, &["shop.example.com"]),
            application("same", "a", "u-2", 30, &["tie.example.com"]),
            application("same", "b", "u-1", 30, &["tie.example.com"]),
            application(
                "evil",
                "web",
                "u-evil",
                1,
                &[
                    "web-old.apps.example.com",
                    "apps.example.com",
                    "x.apps.example.com",
                    "web-evil.apps.example.com",
                    "evilapps.example.com",
                    "a;b.example.com",
                ],
            ),
        ]),
        instances: arcs([
            instance("new", "i", "i-1", "web", "a", &json!([])),
            instance("old", "i", "i-2", "web", "a", &json!([])),
            instance("same", "ia", "i-3", "a", "a", &json!([])),
            instance("same", "ib", "i-4", "b", "a", &json!([])),
            instance("evil", "i", "i-5", "web", "a", &json!([])),
        ]),
        ..Objects::default()
    };
    let assigned = assigned("a", objects);
    let hosts: BTreeMap<&str, &[String]> =
        routes(&assigned).into_iter().map(|route| (route.application_uid.as_str(), route.hosts.as_slice())).collect();
    assert_eq!(hosts["u-old"], ["web-old.apps.example.com", "shop.example.com"]);
    assert_eq!(hosts["u-new"], ["web-new.apps.example.com", "new.example.com"]);
    assert_eq!(hosts["u-1"], ["b-same.apps.example.com", "tie.example.com"]);
    assert_eq!(hosts["u-2"], ["a-same.apps.example.com"]);
    assert_eq!(hosts["u-evil"], ["web-evil.apps.example.com", "evilapps.example.com"]);
}

#[test]
fn an_application_without_instances_here_has_no_route_here() {
    let objects = Objects {
        applications: arcs([application("acme", "web", "app-1", 10, &[])]),
        instances: arcs([instance("acme", "web-0", "i-1", "web", "b", &json!([]))]),
        ..Objects::default()
    };
    assert_eq!(assigned("a", objects.clone()).items.len(), 0);
    assert_eq!(routes(&assigned("b", objects)).len(), 1);
}

#[test]
fn a_build_gets_enough_to_build_with_and_is_dropped_once_it_has_ended() {
    let objects = |build: Build, secrets: Vec<Secret>| Objects {
        applications: arcs([application("acme", "web", "app-1", 10, &[])]),
        builds: arcs([build]),
        plans: arcs([plan("small", "100m", "64Mi"), plan("large", "4", "8Gi")]),
        runtimes: arcs([runtime("node-20", true), runtime("node-16", false)]),
        secrets: arcs(secrets),
        ..Objects::default()
    };
    let found = assigned("a", objects(build("acme", "web-b1", "b-1", "a", |_| ()), vec![]));
    let [task] = builds(&found)[..] else { panic!("{found:?}") };
    assert_eq!((task.cpu_millis, task.memory_bytes, task.detect, task.cancel), (1_000, 1 << 30, true, false));
    assert_eq!(task.runtimes.iter().map(|runtime| runtime.name.as_str()).collect::<Vec<_>>(), ["node-20"]);
    assert_eq!((task.start_command.as_deref(), task.port), (Some("node server.js"), Some(3000)));
    assert_eq!(task.image, "berth/acme/web-b1:latest");
    assert_eq!(task.timeout_milliseconds, 900_000);

    let named =
        assigned("a", objects(build("acme", "b", "b-1", "a", |b| b["spec"]["runtime"] = json!("node-16")), vec![]));
    assert_eq!(builds(&named)[0].runtimes[0].name, "node-16", "who chose it keeps it");
    assert!(!builds(&named)[0].detect);
    for phase in ["Succeeded", "Failed", "Cancelled"] {
        let ended = build("acme", "b", "b-1", "a", |b| b["status"]["phase"] = json!(phase));
        assert_eq!(builds(&assigned("a", objects(ended, vec![]))).len(), 0, "{phase}");
    }
    let cancelled = |b: &mut Value| b["metadata"]["annotations"] = json!({ "berth.dev/cancel": "true" });
    assert!(builds(&assigned("a", objects(build("acme", "b", "b-1", "a", cancelled), vec![])))[0].cancel);
    let deleted = |b: &mut Value| b["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert!(builds(&assigned("a", objects(build("acme", "b", "b-1", "a", deleted), vec![])))[0].cancel);
    assert_eq!(builds(&assigned("b", objects(build("acme", "b", "b-1", "a", |_| ()), vec![]))).len(), 0);
}

#[test]
fn a_build_signs_in_with_its_own_namespaces_secret() {
    let signed = |b: &mut Value| b["spec"]["source"]["git"]["credentials"] = json!({ "secretName": "git" });
    let check = |namespace: &str, data: &[(&str, &str)]| {
        let objects = Objects {
            builds: arcs([build("acme", "b", "b-1", "a", signed)]),
            secrets: arcs([secret(namespace, "git", data)]),
            ..Objects::default()
        };
        let assigned = assigned("a", objects);
        let git = builds(&assigned).first().map(|task| task.git.clone());
        (git, assigned.withheld.first().map(|withheld| withheld.reason))
    };
    let (git, _) = check("acme", &[("username", "bot"), ("password", "hunter2")]);
    let git = git.unwrap();
    assert_eq!((git.username.as_deref(), git.password.as_deref()), (Some("bot"), Some("hunter2")));
    assert!(!format!("{git:?}").contains("hunter2"));
    assert_eq!(check("acme", &[("username", "bot")]).1, Some("SecretKeyNotFound"));
    assert_eq!(check("evil", &[("password", "x")]).1, Some("SecretNotFound"));
    assert!(check("acme", &[("ssh-privatekey", "PEM"), ("known_hosts", "h")]).0.unwrap().ssh_private_key.is_some());
}

/// Everything of three tenants whose names, secrets and applications are called alike.
fn world() -> impl Strategy<Value = Objects> {
    let namespaces = ["one", "two", "three"];
    let placed = proptest::collection::vec((0..3_usize, 0..3_usize, 0..2_usize, any::<bool>(), 0..4_usize), 0..24);
    let secrets = proptest::collection::btree_set((0..3_usize, 0..3_usize), 0..9);
    (placed, secrets).prop_map(move |(placed, secrets)| {
        let mut objects = Objects::default();
        for (namespace, name) in secrets {
            let value = format!("tag-of-{}", namespaces[namespace]);
            let name = format!("secret-{name}");
            let data = [("key", value.as_str()), ("password", value.as_str())];
            objects.secrets.push(Arc::new(secret(namespaces[namespace], &name, &data)));
        }
        for (number, (namespace, application_number, node, deleted, secret)) in placed.into_iter().enumerate() {
            let (namespace, node) = (namespaces[namespace], ["a", "b"][node]);
            let name = format!("app-{application_number}");
            if !objects
                .applications
                .iter()
                .any(|app| app.name_any() == name && app.namespace().as_deref() == Some(namespace))
            {
                let uid = format!("uid-{namespace}-{name}");
                let domains = ["shop.example.com", "a.apps.example.com"];
                let created = i64::try_from(number).unwrap() % 3;
                objects.applications.push(Arc::new(application(namespace, &name, &uid, created, &domains)));
            }
            let env = from_secret("KEY", &format!("secret-{secret}"), "key");
            let mut placed = instance(namespace, &format!("i-{number}"), &format!("uid-i-{number}"), &name, node, &env);
            let time = Some(crds::condition::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
            placed.metadata.deletion_timestamp = time.filter(|_| deleted);
            objects.instances.push(Arc::new(placed));
            let signed = build(namespace, &format!("b-{number}"), &format!("uid-b-{number}"), node, |b| {
                b["spec"]["source"]["git"]["credentials"] = json!({ "secretName": format!("secret-{secret}") });
            });
            objects.builds.push(Arc::new(signed));
        }
        objects
    })
}

proptest! {
    #[test]
    fn no_tenant_ever_gets_anothers_secret_or_host(objects in world()) {
        let mut hosts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in ["a", "b"] {
            for item in assigned(node, objects.clone()).items.into_values() {
                let (namespace, json) = match &item {
                    // A uid and nothing else.
                    Item::Image(_) => continue,
                    Item::Instance(task) => (task.namespace.clone(), serde_json::to_string(task).unwrap()),
                    Item::Build(task) => (task.namespace.clone(), serde_json::to_string(task).unwrap()),
                    Item::Route(task) => {
                        for host in &task.hosts {
                            hosts.entry(host.clone()).or_default().insert(task.application_uid.clone());
                        }
                        (task.namespace.clone(), serde_json::to_string(task).unwrap())
                    }
                };
                for other in ["one", "two", "three"].iter().filter(|other| **other != namespace) {
                    prop_assert!(!json.contains(&format!("tag-of-{other}")), "{} in {}: {}", other, namespace, json);
                }
            }
        }
        for (host, owners) in hosts {
            prop_assert_eq!(owners.len(), 1, "{} leads to {:?}", host, owners);
        }
    }

    #[test]
    fn an_instance_is_stopped_only_when_it_was_deleted_and_is_never_forgotten_silently(objects in world()) {
        for node in ["a", "b"] {
            let assigned = assigned(node, objects.clone());
            for instance in &objects.instances {
                let key = node_protocol::ItemKey::Instance(instance.uid().unwrap());
                let here = instance.spec.node_name.as_deref() == Some(node);
                let deleted = instance.metadata.deletion_timestamp.is_some();
                let withheld = assigned.withheld.iter().any(|withheld| withheld.key == key);
                match assigned.items.get(&key) {
                    Some(Item::Instance(task)) => {
                        prop_assert!(here && !withheld);
                        prop_assert_eq!(task.state == RunState::Stop, deleted);
                    }
                    Some(other) => prop_assert!(false, "{:?}", other),
                    None => prop_assert!(!here || (withheld && !deleted)),
                }
            }
        }
    }

    #[test]
    fn the_same_objects_in_any_order_are_the_same_assignment(objects in world(), seed in any::<u64>()) {
        let mut other = objects.clone();
        let turn = |len: usize| if len == 0 { 0 } else { usize::try_from(seed % len as u64).unwrap() };
        other.instances.rotate_left(turn(objects.instances.len()));
        other.applications.rotate_left(turn(objects.applications.len()));
        other.builds.reverse();
        other.secrets.reverse();
        for node in ["a", "b"] {
            prop_assert_eq!(assigned(node, objects.clone()), assigned(node, other.clone()));
        }
    }

    #[test]
    fn images_of_builds_are_references(
        namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    ) {
        prop_assert!(crds::image::is_reference(&build_image(&namespace, &name)));
    }

    #[test]
    fn what_changes_an_assignment_changes_its_fingerprint(objects in world(), which in any::<prop::sample::Index>()) {
        let index = Index::new(objects.clone(), DOMAIN);
        let mut changed = objects.clone();
        if changed.secrets.is_empty() {
            return Ok(());
        }
        // A Secret's new version, as a server would write it.
        let at = which.index(changed.secrets.len());
        let secret = Arc::make_mut(&mut changed.secrets[at]);
        secret.metadata.resource_version = Some("2".to_owned());
        secret.data = None;
        let after = Index::new(changed, DOMAIN);
        for node in ["a", "b"] {
            if assignment(node, &index) != assignment(node, &after) {
                prop_assert_ne!(index.fingerprint(node), after.fingerprint(node));
            }
        }
    }
}
