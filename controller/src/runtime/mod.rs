//! Runtime: whether it can be chosen, and that it stays while somebody uses it.

mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Observed, Status};

use crds::Runtime;
use jiff::Timestamp;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::{Key, World};

impl Reconcile for Runtime {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, _settings: &Settings, now: Timestamp) -> Observed {
        let name = Key::of(self).name;
        let applications = world
            .applications
            .all()
            .iter()
            .filter(|application| application.spec.runtime.as_deref() == Some(&*name))
            .count();
        Observed { now, applications }
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        plan::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        status::status(self, observed)
    }
}
