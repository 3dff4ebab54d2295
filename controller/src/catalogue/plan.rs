//! Keeps an offer for as long as somebody uses it.

use crds::IN_USE_FINALIZER;

use super::{Observed, Offer};
use crate::step::{Step, is_deleted};

pub(crate) fn plan<K: Offer>(offer: &K, observed: &Observed) -> Vec<Step> {
    let step = match (observed.applications, is_deleted(offer)) {
        (0, _) => Step::release(offer, IN_USE_FINALIZER),
        // No finalizer can be put on what is on its way out.
        (_, true) => None,
        (_, false) => Step::hold(offer, IN_USE_FINALIZER),
    };
    step.into_iter().collect()
}
