//! What is said of a release.

use crds::Release;
use crds::condition::{self, READY, Verdict};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// Whether its Application says that it serves.
    pub active: bool,
    /// Its instances: whether each gets requests and answers well.
    pub instances: Vec<bool>,
}

/// What is said of a release. Why a rollout was given up is written by the Application, which decides that.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    active: bool,
    instances: usize,
    ready_instances: usize,
    conditions: Vec<Condition>,
}

pub(super) fn status(release: &Release, observed: &Observed) -> Status {
    let present = release.status.clone().unwrap_or_default();
    let generation = release.metadata.generation;
    let verdict = match &present.failure {
        Some(failure) => Verdict::new(READY, Some(false), "RolloutFailed", failure.clone()),
        None => Verdict::new(READY, Some(true), "Usable", "it can serve"),
    };
    Status {
        observed_generation: generation,
        active: observed.active,
        instances: observed.instances.len(),
        ready_instances: observed.instances.iter().filter(|available| **available).count(),
        conditions: condition::set(&present.conditions, &[verdict], generation, observed.now),
    }
}
