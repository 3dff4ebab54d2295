//! Which build and which release an application asks for: their content, and the names that follow from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::application::BuildOptions;
use crds::build::{BuildSource, BuildSpec, Trigger};
use crds::condition::Verdict;
use crds::git::Commit;
use crds::instance::InstanceTemplate;
use crds::plan::PlanFor;
use crds::quantity::Quantity;
use crds::release::{PlanSnapshot, ReleaseSpec};
use crds::{APPLICATION_LABEL, Application, Build, RESTART_ANNOTATION, Release, hash, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::Observed;
use super::status::{BUILD_SUCCEEDED, READY};

/// Hexadecimal digits of a name's hash: 40 bits, among the few releases of one application.
const DIGITS: usize = 10;

/// All that decides what comes out of a build.
#[derive(Serialize)]
struct BuildContent<'a> {
    url: &'a str,
    branch: &'a str,
    path: &'a str,
    credentials: Option<&'a str>,
    runtime: Option<&'a str>,
    region: Option<&'a str>,
    options: &'a BuildOptions,
    start: Option<&'a str>,
    deploy: Option<&'a str>,
    commit: Option<&'a str>,
}

/// The build that an application asks for; `None` if its image was built elsewhere. The error says what is waited for.
pub(super) fn build(application: &Application, observed: &Observed) -> Option<Result<Build, Verdict>> {
    let spec = &application.spec;
    let git = spec.source.git.as_ref()?;
    let source = application.source_seen();
    let commit = source.and_then(|source| source.commit.as_deref());
    let content = BuildContent {
        url: &git.url,
        branch: &git.branch,
        path: &git.path,
        credentials: git.credentials.as_ref().map(|credentials| credentials.secret_name.as_str()),
        runtime: spec.runtime.as_deref(),
        region: spec.region.as_deref(),
        options: &spec.build,
        start: spec.start.command.as_deref(),
        deploy: application.deploy_wish(),
        commit: commit.filter(|_| git.auto_deploy),
    };
    let name = names::joined(&application.name_any(), &hash::short(&content, DIGITS));
    let made = observed.builds.iter().any(|build| build.name_any() == name);
    // A build that does not follow the branch and was made already needs no look at it.
    if commit.is_none() && (git.auto_deploy || !made) {
        return Some(Err(match source.and_then(|source| source.error.as_deref()) {
            Some(error) => Verdict::new(BUILD_SUCCEEDED, Some(false), "SourceUnreachable", error),
            None => Verdict::new(
                BUILD_SUCCEEDED,
                None,
                "SourceUnknown",
                format!("the branch {} of the repository is being looked up", git.branch),
            ),
        }));
    }
    let spec = BuildSpec {
        application: application.name_any(),
        source: BuildSource { git: git.clone() },
        commit: commit.map(str::to_owned),
        runtime: spec.runtime.clone(),
        options: spec.build.clone(),
        region: spec.region.clone(),
        trigger: Trigger::Change,
    };
    let trigger = trigger(&spec, &observed.builds);
    Some(Ok(Build { metadata: owned(application, name), spec: BuildSpec { trigger, ..spec }, status: None }))
}

/// Why a build is made, from what is different from the last one.
fn trigger(spec: &BuildSpec, builds: &[Arc<Build>]) -> Trigger {
    let Some(last) = newest(builds) else { return Trigger::Change };
    let same = BuildSpec { commit: spec.commit.clone(), trigger: spec.trigger, ..last.spec.clone() } == *spec;
    match (same, last.spec.commit == spec.commit) {
        (false, _) => Trigger::Change,
        (true, false) => Trigger::Push,
        (true, true) => Trigger::Manual,
    }
}

/// The build that was made last; the later by name of two of the same second.
pub(super) fn newest(builds: &[Arc<Build>]) -> Option<&Arc<Build>> {
    builds.iter().max_by_key(|build| (made_at(&***build), build.name_any()))
}

pub(super) fn made_at<K: Resource>(object: &K) -> i64 {
    object.meta().creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}

/// An image that instances can be made from.
pub(super) struct Image {
    reference: String,
    digest: Option<String>,
    node: Option<String>,
    start: Option<String>,
    port: Option<i32>,
    build: Option<String>,
    commit: Option<Commit>,
}

impl Image {
    /// The image that was built elsewhere.
    pub(super) fn elsewhere(application: &Application) -> Option<Self> {
        let image = application.spec.source.image.as_ref()?;
        Some(Self {
            reference: image.reference.clone(),
            digest: None,
            node: None,
            start: None,
            port: None,
            build: None,
            commit: None,
        })
    }

    /// The image that a build made.
    pub(super) fn built(build: &Build) -> Option<Self> {
        let status = build.status.as_ref()?;
        Some(Self {
            reference: status.image.clone()?,
            digest: status.digest.clone(),
            node: status.node.clone(),
            start: status.start_command.clone(),
            port: status.port,
            build: Some(build.name_any()),
            commit: status.commit.clone(),
        })
    }
}

/// A size and a price.
struct Size {
    cpu: Quantity,
    memory: Quantity,
    disk: Quantity,
    plan: PlanSnapshot,
}

/// The release that an application asks for. The error says what is missing for it.
pub(super) fn release(application: &Application, observed: &Observed, image: Image) -> Result<Release, Verdict> {
    let spec = &application.spec;
    let size = size(application, observed)?;
    let asked = [annotation(application, RESTART_ANNOTATION), deploy_of_image(application)];
    let asked: Vec<&str> = asked.into_iter().flatten().collect();
    let template = InstanceTemplate {
        image: image.reference,
        digest: image.digest,
        image_node: image.node,
        region: spec.region.clone(),
        command: spec.start.command.clone().or(image.start),
        port: spec.start.port.or(image.port),
        env: spec.env.clone(),
        secrets_hash: secrets_hash(application, observed)?,
        restart: (!asked.is_empty()).then(|| hash::short(&asked, 16)),
        cpu: size.cpu,
        memory: size.memory,
        disk: size.disk,
        health: spec.health.clone(),
        drain: spec.rollout.drain,
    };
    let digits = hash::short(&(&image.build, &template, &size.plan), DIGITS);
    let name = names::joined(&application.name_any(), &digits);
    let last = observed.releases.iter().max_by_key(|release| release.spec.number);
    let mut spec = ReleaseSpec {
        application: application.name_any(),
        number: last.map_or(0, |last| last.spec.number) + 1,
        build: image.build,
        commit: image.commit,
        change: String::new(),
        template,
        plan: size.plan,
    };
    spec.change = last.map_or_else(|| "the first release".to_owned(), |last| change(&last.spec, &spec));
    Ok(Release { metadata: owned(application, name), spec, status: None })
}

/// A prebuilt image has no build that a wish to deploy again could be about, so it is a wish for new instances.
fn deploy_of_image(application: &Application) -> Option<&str> {
    application.spec.source.image.as_ref().and_then(|_| application.deploy_wish())
}

/// The size of an instance. What was bought stays as it was bought, until another plan is chosen.
fn size(application: &Application, observed: &Observed) -> Result<Size, Verdict> {
    let name = &application.spec.plan;
    let active = application.status.as_ref().and_then(|status| status.active_release.as_ref());
    let active = observed.releases.iter().find(|release| Some(&release.name_any()) == active);
    let bought = active.or_else(|| observed.releases.iter().max_by_key(|release| release.spec.number));
    let bought = bought.filter(|release| release.spec.plan.name == *name);
    let Some(plan) = &observed.plan else {
        return Err(not_found("PlanNotFound", "plan", name, &observed.plans));
    };
    if plan.spec.for_ != PlanFor::Application {
        return Err(Verdict::new(READY, Some(false), "PlanNotFound", format!("the plan {name} is for databases")));
    }
    if let Some(release) = bought {
        let template = &release.spec.template;
        return Ok(Size {
            cpu: template.cpu.clone(),
            memory: template.memory.clone(),
            disk: template.disk.clone(),
            plan: release.spec.plan.clone(),
        });
    }
    if !plan.spec.active {
        let names = listed(&observed.plans);
        let message = format!("the plan {name} is not offered any more; there are: {names}");
        return Err(Verdict::new(READY, Some(false), "PlanNotFound", message));
    }
    Ok(Size {
        cpu: plan.spec.cpu.clone(),
        memory: plan.spec.memory.clone(),
        disk: plan.spec.disk.clone(),
        plan: PlanSnapshot {
            name: name.clone(),
            price_per_hour: plan.spec.price_per_hour,
            currency: plan.spec.currency.clone(),
        },
    })
}

/// Changes with every Secret that the environment refers to. The error names what is missing.
fn secrets_hash(application: &Application, observed: &Observed) -> Result<Option<String>, Verdict> {
    let mut versions = BTreeMap::new();
    for variable in &application.spec.env {
        let Some(from) = &variable.value_from else { continue };
        let (secret, key) = (&from.secret_key_ref.name, &from.secret_key_ref.key);
        let missing = |what: String| {
            Verdict::new(
                READY,
                Some(false),
                "SecretNotFound",
                format!("{what}, which the variable {} needs", variable.name),
            )
        };
        let Some(view) = observed.secrets.get(secret) else {
            return Err(missing(format!("there is no Secret {secret}")));
        };
        if !view.keys.contains(key) {
            return Err(missing(format!("the Secret {secret} has no key {key}")));
        }
        versions.insert(secret, &view.version);
    }
    Ok((!versions.is_empty()).then(|| hash::short(&versions, 16)))
}

pub(super) fn not_found(reason: &'static str, kind: &str, name: &str, there: &[String]) -> Verdict {
    Verdict::new(READY, Some(false), reason, format!("there is no {kind} {name:?}; there are: {}", listed(there)))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A sentence on what is different.
fn change(before: &ReleaseSpec, after: &ReleaseSpec) -> String {
    let (old, new) = (&before.template, &after.template);
    let mut parts = Vec::new();
    if before.build != after.build {
        parts.push(match &after.commit {
            Some(commit) if before.commit.as_ref().map(|commit| &commit.sha) != Some(&commit.sha) => {
                let sha: String = commit.sha.chars().take(8).collect();
                let message: String = commit.message.chars().take(200).collect();
                format!("commit {sha} {message:?}")
            }
            _ => "a new build".to_owned(),
        });
    } else if old.image != new.image || old.digest != new.digest {
        parts.push(format!("image {}", new.image));
    }
    if before.plan != after.plan {
        parts.push(format!("plan {}", after.plan.name));
    }
    let differs = [
        ("region", old.region != new.region),
        ("start command", old.command != new.command && before.build == after.build),
        ("port", old.port != new.port && before.build == after.build),
        ("environment", old.env != new.env),
        ("secrets", old.secrets_hash != new.secrets_hash),
        ("health check", old.health != new.health),
        ("drain time", old.drain != new.drain),
    ];
    parts.extend(differs.iter().filter(|(_, differs)| *differs).map(|(what, _)| format!("another {what}")));
    if old.restart != new.restart {
        parts.push("restarted".to_owned());
    }
    if parts.is_empty() {
        return "as before".to_owned();
    }
    let sentence: String = parts.join(", ").chars().take(1000).collect();
    sentence
}

pub(super) fn annotation<'a>(application: &'a Application, name: &str) -> Option<&'a str> {
    application.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The metadata of what an application owns.
pub(super) fn owned(application: &Application, name: String) -> ObjectMeta {
    let mut labels = BTreeMap::new();
    labels.insert(APPLICATION_LABEL.to_owned(), application.name_any());
    ObjectMeta {
        name: Some(name),
        namespace: application.namespace(),
        labels: Some(labels),
        owner_references: Some(owner(application, true).into_iter().collect()),
        ..ObjectMeta::default()
    }
}

/// A reference to an owner. One owner controls; an instance has two.
pub(super) fn owner<K: Resource<DynamicType = ()>>(object: &K, controls: bool) -> Option<OwnerReference> {
    let mut reference = object.controller_owner_ref(&())?;
    reference.controller = Some(controls);
    reference.block_owner_deletion = Some(true);
    Some(reference)
}
