//! Keeps a plan for as long as somebody uses it.

use crds::{IN_USE_FINALIZER, Plan};

use super::Observed;
use crate::step::{Step, is_deleted};

pub(super) fn plan(plan: &Plan, observed: &Observed) -> Vec<Step> {
    let step = match (observed.applications, is_deleted(plan)) {
        (0, _) => Step::release(plan, IN_USE_FINALIZER),
        // No finalizer can be put on what is on its way out.
        (_, true) => None,
        (_, false) => Step::hold(plan, IN_USE_FINALIZER),
    };
    step.into_iter().collect()
}
