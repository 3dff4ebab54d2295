//! What an instance's reconciler looks at.

use crds::Instance;
use jiff::Timestamp;

use crate::node::{self, Side};
use crate::scheduler;
use crate::world::{Key, World};

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// Where it is.
    pub place: Place,
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has no node yet, but there is one for it.
    Waiting,
    /// No node can take it, and why.
    Unschedulable(String),
    /// It was given to a node.
    On(String, Side),
}

pub(super) fn observe(instance: &Instance, world: &World, now: Timestamp) -> Observed {
    let place = match &instance.spec.node_name {
        Some(node) => Place::On(node.clone(), node::side(world, node, now)),
        None => match world.ledger().try_place(&Key::of(instance), instance) {
            Ok(_) => Place::Waiting,
            Err(refused) => Place::Unschedulable(refused.sentence(&scheduler::request(instance))),
        },
    };
    Observed { now, place }
}
