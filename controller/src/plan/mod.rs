//! Plan: an offer of the catalogue. Whether it can be chosen, and that it stays while somebody uses it, is said for all
//! such kinds in [`catalogue`](crate::catalogue).

use crds::invalid::Invalid;
use crds::{Application, Plan};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::Settings;
use crate::catalogue::{self, Observed, Offer, Status};
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::World;

impl Offer for Plan {
    fn is_chosen(application: &Application, name: &str) -> bool {
        application.spec.plan == name
    }

    fn wrong(&self) -> Vec<Invalid> {
        crds::plan::validate(self)
    }

    fn is_active(&self) -> bool {
        self.spec.active
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Reconcile for Plan {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, _settings: &Settings, now: Timestamp) -> Observed {
        catalogue::observe(self, world, now)
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        catalogue::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        catalogue::status(self, observed)
    }
}
