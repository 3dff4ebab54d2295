//! What a node's reconciler looks at.

use crds::Node;
use crds::instance::InstancePhase;
use jiff::Timestamp;

use crate::scheduler::{self, Amount};
use crate::world::{Key, World};

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// What its instances use up.
    pub allocated: Amount,
}

pub(super) fn observe(node: &Node, world: &World, now: Timestamp) -> Observed {
    let instances = world.instances.on_node(&Key::of(node).name);
    let takes_room = |phase| !matches!(phase, InstancePhase::Stopped | InstancePhase::Failed);
    let allocated = instances
        .iter()
        .filter(|instance| takes_room(instance.status.as_ref().map(|status| status.phase).unwrap_or_default()))
        .fold(Amount::default(), |sum, instance| sum.plus(scheduler::amount(instance)));
    Observed { now, allocated }
}
