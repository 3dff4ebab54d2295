//! Build: which node makes the image, and what becomes of it if that node is lost.

mod observe;
mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use observe::{Choice, Observed};
pub use status::Status;

use std::time::Duration;

use crds::Build;
use jiff::Timestamp;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::World;

/// While a build is under way its deadline is looked at this often: nobody minds a few seconds after 15 minutes.
const LOOK: Duration = Duration::from_secs(10);

impl Reconcile for Build {
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

    fn recheck(&self, _observed: &Observed) -> Option<Duration> {
        self.status.as_ref().is_none_or(|status| !status.phase.is_final()).then_some(LOOK)
    }
}
