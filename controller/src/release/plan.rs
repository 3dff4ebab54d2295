//! A release is a record: its Application makes it, uses it and removes it.

use crds::Release;

use super::Observed;
use crate::step::Step;

pub(super) fn plan(_release: &Release, _observed: &Observed) -> Vec<Step> {
    Vec::new()
}
