//! What is said of a build, beside what its node's agent reports.

use crds::Build;
use crds::build::BuildPhase;
use crds::condition::{self, READY, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::{Choice, Observed};
use crate::node::Side;

/// What is said of a build.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

pub(super) fn status(build: &Build, observed: &Observed) -> Status {
    let present = build.status.clone().unwrap_or_default();
    let generation = build.metadata.generation;
    let verdict = ready(build, observed);
    Status {
        observed_generation: generation,
        conditions: condition::set(&present.conditions, &[verdict], generation, observed.now),
    }
}

fn ready(build: &Build, observed: &Observed) -> Verdict {
    let status = build.status.clone().unwrap_or_default();
    let failure = status.failure.clone().unwrap_or_default();
    match status.phase {
        BuildPhase::Succeeded => return Verdict::new(READY, Some(true), "Succeeded", "the image is there"),
        BuildPhase::Failed => {
            let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            return Verdict::new(
                READY,
                Some(false),
                "Failed",
                format!("{}: {}{hint}", failure.reason, failure.message),
            );
        }
        BuildPhase::Cancelled => return Verdict::new(READY, Some(false), "Cancelled", "it was cancelled"),
        BuildPhase::Pending | BuildPhase::Cloning | BuildPhase::Building => {}
    }
    match (&observed.choice, status.phase) {
        (Choice::None(why), _) => Verdict::new(READY, Some(false), "Unschedulable", why.clone()),
        (Choice::Best(_), _) => Verdict::new(READY, Some(false), "Pending", "it is being given a node"),
        (Choice::Given(node, Side::Silent(since)), _) => {
            Verdict::new(READY, None, "NodeSilent", format!("nothing was heard of its node {node} since {since}"))
        }
        (_, BuildPhase::Cloning) => Verdict::new(READY, Some(false), "Building", "the source is fetched"),
        (_, BuildPhase::Building) => Verdict::new(READY, Some(false), "Building", "the image is built"),
        (Choice::Given(node, _), _) => Verdict::new(READY, Some(false), "Pending", format!("it waits on {node}")),
    }
}
