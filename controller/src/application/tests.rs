//! What is done about an application, as stories; its laws are in `rollout.rs` and `simulation/`.

use std::collections::BTreeMap;

use crds::{Application, Instance, Node, Plan};
use insta::assert_snapshot;
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::step::{Object, Step};
use crate::world::World;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn settings() -> Settings {
    Settings { platform_domain: "apps.example.com".to_owned(), public_port: None }
}

/// A world from a line such as
/// `web image=app:2 instances=2 | v1=app:1 active, v2=app:2 failed | v1-0 running a, v2-0 starting b deleted`:
/// the application, its releases by image, its instances. Nodes are `a` and `b`; a node called `gone` is not there.
struct Scene {
    application: Application,
    world: World,
    /// The names that the hashes stand for.
    names: BTreeMap<String, String>,
}

impl Scene {
    fn new(text: &str) -> Self {
        let mut parts = text.split(" | ");
        let words: Vec<&str> = parts.next().unwrap().split(' ').collect();
        let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let mut scene = Self { application: application(&value), world: World::default(), names: BTreeMap::new() };
        if words.contains(&"stopped") {
            scene.application.spec.running = false;
        }
        if words.contains(&"deleted") {
            scene.application.metadata.deletion_timestamp = Some(crds::condition::whole_seconds(now()));
        }
        scene.nodes();
        let releases: Vec<&str> = parts.next().unwrap_or_default().split(", ").filter(|it| !it.is_empty()).collect();
        for (number, text) in releases.into_iter().enumerate() {
            scene.release(i64::try_from(number).unwrap() + 1, text);
        }
        let pin = value("pin").map(|alias| scene.name(alias));
        scene.application.spec.release = pin;
        for text in parts.next().unwrap_or_default().split(", ").filter(|text| !text.is_empty()) {
            scene.instance(text);
        }
        scene
    }

    fn nodes(&self) {
        let node = |name: &str| -> Node {
            let status = json!({ "lastHeartbeat": now().to_string() });
            serde_json::from_value(json!({ "metadata": { "name": name }, "spec": {}, "status": status })).unwrap()
        };
        self.world.nodes.replace(vec![node("a"), node("b")]);
        let spec = json!({ "cpu": "1", "memory": "64Mi", "disk": "1Gi", "pricePerHour": "0.01", "maxInstances": 5 });
        let plan = json!({ "metadata": { "name": "small" }, "spec": spec });
        self.world.plans.replace(vec![serde_json::from_value::<Plan>(plan).unwrap()]);
    }

    /// `v2=app:2 failed`: the release that the application would have with that image.
    fn release(&mut self, number: i64, text: &str) {
        let (alias, rest) = text.split_once('=').unwrap();
        let words: Vec<&str> = rest.split(' ').collect();
        let mut wish = self.application.clone();
        wish.spec.plan = "small".to_owned();
        wish.spec.source = serde_json::from_value(json!({ "image": { "reference": words[0] } })).unwrap();
        let observed = wish.observe(&self.world, &settings(), now());
        let Ok(mut release) = content::release(&wish, &observed, content::Image::elsewhere(&wish).unwrap()) else {
            panic!("nothing is missing for {text}")
        };
        release.spec.number = number;
        release.metadata.uid = Some(format!("uid-{alias}"));
        release.metadata.resource_version = Some("7".to_owned());
        if words.contains(&"failed") {
            let failed = json!({ "failure": "it crashed", "failedGeneration": 1 });
            release.status = Some(serde_json::from_value(failed).unwrap());
        }
        self.names.insert(release.name_any(), alias.to_owned());
        if words.contains(&"active") {
            self.application.status.get_or_insert_default().active_release = Some(release.name_any());
        }
        self.world.releases.apply(release);
    }

    /// `v1-0 running a`
    fn instance(&mut self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let (alias, ordinal) = words[0].split_once('-').unwrap();
        let release = self.name(alias);
        let runs = words[1] == "running";
        let phase = format!("{}{}", words[1][..1].to_uppercase(), &words[1][1..]);
        let deleted = words.contains(&"deleted").then_some("2026-01-01T11:59:00Z");
        let log =
            (phase == "Failed").then(|| json!({ "code": 1, "log": "no such module", "at": "2026-01-01T11:59:58Z" }));
        let object = json!({
            "metadata": { "name": format!("{release}-{ordinal}"), "namespace": "acme", "uid": words[0], "resourceVersion": "7",
                "deletionTimestamp": deleted, "creationTimestamp": "2026-01-01T11:59:00Z",
                "ownerReferences": [{ "apiVersion": "x", "kind": "Application", "name": "web", "uid": "uid-web" }] },
            "spec": { "application": "web", "release": release, "ordinal": ordinal.parse::<i32>().unwrap(),
                "nodeName": words.get(2), "template": self.world.releases.all()[0].spec.template },
            "status": { "phase": phase, "ready": runs, "routed": runs, "startedAt": "2026-01-01T11:59:00Z",
                "lastExit": log, "reason": (phase == "Failed").then_some("CrashLoop") },
        });
        self.names.insert(format!("{release}-{ordinal}"), words[0].to_owned());
        self.world.instances.apply(serde_json::from_value::<Instance>(object).unwrap());
    }

    fn name(&self, alias: &str) -> String {
        self.names.iter().find(|(_, known)| *known == alias).map_or_else(|| alias.to_owned(), |(name, _)| name.clone())
    }

    /// A real name as the story calls it.
    fn alias(&self, name: &str) -> String {
        if let Some(alias) = self.names.get(name) {
            return alias.clone();
        }
        match name.rsplit_once('-') {
            Some((release, ordinal)) if self.names.contains_key(release) => {
                format!("{}-{ordinal}", self.names[release])
            }
            _ => "new".to_owned(),
        }
    }

    fn steps(&self) -> Vec<String> {
        let observed = self.application.observe(&self.world, &settings(), now());
        let words = |step: &Step| match step {
            Step::Create(Object::Release(it)) => {
                Some(format!("create release {} ({})", it.spec.number, it.spec.change))
            }
            Step::Create(Object::Instance(it)) => Some(format!("create {}", self.alias(&it.name_any()))),
            Step::Create(Object::Build(_)) => Some("create build".to_owned()),
            Step::Delete(of) => Some(format!("delete {}", self.alias(&of.key.name))),
            Step::Patch { patch, .. } if patch["metadata"]["finalizers"] == json!([]) => Some("let it go".to_owned()),
            Step::Patch { .. } => Some("hold".to_owned()),
            Step::PatchStatus { of, patch } if patch["failure"] != Value::Null => {
                Some(format!("give {} up: {}", self.alias(&of.key.name), patch["failure"].as_str().unwrap()))
            }
            Step::PatchStatus { of, .. } => Some(format!("forgive {}", self.alias(&of.key.name))),
            Step::Emit(_) => None,
        };
        let steps: Vec<String> = self.application.plan(&observed).iter().filter_map(words).collect();
        steps.into_iter().map(|text| self.named(text)).collect()
    }

    /// A text with the story's names instead of the real ones.
    fn named(&self, mut text: String) -> String {
        for (name, alias) in self.names.iter().rev() {
            text = text.replace(name, alias);
        }
        text
    }

    fn said(&self) -> String {
        let observed = self.application.observe(&self.world, &settings(), now());
        let status = serde_json::to_value(self.application.status(&observed)).unwrap();
        let conditions = status["conditions"].as_array().unwrap().iter();
        let mut lines: Vec<String> = conditions
            .map(|it| ["type", "status", "reason", "message"].map(|field| it[field].as_str().unwrap()))
            .map(|[type_, status, reason, message]| format!("{type_} {status} {reason}: {message}"))
            .collect();
        lines.push(format!("active {}", self.alias(status["activeRelease"].as_str().unwrap_or("none"))));
        self.named(lines.join("\n"))
    }
}

fn application<'a>(value: &dyn Fn(&str) -> Option<&'a str>) -> Application {
    let number = |key: &str, otherwise: i32| value(key).map_or(otherwise, |text| text.parse().unwrap());
    serde_json::from_value(json!({
        "metadata": { "name": "web", "namespace": "acme", "uid": "uid-web", "resourceVersion": "7", "generation": 1,
            "finalizers": [crds::FINALIZER] },
        "spec": { "source": { "image": { "reference": value("image").unwrap_or("app:1") } },
            "plan": value("plan").unwrap_or("small"), "instances": number("instances", 1),
            "rollout": { "maxSurge": number("surge", 1), "maxUnavailable": number("unavailable", 0) } },
    }))
    .unwrap()
}

/// What is done next in the world of the text. What is done does not depend on how often it is asked.
#[track_caller]
fn check(text: &str) -> String {
    let scene = Scene::new(text);
    let steps = scene.steps();
    assert_eq!(steps, scene.steps());
    if steps.is_empty() { "nothing".to_owned() } else { steps.join(", ") }
}

#[test]
fn from_nothing_to_an_instance() {
    assert_snapshot!(check("web image=app:1"), @"create release 1 (the first release)");
    assert_snapshot!(check("web image=app:1 | v1=app:1"), @"create v1-0");
    assert_snapshot!(check("web image=app:1 | v1=app:1 | v1-0 starting a"), @"nothing");
    assert_snapshot!(check("web image=app:1 | v1=app:1 active | v1-0 running a"), @"nothing");
    assert_snapshot!(check("web image=app:1 stopped | v1=app:1"), @"nothing");
}

#[test]
fn a_new_release_takes_over() {
    assert_snapshot!(check("web image=app:2 | v1=app:1 active | v1-0 running a"), @"create release 2 (image app:2)");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a"), @"create v2-0");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 starting b"), @"nothing");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 running b"), @"delete v1-0");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a deleted, v2-0 running b"), @"nothing");
    assert_snapshot!(check("web image=app:2 instances=2 unavailable=1 | v1=app:1 active, v2=app:2 | v1-0 running a, v1-1 running b"), @"create v2-0, delete v1-1");
    assert_snapshot!(check("web image=app:2 surge=0 unavailable=1 | v1=app:1 active, v2=app:2 | v1-0 running a"), @"delete v1-0");
}

#[test]
fn a_release_that_does_not_start_is_given_up() {
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 failed b"), @"give v2 up: v2-0: CrashLoop: 
no such module");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 failed | v1-0 running a, v2-0 failed b"), @"delete v2-0");
    assert_snapshot!(check("web image=app:2 | v1=app:1 active, v2=app:2 failed | v1-0 running a"), @"nothing");
    assert_snapshot!(check("web image=app:2 instances=2 | v1=app:1 active, v2=app:2 failed | v1-0 running a, v2-0 running b"), @"create v1-1");
    assert_snapshot!(check("web image=app:1 | v1=app:1 failed | v1-0 failed a"), @"delete v1-0");
}

#[test]
fn time_without_a_node_or_on_a_silent_one_is_not_counted_against_a_release() {
    let turned = |minutes: i64| {
        let scene = Scene::new("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 pulling b");
        let slow = scene.world.instances.all().into_iter().find(|it| it.spec.node_name.as_deref() == Some("b"));
        let mut slow = Instance::clone(&slow.unwrap());
        let ago = |minutes: i64| crds::condition::whole_seconds(now() - jiff::SignedDuration::from_mins(minutes));
        slow.metadata.creation_timestamp = Some(ago(60));
        let placed = crds::condition::Verdict::new("Scheduled", Some(true), "Placed", "on b");
        slow.status.as_mut().unwrap().conditions = crds::condition::set(&[], &[placed], None, ago(minutes).0);
        scene.world.instances.apply(slow);
        scene.steps().join(", ")
    };
    assert_snapshot!(turned(14), @"");
    assert_snapshot!(turned(16), @"give v2 up: v2-0: Unhealthy: it did not run within 15 minutes; ");
}

#[test]
fn what_serves_is_tried_again_when_it_fails() {
    assert_snapshot!(check("web image=app:1 | v1=app:1 active | v1-0 failed a"), @"nothing");
    let mut scene = Scene::new("web image=app:1 | v1=app:1 active | v1-0 failed a");
    let mut failed = Instance::clone(&scene.world.instances.all()[0]);
    failed.status.as_mut().unwrap().last_exit.as_mut().unwrap().at = Some("2026-01-01T11:59:50Z".to_owned());
    scene.world.instances.apply(failed.clone());
    assert_snapshot!(scene.steps().join(", "), @"create v1-1, delete v1-0");
    failed.annotations_mut().insert("berth.dev/attempt".to_owned(), "6".to_owned());
    scene.world.instances.apply(failed);
    assert_snapshot!(scene.steps().join(", "), @"");
    scene.application.spec.running = false;
    assert_snapshot!(scene.steps().join(", "), @"delete v1-0");
    assert_snapshot!(check("web image=app:1 plan=none-such stopped | v1=app:1 | v1-0 starting a"), @"delete v1-0");
}

#[test]
fn going_back_needs_no_build() {
    assert_snapshot!(check("web image=app:2 pin=v1 | v1=app:1, v2=app:2 active | v2-0 running a"), @"create v1-0");
    assert_snapshot!(check("web image=app:2 pin=v1 | v1=app:1, v2=app:2 active | v1-0 running b, v2-0 running a"), @"delete v2-0");
    assert_snapshot!(check("web image=app:2 pin=none | v1=app:1, v2=app:2 active | v2-0 running a"), @"nothing");
}

#[test]
fn what_is_on_a_node_that_is_gone_or_emptied_is_replaced() {
    assert_snapshot!(check("web image=app:1 | v1=app:1 active | v1-0 running gone"), @"create v1-1");
    assert_snapshot!(check("web image=app:1 | v1=app:1 active | v1-0 unknown gone, v1-1 running a"), @"delete v1-0");
    let scene = Scene::new("web image=app:1 | v1=app:1 active | v1-0 running a");
    let mut node = Node::clone(&scene.world.nodes.all()[0]);
    node.spec.drain = true;
    scene.world.nodes.apply(node);
    assert_snapshot!(scene.steps().join(", "), @"create v1-1");
}

#[test]
fn it_goes_when_everything_else_is_gone() {
    assert_snapshot!(check("web deleted | v1=app:1 active | v1-0 running a, v1-1 running b deleted"), @"delete v1-0");
    assert_snapshot!(check("web deleted | v1=app:1 active | v1-0 draining a deleted"), @"nothing");
    assert_snapshot!(check("web deleted | v1=app:1 active"), @"delete v1");
    assert_snapshot!(check("web deleted"), @"let it go");
    let mut routed = Scene::new("web deleted");
    let route = json!({ "routes": { "a": { "ready": true, "hosts": [] }, "gone": { "ready": true, "hosts": [] } } });
    routed.application.status = Some(serde_json::from_value(route).unwrap());
    assert_snapshot!(routed.steps().join(", "), @"");
    routed.application.status.as_mut().unwrap().routes.get_mut("a").unwrap().ready = false;
    assert_snapshot!(routed.steps().join(", "), @"let it go");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let scene = Scene::new("web image=app:1 | v1=app:1 active | v1-0 running a");
    let mut other = Instance::clone(&scene.world.instances.all()[0]);
    other.metadata.name = Some("web-of-old-0".to_owned());
    other.metadata.owner_references.as_mut().unwrap()[0].uid = "uid-of-an-earlier-web".to_owned();
    scene.world.instances.apply(other);
    assert_snapshot!(scene.steps().join(", "), @"");
}

#[test]
fn old_releases_are_forgotten_but_never_one_that_is_needed() {
    let releases: Vec<String> = (1..=13).map(|number| format!("v{number}=app:{number}")).collect();
    let text = format!("web image=app:13 | {} | v2-0 running a deleted, v13-0 running a", releases.join(", "));
    assert_snapshot!(check(&text), @"delete v3, delete v1");
}

#[test]
fn a_plan_that_is_bought_stays_as_it_was() {
    let scene = Scene::new("web image=app:1 | v1=app:1 active | v1-0 running a");
    let mut dearer = Plan::clone(&scene.world.plans.all()[0]);
    dearer.spec.price_per_hour = "9.99".parse().unwrap();
    dearer.spec.memory = "1Gi".parse().unwrap();
    dearer.spec.active = false;
    scene.world.plans.apply(dearer);
    assert_snapshot!(scene.steps().join(", "), @"");
}

#[test]
fn what_is_said() {
    let said = |text: &str| Scene::new(text).said();
    assert_snapshot!(said("web image=app:1 instances=9"), @"
    Ready False Invalid: spec.instances: Invalid value: 9: the plan small allows at most 5
    active new
    ");
    assert_snapshot!(said("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 starting b"), @"
    BuildSucceeded True Prebuilt: the image was built elsewhere
    Ready False Progressing: the node a has not told of its routes yet
    RolledOut False Progressing: 0 of 1 instances are of v2, 1 of others
    RoutesReady False Waiting: the node a has not told of its routes yet
    Scheduled True Scheduled: every instance has a node
    active v1
    ");
    assert_snapshot!(said("web image=app:2 | v1=app:1 active, v2=app:2 failed | v1-0 running a"), @"
    BuildSucceeded True Prebuilt: the image was built elsewhere
    Ready False Progressing: the node a has not told of its routes yet
    RolledOut False RolloutFailed: v2 was given up: it crashed
    RoutesReady False Waiting: the node a has not told of its routes yet
    Scheduled True Scheduled: every instance has a node
    active v1
    ");
    assert_snapshot!(said("web plan=huge | v1=app:1 active | v1-0 running a"), @r#"
    BuildSucceeded True Prebuilt: the image was built elsewhere
    Ready False PlanNotFound: there is no plan "huge"; there are: small; v1 goes on serving
    RolledOut False PlanNotFound: there is no plan "huge"; there are: small
    RoutesReady False Waiting: the node a has not told of its routes yet
    Scheduled True Scheduled: every instance has a node
    active v1
    "#);
    let stopping = said("web stopped | v1=app:1 active | v1-0 running a");
    assert!(stopping.contains("Ready False Progressing: no instances are wanted, and 1 are still there"), "{stopping}");
    assert_snapshot!(said("web stopped | v1=app:1 active"), @"
    BuildSucceeded True Prebuilt: the image was built elsewhere
    Ready True Stopped: no instances are wanted
    RolledOut True RolledOut: no instance of another release than v1 is left
    RoutesReady False NoInstances: no instance gets requests
    Scheduled True Scheduled: every instance has a node
    active v1
    ");
}

#[test]
fn statuses_come_to_rest() {
    let mut scene = Scene::new("web image=app:2 | v1=app:1 active, v2=app:2 | v1-0 running a, v2-0 starting b");
    let publish = |scene: &mut Scene| {
        let observed = scene.application.observe(&scene.world, &settings(), now());
        let patch = serde_json::to_value(scene.application.status(&observed)).unwrap();
        let mut status = serde_json::to_value(&scene.application.status).unwrap();
        json_patch::merge(&mut status, &patch);
        scene.application.status = Some(serde_json::from_value(status.clone()).unwrap());
        status
    };
    assert_eq!(publish(&mut scene), publish(&mut scene));
}
