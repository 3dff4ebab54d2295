//! What a build's reconciler looks at.

use crds::Build;
use jiff::Timestamp;

use crate::node::{self, Side};
use crate::scheduler::Refusal;
use crate::world::World;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// Where it is, or could be, built.
    pub choice: Choice,
}

/// Where a build is, or could be, made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It was given to a node.
    Given(String, Side),
    /// This node is the best for it.
    Best(String),
    /// No node can make it, and why.
    None(String),
}

pub(super) fn observe(build: &Build, world: &World, now: Timestamp) -> Observed {
    let given = build.status.as_ref().and_then(|status| status.node.clone());
    let choice = match given {
        Some(node) => {
            let side = node::side(world, &node, now);
            Choice::Given(node, side)
        }
        None => best(build, world),
    };
    Observed { now, choice }
}

/// The node with the fewest builds to make, then the one with the least promised memory, then the first by name.
fn best(build: &Build, world: &World) -> Choice {
    let candidates = world.ledger().candidates().to_vec();
    let refusal = |candidate: &crate::scheduler::Candidate| {
        if build.spec.region.as_ref().is_some_and(|region| *region != candidate.region) {
            return Some(Refusal::Region);
        }
        candidate.closed.map(Refusal::Closed)
    };
    let busy = |node: &str| {
        let builds = world.builds.on_node(node);
        builds.iter().filter(|build| build.status.as_ref().is_none_or(|status| !status.phase.is_final())).count()
    };
    let open = candidates.iter().filter(|candidate| refusal(candidate).is_none());
    let best = open.min_by_key(|candidate| {
        let used = candidate.allocated.memory.saturating_mul(100) / candidate.allocatable.memory.max(1);
        (busy(&candidate.name), used, candidate.name.clone())
    });
    if let Some(best) = best {
        return Choice::Best(best.name.clone());
    }
    let mut refused = crate::scheduler::Refused { nodes: candidates.len(), ..Default::default() };
    for reason in candidates.iter().filter_map(refusal) {
        *refused.reasons.entry(reason).or_default() += 1;
    }
    let request = crate::scheduler::Request {
        amount: crate::scheduler::Amount::default(),
        region: build.spec.region.clone(),
        image_node: None,
    };
    Choice::None(refused.sentence(&request))
}
