//! Node: whether a worker can be relied on, and what may be promised on it.

#[cfg(test)]
mod laws;
mod observe;
mod outlook;
mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use observe::Observed;
pub use outlook::{Outlook, Side, allocatable, closed, is_lost, outlook, side};
pub use status::Status;

use std::time::Duration;

use crds::Node;
use jiff::Timestamp;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::World;

impl Reconcile for Node {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, _settings: &Settings, now: Timestamp) -> Observed {
        observe::observe(self, world, now)
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        plan::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        status::status(self, observed)
    }

    fn recheck(&self, observed: &Observed) -> Option<Duration> {
        outlook::silent_in(self, observed.now)
    }
}
