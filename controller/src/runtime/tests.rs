//! A runtime stays for as long as somebody uses it, and no longer.

use crds::{IN_USE_FINALIZER, Runtime};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn runtime(held: bool, deleted: bool) -> Runtime {
    let mut object = json!({ "metadata": { "name": "x", "uid": "u", "resourceVersion": "7" }, "spec": { "language": "dockerfile" } });
    if held {
        object["metadata"]["finalizers"] = json!([IN_USE_FINALIZER, "somebody.else/finalizer"]);
    }
    if deleted {
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    serde_json::from_value(object).unwrap()
}

fn observed(applications: usize) -> Observed {
    Observed { now: Timestamp::UNIX_EPOCH, applications }
}

/// The finalizers after a plan was carried out.
fn carried_out(mut it: Runtime, observed: &Observed) -> (Runtime, usize) {
    let steps = it.plan(observed);
    for step in &steps {
        let Step::Patch { of, patch } = step else { panic!("{step:?} is no business of a runtime") };
        assert_eq!(of.resource_version.as_deref(), Some("7"), "finalizers of others may have changed");
        it.metadata.finalizers = serde_json::from_value(patch["metadata"]["finalizers"].clone()).unwrap();
    }
    (it, steps.len())
}

proptest! {
    #[test]
    fn laws(held in any::<bool>(), deleted in any::<bool>(), applications in 0_usize..3) {
        let observed = observed(applications);
        let (after, _) = carried_out(runtime(held, deleted), &observed);
        let has = |name: &str| after.metadata.finalizers.iter().flatten().any(|it| it == name);
        // What is on its way out can get no new finalizer, so it keeps only one that it has.
        let kept = applications > 0 && (held || !deleted);
        prop_assert_eq!(has(IN_USE_FINALIZER), kept);
        prop_assert_eq!(has("somebody.else/finalizer"), held, "what is not ours stays");
        let (_, steps) = carried_out(after, &observed);
        prop_assert_eq!(steps, 0, "at the goal the plan is empty");
    }
}

#[test]
fn it_says_whether_it_can_be_chosen() {
    let said = |it: &Runtime| {
        let status = serde_json::to_value(it.status(&observed(2))).unwrap();
        (status["applications"].clone(), status["conditions"][0]["reason"].clone())
    };
    let mut it = runtime(true, false);
    assert_eq!(said(&it), (json!(2), json!("Usable")));
    it.spec.active = false;
    assert_eq!(said(&it), (json!(2), json!("Inactive")));
    assert_eq!(said(&runtime(true, true)), (json!(2), json!("Deleting")));
}
