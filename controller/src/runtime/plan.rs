//! Keeps a runtime for as long as somebody uses it.

use crds::{IN_USE_FINALIZER, Runtime};

use super::Observed;
use crate::step::{Step, is_deleted};

pub(super) fn plan(runtime: &Runtime, observed: &Observed) -> Vec<Step> {
    let step = match (observed.applications, is_deleted(runtime)) {
        (0, _) => Step::release(runtime, IN_USE_FINALIZER),
        // No finalizer can be put on what is on its way out.
        (_, true) => None,
        (_, false) => Step::hold(runtime, IN_USE_FINALIZER),
    };
    step.into_iter().collect()
}
