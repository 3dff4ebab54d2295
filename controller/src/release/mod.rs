//! Release: whether it is the one that serves, and with how many instances. It never changes and needs nothing done.

#[cfg(test)]
mod laws;
mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Observed, Status};

use crds::Release;
use jiff::Timestamp;

use crate::Settings;
use crate::application;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::{Key, World};

impl Reconcile for Release {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, _settings: &Settings, now: Timestamp) -> Observed {
        let key = Key::of(self);
        let application = Key::new(&*key.namespace, &self.spec.application);
        let status = world.applications.get(&application).and_then(|application| application.status.clone());
        let mine = world.instances.of_application(&application).into_iter().filter(|it| it.spec.release == key.name);
        Observed {
            now,
            active: status.and_then(|status| status.active_release).is_some_and(|active| active == key.name),
            instances: mine.map(|instance| application::is_available(&instance)).collect(),
        }
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        plan::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        status::status(self, observed)
    }
}
