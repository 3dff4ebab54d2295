//! What is said of a user.

use crds::User;
use crds::condition::{self, READY, Verdict};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// Whether there is a password.
    pub has_password: bool,
}

/// What is said of a user.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    conditions: Vec<Condition>,
}

pub(super) fn status(user: &User, observed: &Observed) -> Status {
    let generation = user.metadata.generation;
    let ready = if let Some(wrong) = crds::user::validate(user).first() {
        Verdict::new(READY, Some(false), "Invalid", format!("{}: {}", wrong.field, wrong.message))
    } else if user.spec.disabled {
        Verdict::new(READY, Some(false), "Disabled", "nobody signs in under this name")
    } else if observed.has_password {
        Verdict::new(READY, Some(true), "Active", "the person can sign in")
    } else {
        Verdict::new(READY, Some(false), "NoPassword", "set one: berth user password NAME")
    };
    let password = if observed.has_password {
        Verdict::new("PasswordSet", Some(true), "Set", "there is a password")
    } else {
        Verdict::new("PasswordSet", Some(false), "Missing", "there is no password")
    };
    let before = user.status.as_ref().map_or(&[][..], |status| &status.conditions);
    Status {
        observed_generation: generation,
        conditions: condition::set(before, &[password, ready], generation, observed.now),
    }
}
