//! What others want to know of a node: whether it can be relied on, and what may be promised on it.

use std::time::Duration;

use crds::node::Resources;
use crds::{Node, condition};
use jiff::{SignedDuration, Timestamp};
use node_protocol::OFFLINE_SECONDS;

use crate::scheduler::{Amount, Closed};
use crate::step::is_deleted;
use crate::world::{Key, World};

/// A node that stays silent for so long is given up, and its instances are replaced elsewhere. Reboots and upgrades of
/// a machine take less; what it runs meanwhile goes on running.
const LOST: SignedDuration = SignedDuration::from_mins(5);
/// When more than this share of a region's nodes is silent at once, the fault is more likely between them and us than
/// in them, and nothing is given up.
const SILENT_PERCENT_MAX: usize = 30;

/// Where a node stands for what was given to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// There is no such node (any more).
    Gone,
    /// Nothing was heard of it for 90 s, and since then.
    Silent(Timestamp),
    /// It was heard of lately.
    Heard,
}

/// Where the node of a name stands.
pub fn side(world: &World, name: &str, now: Timestamp) -> Side {
    world.nodes.get(&Key::cluster(name)).map_or(Side::Gone, |node| side_of(&node, now))
}

fn side_of(node: &Node, now: Timestamp) -> Side {
    let heard = last_heard(node);
    if now.duration_since(heard) >= SignedDuration::from_secs(OFFLINE_SECONDS) {
        Side::Silent(heard)
    } else {
        Side::Heard
    }
}

/// When a node was last heard; when it was made, if never.
pub(super) fn last_heard(node: &Node) -> Timestamp {
    let heard = node.status.as_ref().and_then(|status| status.last_heartbeat.as_deref()?.parse().ok());
    let made = || node.metadata.creation_timestamp.as_ref().map(|time| time.0);
    heard.or_else(made).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// When a node that was heard of lately will count as silent, from `now`.
pub(super) fn silent_in(node: &Node, now: Timestamp) -> Option<Duration> {
    let at = last_heard(node).checked_add(SignedDuration::from_secs(OFFLINE_SECONDS)).ok()?;
    // A little later, so that looking again finds it silent.
    let rest = at.duration_since(now).checked_add(SignedDuration::from_millis(50))?;
    Duration::try_from(rest).ok().filter(|rest| !rest.is_zero())
}

/// Whether what was given to a node must be replaced elsewhere because nobody expects it back.
///
/// A silent node is given up only while it is an exception: not when it is the only one of its region, and not when it
/// is one of several that make up more than 30 % of it.
pub fn is_lost(world: &World, name: &str, now: Timestamp) -> bool {
    let Some(node) = world.nodes.get(&Key::cluster(name)) else { return true };
    let Side::Silent(since) = side_of(&node, now) else { return false };
    if now.duration_since(since) < LOST {
        return false;
    }
    let region: Vec<_> = world.nodes.all().into_iter().filter(|other| other.spec.region == node.spec.region).collect();
    let silent = region.iter().filter(|other| side_of(other, now) != Side::Heard).count();
    let many = silent > 1 && silent * 100 > region.len() * SILENT_PERCENT_MAX;
    silent < region.len() && !many
}

/// Why nothing may be placed on a node, if so.
pub fn closed(node: &Node) -> Option<Closed> {
    let conditions = node.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if condition::find(conditions, condition::READY).is_none_or(|ready| ready.status == "Unknown") {
        return Some(Closed::Silent);
    }
    if !condition::is_true(conditions, super::status::DOCKER) {
        return Some(Closed::Docker);
    }
    if node.spec.unschedulable || node.spec.drain || is_deleted(node) {
        return Some(Closed::Unschedulable);
    }
    condition::is_true(conditions, super::status::DISK_PRESSURE).then_some(Closed::Disk)
}

/// What may be promised on a node, as its status says.
pub fn allocatable(node: &Node) -> Amount {
    node.status.as_ref().and_then(|status| status.allocatable.as_ref()).map(amount).unwrap_or_default()
}

/// Amounts as numbers; what is not given is nothing.
pub(super) fn amount(resources: &Resources) -> Amount {
    Amount {
        cpu: resources.cpu.as_ref().and_then(|cpu| cpu.millis().ok()).unwrap_or(0),
        memory: resources.memory.as_ref().and_then(|memory| memory.units().ok()).unwrap_or(0),
        disk: resources.disk.as_ref().and_then(|disk| disk.units().ok()).unwrap_or(0),
        instances: resources.instances.and_then(|count| u64::try_from(count).ok()).unwrap_or(0),
    }
}

/// All of a node that concerns others. Two heartbeats of a well node have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlook {
    region: String,
    closed: Option<Closed>,
    allocatable: Amount,
    drain: bool,
    ready: Option<String>,
}

/// All of a node that concerns others.
pub fn outlook(node: &Node) -> Outlook {
    let conditions = node.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    Outlook {
        region: node.spec.region.clone(),
        closed: closed(node),
        allocatable: allocatable(node),
        drain: node.spec.drain,
        ready: condition::find(conditions, condition::READY).map(|ready| ready.status.clone()),
    }
}
