//! Chooses a node for one instance. Pure: equal ledgers give equal answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What one instance uses up of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a processor.
    pub cpu: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
    /// Number of instances.
    pub instances: u64,
}

impl Amount {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            disk: self.disk.saturating_add(other.disk),
            instances: self.instances.saturating_add(other.instances),
        }
    }

    /// What is left.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
            disk: self.disk.saturating_sub(other.disk),
            instances: self.instances.saturating_sub(other.instances),
        }
    }

    /// Whether this is within `limit` in every respect.
    pub fn fits(self, limit: Self) -> bool {
        self.cpu <= limit.cpu
            && self.memory <= limit.memory
            && self.disk <= limit.disk
            && self.instances <= limit.instances
    }
}

/// A node as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// Why nothing may be placed on it, if so.
    pub closed: Option<Closed>,
    /// What may be promised.
    pub allocatable: Amount,
    /// What is promised.
    pub allocated: Amount,
}

/// Why nothing may be placed on a node, whatever its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    /// It is silent, or was never heard.
    Silent,
    /// Its Docker does not work.
    Docker,
    /// An administrator keeps new instances off it.
    Unschedulable,
    /// Its disk is nearly full.
    Disk,
}

/// What is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it uses up.
    pub amount: Amount,
    /// The only region it may run in.
    pub region: Option<String>,
    /// The only node that has its image.
    pub image_node: Option<String>,
}

/// Why a node was not chosen. The order is that of the checks, and of the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It stands elsewhere.
    Region,
    /// It may take nothing.
    Closed(Closed),
    /// It does not have the image.
    Image,
    /// Too little processor time is left.
    Cpu,
    /// Too little memory is left.
    Memory,
    /// Too little disk is left.
    Disk,
    /// It has as many instances as it may.
    Instances,
}

/// Why no node was chosen: how many refused for which reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them refused for which reason; each counts once, for its first.
    pub reasons: BTreeMap<Refusal, usize>,
}

/// Chooses among candidates. `spread` tells how many instances of the same application a candidate has already, by
/// its position; candidates that are not in it have none.
///
/// Of the nodes that can take the instance the one with the fewest of the same application wins, then the one that
/// is the least used in its scarcest respect, then the first by position.
pub fn place(request: &Request, candidates: &[Candidate], spread: &BTreeMap<usize, usize>) -> Result<usize, Refused> {
    let mut best: Option<((usize, u64), usize)> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        if refusal(request, candidate).is_some() {
            continue;
        }
        let same = if spread.is_empty() { 0 } else { spread.get(&index).copied().unwrap_or(0) };
        let score = (same, utilisation(request, candidate));
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index).ok_or_else(|| refused(request, candidates))
}

/// Why each candidate refuses; counted only when none is left, which is not the common case.
fn refused(request: &Request, candidates: &[Candidate]) -> Refused {
    let mut refused = Refused { nodes: candidates.len(), reasons: BTreeMap::new() };
    for reason in candidates.iter().filter_map(|candidate| refusal(request, candidate)) {
        *refused.reasons.entry(reason).or_default() += 1;
    }
    refused
}

fn refusal(request: &Request, candidate: &Candidate) -> Option<Refusal> {
    if request.region.as_ref().is_some_and(|region| *region != candidate.region) {
        return Some(Refusal::Region);
    }
    if let Some(closed) = candidate.closed {
        return Some(Refusal::Closed(closed));
    }
    if request.image_node.as_ref().is_some_and(|node| *node != candidate.name) {
        return Some(Refusal::Image);
    }
    let after = candidate.allocated.plus(request.amount);
    let limit = candidate.allocatable;
    if after.fits(limit) {
        return None;
    }
    Some(if after.cpu > limit.cpu {
        Refusal::Cpu
    } else if after.memory > limit.memory {
        Refusal::Memory
    } else if after.disk > limit.disk {
        Refusal::Disk
    } else {
        Refusal::Instances
    })
}

/// How full the node would be in its scarcest respect, in millionths.
fn utilisation(request: &Request, candidate: &Candidate) -> u64 {
    let after = candidate.allocated.plus(request.amount);
    let limit = candidate.allocatable;
    let part = |used: u64, of: u64| {
        let millionths = u128::from(used) * 1_000_000 / u128::from(of.max(1));
        u64::try_from(millionths).unwrap_or(u64::MAX)
    };
    part(after.cpu, limit.cpu).max(part(after.memory, limit.memory)).max(part(after.disk, limit.disk))
}

impl Refused {
    /// The reasons as a sentence: `0/3 nodes: 2 in another region than eu-1, 1 without 512Mi of memory left`.
    pub fn sentence(&self, request: &Request) -> String {
        let mut text = format!("0/{} nodes", self.nodes);
        if self.nodes == 0 {
            text.push_str(": no node has joined yet");
        }
        for (index, (reason, count)) in self.reasons.iter().enumerate() {
            text.push_str(if index == 0 { ": " } else { ", " });
            let _infallible = write!(text, "{count} {}", reason.words(request));
        }
        text
    }
}

impl Refusal {
    fn words(self, request: &Request) -> String {
        use crds::quantity::Quantity;
        let amount = request.amount;
        match self {
            Self::Region => match &request.region {
                Some(region) => format!("in another region than {region}"),
                None => "in another region".to_owned(),
            },
            Self::Closed(Closed::Silent) => "not heard of".to_owned(),
            Self::Closed(Closed::Docker) => "whose Docker does not work".to_owned(),
            Self::Closed(Closed::Unschedulable) => "that takes no new instances".to_owned(),
            Self::Closed(Closed::Disk) => "with a nearly full disk".to_owned(),
            Self::Image => "without the image, which was built elsewhere".to_owned(),
            Self::Cpu => format!("without {} of cpu left", Quantity::from_millis(amount.cpu)),
            Self::Memory => format!("without {} of memory left", Quantity::from_bytes(amount.memory)),
            Self::Disk => format!("without {} of disk left", Quantity::from_bytes(amount.disk)),
            Self::Instances => "with as many instances as it may have".to_owned(),
        }
    }
}
