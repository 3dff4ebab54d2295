//! What is said of an offer.

use crds::condition::{self, READY, Verdict};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

use super::{Observed, Offer};
use crate::step::is_deleted;

/// What is said of an offer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    applications: usize,
    conditions: Vec<Condition>,
}

pub(crate) fn status<K: Offer>(offer: &K, observed: &Observed) -> Status {
    let generation = offer.meta().generation;
    let verdict = if let Some(wrong) = offer.wrong().first() {
        Verdict::new(READY, Some(false), "Invalid", format!("{}: {}", wrong.field, wrong.message))
    } else if is_deleted(offer) {
        let message = format!("it goes as soon as nothing uses it; {} still do", observed.applications);
        Verdict::new(READY, Some(false), "Deleting", message)
    } else if offer.is_active() {
        Verdict::new(READY, Some(true), "Usable", "it can be chosen")
    } else {
        Verdict::new(READY, Some(false), "Inactive", "new applications cannot choose it")
    };
    Status {
        observed_generation: generation,
        applications: observed.applications,
        conditions: condition::set(offer.conditions(), &[verdict], generation, observed.now),
    }
}
