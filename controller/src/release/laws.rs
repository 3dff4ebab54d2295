//! The laws of `reconcile.rs`. A Release is a record, and its reconciler has nothing to do and all to say, so its goal is
//! that what it says is so.

use crds::{Application, Instance, Release};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::world::World;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// What there is to know of a release.
#[derive(Clone, Debug)]
struct State {
    has_application: bool,
    /// The release that the application says to serve.
    active: Option<&'static str>,
    /// Instances: of which release, whether they answer, and whether they get requests.
    instances: Vec<(&'static str, bool, bool)>,
    /// Why the application gave it up.
    failure: Option<&'static str>,
    is_deleted: bool,
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["web-1", "web-2"])
}

prop_compose! {
    fn state()(
        has_application in any::<bool>(),
        active in prop::option::of(name()),
        instances in prop::collection::vec((name(), any::<bool>(), any::<bool>()), 0..6),
        failure in prop::option::of(Just("it crashed")),
        is_deleted in any::<bool>(),
    ) -> State {
        State { has_application, active, instances, failure, is_deleted }
    }
}

fn template() -> Value {
    json!({"image": "app", "cpu": "1", "memory": "64Mi", "disk": "1Gi", "drain": "1s"})
}

impl State {
    /// The release `web-1`, with `said` as what was said of it before.
    fn release(&self, said: &Value) -> Release {
        let mut status = said.clone();
        json_patch::merge(&mut status, &json!({"failure": self.failure}));
        let mut object = json!({
            "metadata": {"name": "web-1", "namespace": "acme", "generation": 1},
            "spec": {
                "application": "web", "number": 1, "template": template(),
                "plan": {"name": "small", "pricePerHour": "0.01", "currency": "EUR"},
            },
            "status": status,
        });
        if self.is_deleted {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T11:00:00Z");
        }
        serde_json::from_value(object).unwrap()
    }

    /// All that is there, and in another project something of the same name.
    fn world(&self) -> World {
        let world = World::default();
        world.applications.replace(self.applications());
        let mine = self.instances.iter().map(|it| ("acme", *it)).chain([("other", ("web-1", true, true))]);
        let instances = mine.enumerate().map(|(number, (namespace, (release, ready, routed)))| {
            serde_json::from_value::<Instance>(json!({
                "metadata": {"name": format!("{release}-{number}"), "namespace": namespace, "uid": number.to_string()},
                "spec": {"application": "web", "release": release, "ordinal": 0, "template": template()},
                "status": {"phase": "Running", "ready": ready, "routed": routed},
            }))
        });
        world.instances.replace(instances.map(Result::unwrap).collect());
        world
    }

    fn applications(&self) -> Vec<Application> {
        let application = json!({
            "metadata": {"name": "web", "namespace": "acme"},
            "spec": {"source": {"image": {"reference": "app"}}, "plan": "small"},
            "status": {"activeRelease": self.active},
        });
        self.has_application.then(|| serde_json::from_value(application).unwrap()).into_iter().collect()
    }

    fn observed(&self, release: &Release, at: Timestamp) -> Observed {
        release.observe(&self.world(), &Settings { platform_domain: "x.y".to_owned(), public_port: None }, at)
    }

    /// What stands in the status after a round, as the driver publishes it.
    fn told(&self, said: &Value, at: Timestamp) -> Value {
        let release = self.release(said);
        let mut status = serde_json::to_value(&release.status).unwrap();
        json_patch::merge(&mut status, &serde_json::to_value(release.status(&self.observed(&release, at))).unwrap());
        status
    }

    /// Whether what is said is so: stated without reading how it is decided.
    fn satisfied(&self, status: &Value) -> Result<(), TestCaseError> {
        prop_assert_eq!(&status["active"], self.has_application && self.active == Some("web-1"));
        let mine: Vec<bool> = self.instances.iter().filter(|it| it.0 == "web-1").map(|it| it.1 && it.2).collect();
        prop_assert_eq!(&status["instances"], mine.len());
        prop_assert_eq!(&status["readyInstances"], mine.iter().filter(|serves| **serves).count());
        let ready = &status["conditions"][0];
        let expected = if self.failure.is_some() { ("False", "RolloutFailed") } else { ("True", "Usable") };
        prop_assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!(expected.0)));
        prop_assert_eq!((&ready["reason"], &ready["observedGeneration"]), (&json!(expected.1), &json!(1)));
        Ok(())
    }
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
        // Said once, it is said: nothing is written again, however much later.
        prop_assert_eq!(&it.told(&told, now() + SignedDuration::from_hours(1)), &told);
        // Nothing is done to it or to its instances, and nobody has to look again by himself.
        let release = it.release(&told);
        let observed = it.observed(&release, now());
        prop_assert!(release.plan(&observed).is_empty());
        prop_assert_eq!(release.recheck(&observed), None);
        // What its application says of it stays as it was said.
        prop_assert_eq!(told.get("failure").and_then(Value::as_str), it.failure);
    }
}
