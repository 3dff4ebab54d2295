//! The shape of a reconciler: what one kind says about itself. The driver does the rest.
//!
//! The laws that every kind's tests hold it to: ① the goal is reached from any state, also after a crash behind any
//! step; ② at the goal the plan is empty; ③ what is wanted and current, what is not ours, and the last healthy copy is
//! never removed; ④ a stale world may delay, never destroy; ⑤ the same input gives the same plan.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::Settings;
use crate::step::{Nouned, Step};
use crate::world::World;

/// A kind with somebody who brings it to what is wanted.
pub trait Reconcile: Nouned {
    /// All that `plan` and `status` may know.
    type Observed;
    /// The fields of the status that this reconciler owns, and no others: an absent value is written as `null`, which
    /// removes it, and fields that others report are not part of it.
    type Status: Serialize;

    /// Looks. Reads nothing but the world, which is complete by the time this is called.
    fn observe(&self, world: &World, settings: &Settings, now: Timestamp) -> Self::Observed;

    /// Decides: what to do next, in this order. Pure and total.
    fn plan(&self, observed: &Self::Observed) -> Vec<Step>;

    /// Tells: what was seen, not what is hoped. Pure.
    fn status(&self, observed: &Self::Observed) -> Self::Status;

    /// When to look again if nothing happens; for time itself only.
    fn recheck(&self, _observed: &Self::Observed) -> Option<Duration> {
        None
    }
}
