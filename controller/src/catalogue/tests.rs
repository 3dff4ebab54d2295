//! An offer stays for as long as somebody uses it, and no longer.

use crds::{IN_USE_FINALIZER, Plan, Runtime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::step::Step;

fn offer<K: Offer>(spec: &Value, held: bool, deleted: bool) -> K {
    let mut object = json!({ "metadata": { "name": "x", "uid": "u", "resourceVersion": "7" }, "spec": spec });
    if held {
        object["metadata"]["finalizers"] = json!([IN_USE_FINALIZER, "somebody.else/finalizer"]);
    }
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    serde_json::from_value(object).unwrap()
}

fn a_plan() -> Value {
    json!({ "cpu": "1", "memory": "64Mi", "disk": "1Gi", "pricePerHour": "0.01" })
}

fn a_runtime() -> Value {
    json!({ "language": "dockerfile" })
}

fn observed(applications: usize) -> Observed {
    Observed { now: Timestamp::UNIX_EPOCH, applications }
}

/// The finalizers after a plan was carried out.
fn carried_out<K: Offer>(mut it: K, observed: &Observed) -> (K, usize) {
    let steps = plan(&it, observed);
    for step in &steps {
        let Step::Patch { of, patch } = step else { panic!("{step:?} is no business of an offer") };
        assert_eq!(of.resource_version.as_deref(), Some("7"), "finalizers of others may have changed");
        it.meta_mut().finalizers = serde_json::from_value(patch["metadata"]["finalizers"].clone()).unwrap();
    }
    (it, steps.len())
}

fn keeps_the_laws<K: Offer>(spec: &Value, held: bool, deleted: bool, applications: usize) -> Result<(), TestCaseError> {
    let observed = observed(applications);
    let (after, _) = carried_out(offer::<K>(spec, held, deleted), &observed);
    let has = |name: &str| after.meta().finalizers.iter().flatten().any(|it| it == name);
    // What is on its way out can get no new finalizer, so it keeps only one that it has.
    let kept = applications > 0 && (held || !deleted);
    prop_assert_eq!(has(IN_USE_FINALIZER), kept);
    prop_assert_eq!(has("somebody.else/finalizer"), held, "what is not ours stays");
    let (_, steps) = carried_out(after, &observed);
    prop_assert_eq!(steps, 0, "at the goal the plan is empty");
    Ok(())
}

proptest! {
    #[test]
    fn laws(held in any::<bool>(), deleted in any::<bool>(), applications in 0_usize..3) {
        keeps_the_laws::<Plan>(&a_plan(), held, deleted, applications)?;
        keeps_the_laws::<Runtime>(&a_runtime(), held, deleted, applications)?;
    }
}

fn said<K: Offer>(mut spec: Value, active: bool, deleted: bool) -> (Value, Value) {
    spec["active"] = json!(active);
    let status = serde_json::to_value(status(&offer::<K>(&spec, true, deleted), &observed(2))).unwrap();
    (status["applications"].clone(), status["conditions"][0]["reason"].clone())
}

#[test]
fn it_says_whether_it_can_be_chosen() {
    for (active, deleted, reason) in [(true, false, "Usable"), (false, false, "Inactive"), (true, true, "Deleting")] {
        assert_eq!(said::<Plan>(a_plan(), active, deleted), (json!(2), json!(reason)));
        assert_eq!(said::<Runtime>(a_runtime(), active, deleted), (json!(2), json!(reason)));
    }
}
