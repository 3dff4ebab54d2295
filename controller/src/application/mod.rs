//! Application: from what a customer wants to what serves. Read this first, then `plan.rs`.
//!
//! source → Build → Release → Instances. Each is found again by a name that follows from its content, so a plan made
//! twice makes nothing twice.

mod content;
mod decide;
mod observe;
mod plan;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

pub use observe::{NodeView, Observed, SecretView};
pub use status::Status;

use std::time::Duration;

use crds::{Application, Instance};
use jiff::Timestamp;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::World;

/// While something is under way its deadlines are looked at this often; they are all of 10 s and more.
const LOOK: Duration = Duration::from_secs(5);

impl Reconcile for Application {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, settings: &Settings, now: Timestamp) -> Observed {
        observe::observe(self, world, settings, now)
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        plan::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        status::status(self, observed)
    }

    fn recheck(&self, observed: &Observed) -> Option<Duration> {
        let settled = observed.instances.iter().all(|instance| is_available(instance));
        (!settled).then_some(LOOK)
    }
}

/// Whether an instance answers well and gets requests.
pub fn is_available(instance: &Instance) -> bool {
    instance.status.as_ref().is_some_and(|status| status.ready && status.routed)
}

/// Whether an environment variable of an application is kept in a Secret of this name.
pub(crate) fn refers_to_secret(application: &Application, secret: &str) -> bool {
    let refers = |variable: &crds::env::EnvVar| {
        variable.value_from.as_ref().is_some_and(|from| from.secret_key_ref.name == secret)
    };
    application.spec.env.iter().any(refers)
}
