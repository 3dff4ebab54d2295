//! What is said of an application.

use crds::application::InstanceCount;
use crds::condition::{self, Verdict};
use crds::{APPLICATION_LABEL, Application, Instance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::decide::{self, Decision};
use super::{Observed, content, is_available};
use crate::step::{Object, is_deleted};

pub(super) use crds::condition::READY;
pub(super) const BUILD_SUCCEEDED: &str = "BuildSucceeded";
const SCHEDULED: &str = "Scheduled";
const ROLLED_OUT: &str = "RolledOut";
const ROUTES_READY: &str = "RoutesReady";

/// What is said of an application, beside what agents and the source watcher report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    observed_generation: Option<i64>,
    url: Option<String>,
    active_release: Option<String>,
    latest_build: Option<String>,
    instances: InstanceCount,
    selector: Option<String>,
    restarts: i64,
    conditions: Vec<Condition>,
}

pub(super) fn status(application: &Application, observed: &Observed) -> Status {
    let present = application.status.clone().unwrap_or_default();
    let generation = application.metadata.generation;
    let decision = decide::decide(application, observed);
    let alive: Vec<&Instance> =
        observed.instances.iter().map(|instance| &**instance).filter(|instance| !is_deleted(*instance)).collect();
    let ready = alive.iter().filter(|instance| is_available(instance)).count();
    let rolled_out = rolled_out(&decision, &alive);
    let active = match &decision.target {
        // One that never ran has not shown that it can serve.
        Some(target) if rolled_out.status == Some(true) && decision.wanted > 0 => Some(target.name_any()),
        _ => decision.serving.as_ref().map(|serving| serving.name_any()),
    };
    let verdicts = if is_deleted(application) {
        let message = format!("{} instances are still being stopped", observed.instances.len());
        vec![Verdict::new(READY, Some(false), "Deleting", message)]
    } else if let Some(invalid) = decide::invalid(application, observed) {
        vec![invalid]
    } else {
        let routes = routes(application, observed, &alive);
        let overall = overall(&decision, alive.len(), ready, &routes, &rolled_out);
        vec![overall, decision.build_verdict.clone(), scheduled(&alive), rolled_out, routes]
    };
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let name = application.name_any();
    Status {
        observed_generation: generation,
        url: Some(observed.url.clone()),
        active_release: active,
        latest_build: decision
            .build
            .filter(|build| observed.builds.iter().any(|there| there.name_any() == *build))
            .or_else(|| content::newest(&observed.builds).map(|build| build.name_any())),
        instances: InstanceCount { desired: count(decision.wanted), ready: count(ready) },
        selector: Some(format!("{APPLICATION_LABEL}={name}")),
        restarts: alive.iter().filter_map(|instance| instance.status.as_ref()).map(|status| status.restarts).sum(),
        conditions: condition::set(&present.conditions, &verdicts, generation, observed.now),
    }
}

/// The sum of all: whether people who ask for it get an answer, or nobody does where that is what was asked for. The tools
/// that wait for whole sets of objects (`helm --wait`, Flux, Argo CD) would else wait for a stopped one for ever.
fn overall(decision: &Decision, alive: usize, ready: usize, routes: &Verdict, rolled_out: &Verdict) -> Verdict {
    let wanted = decision.wanted;
    let no = |reason, message: String| Verdict::new(READY, Some(false), reason, message);
    if let Some(trouble) = &decision.trouble {
        let serving = decision.serving.as_ref().map(|serving| format!("; {} goes on serving", serving.name_any()));
        return no(trouble.reason, format!("{}{}", trouble.message, serving.unwrap_or_default()));
    }
    if wanted == 0 && alive > 0 {
        return no("Progressing", format!("no instances are wanted, and {alive} are still there"));
    }
    if wanted == 0 {
        return Verdict::new(READY, Some(true), "Stopped", "no instances are wanted".to_owned());
    }
    if ready >= wanted && routes.status == Some(true) {
        return Verdict::new(READY, Some(true), "Running", format!("{ready} of {wanted} instances serve"));
    }
    if decision.target.is_none() && decision.build_verdict.status == Some(false) {
        return no(decision.build_verdict.reason, decision.build_verdict.message.clone());
    }
    if decision.given_up.is_some() && decision.target.is_none() {
        return no(rolled_out.reason, rolled_out.message.clone());
    }
    if decision.target.is_none() {
        return no("Building", decision.build_verdict.message.clone());
    }
    if ready >= wanted {
        return no("Progressing", routes.message.clone());
    }
    no("Progressing", format!("{ready} of {wanted} instances serve; {}", rolled_out.message))
}

/// Whether all instances are of the release that was asked for.
fn rolled_out(decision: &Decision, alive: &[&Instance]) -> Verdict {
    let say = |status, reason, message: String| Verdict::new(ROLLED_OUT, status, reason, message);
    if let Some(release) = &decision.given_up {
        let failure = release.status.as_ref().and_then(|status| status.failure.clone()).unwrap_or_default();
        return say(Some(false), "RolloutFailed", format!("{} was given up: {failure}", release.name_any()));
    }
    if let Some(trouble) = &decision.trouble {
        return say(Some(false), trouble.reason, trouble.message.clone());
    }
    let Some(target) = &decision.target else {
        return say(Some(false), "Waiting", "there is no release yet".to_owned());
    };
    if let Some(Object::Release(next)) = &decision.make {
        return say(Some(false), "Progressing", format!("{} is being made", next.name_any()));
    }
    let name = target.name_any();
    let (new, old): (Vec<&&Instance>, Vec<&&Instance>) =
        alive.iter().partition(|instance| instance.spec.release == name);
    let available = new.iter().filter(|instance| is_available(instance)).count();
    if available >= decision.wanted && old.is_empty() {
        let message = match decision.wanted {
            0 => format!("no instance of another release than {name} is left"),
            _ => format!("{name} serves"),
        };
        return say(Some(true), "RolledOut", message);
    }
    let why = new.iter().filter(|instance| !is_available(instance)).find_map(|instance| {
        let ready = condition::find(&instance.status.as_ref()?.conditions, READY)?;
        Some(format!("; {}: {}", instance.name_any(), ready.message))
    });
    let (wanted, why) = (decision.wanted, why.unwrap_or_default());
    let message = format!("{available} of {wanted} instances are of {name}, {} of others{why}", old.len());
    say(Some(false), "Progressing", message)
}

fn scheduled(alive: &[&Instance]) -> Verdict {
    let waiting = alive.iter().find(|instance| instance.spec.node_name.is_none());
    let Some(waiting) = waiting else {
        return Verdict::new(SCHEDULED, Some(true), "Scheduled", "every instance has a node");
    };
    let conditions = waiting.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match condition::find(conditions, SCHEDULED).filter(|scheduled| scheduled.reason == "Unschedulable") {
        Some(why) => Verdict::new(
            SCHEDULED,
            Some(false),
            "Unschedulable",
            format!("{} has no node: {}", waiting.name_any(), why.message),
        ),
        None => Verdict::new(SCHEDULED, Some(false), "Pending", format!("{} waits for a node", waiting.name_any())),
    }
}

/// Whether every node that has an instance leads all its host names there.
fn routes(application: &Application, observed: &Observed, alive: &[&Instance]) -> Verdict {
    let say = |status, reason, message: String| Verdict::new(ROUTES_READY, status, reason, message);
    let mut nodes: Vec<&str> = alive
        .iter()
        .filter(|instance| is_available(instance))
        .filter_map(|instance| instance.spec.node_name.as_deref())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return say(Some(false), "NoInstances", "no instance gets requests".to_owned());
    }
    let present = application.status.clone().unwrap_or_default();
    let hosts: Vec<&String> = std::iter::once(&observed.host).chain(&application.spec.domains).collect();
    for node in nodes {
        let Some(route) = present.routes.get(node) else {
            return say(Some(false), "Waiting", format!("the node {node} has not told of its routes yet"));
        };
        if let Some(message) = route.message.as_ref().filter(|_| !route.ready) {
            return say(Some(false), "RouteFailed", format!("the node {node}: {message}"));
        }
        let missing = hosts.iter().find(|host| !route.hosts.contains(host));
        if let Some(host) = missing.filter(|_| route.ready) {
            return say(Some(false), "Waiting", format!("the node {node} does not answer to {host} yet"));
        }
        if !route.ready {
            return say(Some(false), "Waiting", format!("the node {node} has no route yet"));
        }
    }
    say(Some(true), "Routed", format!("{} is served", observed.url))
}
