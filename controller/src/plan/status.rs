//! What is said of a plan.

use crds::Plan;
use crds::condition::{self, READY, Verdict};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use crate::step::is_deleted;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// How many applications name it.
    pub applications: usize,
}

/// What is said of a plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    applications: usize,
    conditions: Vec<Condition>,
}

pub(super) fn status(plan: &Plan, observed: &Observed) -> Status {
    let present = plan.status.clone().unwrap_or_default();
    let generation = plan.metadata.generation;
    let wrong = crds::plan::validate(plan);
    let verdict = if let Some(wrong) = wrong.first() {
        Verdict::new(READY, Some(false), "Invalid", format!("{}: {}", wrong.field, wrong.message))
    } else if is_deleted(plan) {
        let message = format!("it goes as soon as nothing uses it; {} still do", observed.applications);
        Verdict::new(READY, Some(false), "Deleting", message)
    } else if plan.spec.active {
        Verdict::new(READY, Some(true), "Usable", "it can be chosen")
    } else {
        Verdict::new(READY, Some(false), "Inactive", "new applications cannot choose it")
    };
    Status {
        observed_generation: generation,
        applications: observed.applications,
        conditions: condition::set(&present.conditions, &[verdict], generation, observed.now),
    }
}
