//! What administrators offer and customers choose (plans, runtimes): one reconciler for all such kinds. It says whether
//! an offer can be chosen, and keeps it for as long as somebody uses it.

mod plan;
mod status;
#[cfg(test)]
mod tests;

use crds::Application;
use crds::invalid::Invalid;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::step::Nouned;
use crate::world::World;

pub(crate) use plan::plan;
pub use status::Status;
pub(crate) use status::status;

/// A kind that applications choose from by name.
pub(crate) trait Offer: Nouned {
    /// Whether an application has chosen the offer of this name.
    fn is_chosen(application: &Application, name: &str) -> bool;
    /// What is wrong with it.
    fn wrong(&self) -> Vec<Invalid>;
    /// Whether new applications may choose it.
    fn is_active(&self) -> bool;
    /// What was said of it so far.
    fn conditions(&self) -> &[Condition];
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// How many applications name it.
    pub applications: usize,
}

/// Looks who uses an offer.
pub(crate) fn observe<K: Offer>(offer: &K, world: &World, now: Timestamp) -> Observed {
    let name = offer.meta().name.as_deref().unwrap_or_default();
    let applications = world.applications.all().iter().filter(|application| K::is_chosen(application, name)).count();
    Observed { now, applications }
}
