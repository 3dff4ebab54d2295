//! Instance: where it stands, and when it is gone. The scheduler gives it a node, the node's agent runs it.

mod observe;
mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use observe::{Observed, Place};
pub(crate) use status::SCHEDULED;
pub use status::Status;

use crds::Instance;
use jiff::Timestamp;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::World;

impl Reconcile for Instance {
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
}
