//! What is said of a node.

use crds::Node;
use crds::condition::{self, READY, Verdict};
use crds::node::{PartHealth, Resources};
use crds::quantity::Quantity;
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use node_protocol::OFFLINE_SECONDS;
use serde::Serialize;

use super::Observed;
use super::outlook::{amount, last_heard};
use crate::scheduler::Amount;

pub(super) const CAPACITY_PRESSURE: &str = "CapacityPressure";
pub(super) const DISK_PRESSURE: &str = "DiskPressure";
pub(super) const DOCKER: &str = "DockerHealthy";
pub(super) const INGRESS: &str = "IngressHealthy";

/// Above this share of anything a node is under pressure.
const PRESSURE_PERCENT: u64 = 90;
/// Docker's bridge networks hold 1,023 containers; half of that leaves room for builds and for those that are ending.
const INSTANCES_MAX: i64 = 500;

/// What is said of a node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    allocatable: Option<Resources>,
    allocated: Resources,
    conditions: Vec<Condition>,
}

pub(super) fn status(node: &Node, observed: &Observed) -> Status {
    let present = node.status.clone().unwrap_or_default();
    let generation = node.metadata.generation;
    let verdicts = [
        ready(node, observed),
        part(DOCKER, "Docker", present.docker.as_ref()),
        part(INGRESS, "Nginx", present.ingress.as_ref()),
        pressure(CAPACITY_PRESSURE, &present, |amount| {
            vec![("cpu", amount.cpu), ("memory", amount.memory), ("disk", amount.disk)]
        }),
        pressure(DISK_PRESSURE, &present, |amount| vec![("disk", amount.disk)]),
    ];
    Status {
        observed_generation: generation,
        allocatable: present.capacity.as_ref().map(|capacity| allocatable(node, capacity)),
        allocated: resources(observed.allocated),
        conditions: condition::set(&present.conditions, &verdicts, generation, observed.now),
    }
}

fn ready(node: &Node, observed: &Observed) -> Verdict {
    let status = node.status.as_ref();
    let Some(heartbeat) = status.and_then(|status| status.last_heartbeat.as_deref()) else {
        return Verdict::new(READY, None, "NeverHeard", "its agent has not connected yet");
    };
    if observed.now.duration_since(last_heard(node)) >= SignedDuration::from_secs(OFFLINE_SECONDS) {
        return Verdict::new(READY, None, "NodeSilent", format!("nothing was heard of it since {heartbeat}"));
    }
    match status.and_then(|status| status.docker.as_ref()) {
        Some(docker) if !docker.healthy => {
            Verdict::new(READY, Some(false), "DockerDown", format!("Docker does not work: {}", docker.message))
        }
        Some(_) => Verdict::new(READY, Some(true), "Heard", "its agent reports and Docker works"),
        None => Verdict::new(READY, Some(false), "Starting", "its agent has not reported on Docker yet"),
    }
}

fn part(type_: &'static str, name: &str, health: Option<&PartHealth>) -> Verdict {
    match health {
        Some(health) if health.healthy => Verdict::new(type_, Some(true), "Healthy", format!("{name} works")),
        Some(health) => Verdict::new(type_, Some(false), "Unhealthy", format!("{name}: {}", health.message)),
        None => Verdict::new(type_, None, "Pending", format!("nothing was reported on {name} yet")),
    }
}

type Parts = Vec<(&'static str, u64)>;

fn pressure(type_: &'static str, status: &crds::node::NodeStatus, parts: impl Fn(Amount) -> Parts) -> Verdict {
    let (Some(capacity), Some(usage)) = (&status.capacity, &status.usage) else {
        return Verdict::new(type_, None, "Pending", "nothing was reported yet");
    };
    let (of, used) = (parts(amount(capacity)), parts(amount(usage)));
    let over = |used: u64, of: u64| of > 0 && used.saturating_mul(100) > of.saturating_mul(PRESSURE_PERCENT);
    let full: Vec<&str> =
        used.iter().zip(&of).filter(|((_, used), (_, of))| over(*used, *of)).map(|((name, _), _)| *name).collect();
    if full.is_empty() {
        return Verdict::new(type_, Some(false), "Usable", format!("no more than {PRESSURE_PERCENT} % is used"));
    }
    Verdict::new(
        type_,
        Some(true),
        "NearlyFull",
        format!("more than {PRESSURE_PERCENT} % is used of: {}", full.join(", ")),
    )
}

/// What may be promised: capacity less the system's share, under the administrator's ceiling, times the overcommit.
fn allocatable(node: &Node, capacity: &Resources) -> Resources {
    let capacity = amount(capacity);
    let limits = node.spec.limits.clone().unwrap_or_default();
    let limit = amount(&limits);
    let under = |value: u64, given: bool, limit: u64| if given { value.min(limit) } else { value };
    let percent = |value: u64, percent: i32| {
        let scaled = u128::from(value) * u128::from(percent.unsigned_abs()) / 100;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    };
    let cpu = under(capacity.cpu, limits.cpu.is_some(), limit.cpu);
    let memory =
        under(capacity.memory.saturating_sub(system_memory(capacity.memory)), limits.memory.is_some(), limit.memory);
    // A tenth of the disk stays free: images, logs and builds need room of their own.
    let disk = under(capacity.disk - capacity.disk / 10, limits.disk.is_some(), limit.disk);
    Resources {
        cpu: Some(Quantity::from_millis(percent(cpu, node.spec.overcommit.cpu))),
        memory: Some(Quantity::from_bytes(percent(memory, node.spec.overcommit.memory))),
        disk: Some(Quantity::from_bytes(disk)),
        instances: Some(limits.instances.unwrap_or(INSTANCES_MAX)),
    }
}

/// Memory that the system, Docker, Nginx and the agent need: a twentieth, at least 256 MiB, at most 1 GiB.
fn system_memory(capacity: u64) -> u64 {
    (capacity / 20).clamp(256 << 20, 1 << 30)
}

fn resources(amount: Amount) -> Resources {
    Resources {
        cpu: Some(Quantity::from_millis(amount.cpu)),
        memory: Some(Quantity::from_bytes(amount.memory)),
        disk: Some(Quantity::from_bytes(amount.disk)),
        instances: Some(i64::try_from(amount.instances).unwrap_or(i64::MAX)),
    }
}
