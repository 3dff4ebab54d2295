//! What is done about an application: pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::condition::{self, READY};
use crds::instance::{InstancePhase, InstanceSpec};
use crds::{Application, Build, CANCEL_ANNOTATION, FINALIZER, Instance, RELEASE_LABEL, Release, names};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use super::decide::{self, Decision};
use super::rollout::{self, Goal, Slot, SlotKind};
use super::{Observed, content, is_available};
use crate::node::Side;
use crate::step::{Note, Object, Step, Target, is_deleted};

/// How often an instance was tried before this one, in a row.
const ATTEMPT_ANNOTATION: &str = "berth.dev/attempt";
/// An instance of the release that serves is tried again this often: over about ten minutes, which is longer than most
/// of what it may be waiting for, and not for ever.
const ATTEMPTS_MAX: u32 = 6;
/// The pause before the first new attempt; it doubles with each.
const ATTEMPT_PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// An instance that ran for so long before it failed is not one that cannot start.
const RAN_WELL: SignedDuration = SignedDuration::from_mins(10);
/// What an agent may take beyond the grace period to say that an instance did not make it.
const GRACE_OF_AGENT: SignedDuration = SignedDuration::from_secs(30);
/// How long a placed instance may take until it runs: as long as a build, for large images and slow networks.
const START_MAX: SignedDuration = SignedDuration::from_mins(15);
/// Releases that are kept so that a rollback needs no build.
const RELEASES_KEPT: usize = 10;
/// Builds that are kept beside those of kept releases, so that people can see what failed.
const BUILDS_KEPT: usize = 10;

pub(super) fn plan(application: &Application, observed: &Observed) -> Vec<Step> {
    if is_deleted(application) {
        return teardown(application, observed);
    }
    if decide::invalid(application, observed).is_some() {
        return Vec::new();
    }
    let decision = decide::decide(application, observed);
    let mut steps: Vec<Step> = Step::hold(application, FINALIZER).into_iter().collect();
    steps.extend(make(&decision));
    steps.extend(cancel(&decision, observed));
    if let Some(given_up) = give_up(application, observed, &decision) {
        steps.extend(given_up);
        return steps;
    }
    steps.extend(roll(application, observed, &decision));
    steps.extend(forgive(observed, &decision));
    steps.extend(retire(application, observed, &decision));
    steps
}

/// Makes the build or release that is missing.
fn make(decision: &Decision) -> Vec<Step> {
    let note = match &decision.make {
        None | Some(Object::Instance(_)) => return Vec::new(),
        Some(Object::Build(build)) => {
            let commit = build.spec.commit.as_deref().map(|sha| sha.chars().take(8).collect::<String>());
            let of = commit.unwrap_or_else(|| build.spec.source.git.branch.clone());
            Note::normal("BuildCreated", format!("{} builds {of}", build.name_any()))
        }
        Some(Object::Release(release)) => {
            let (number, change) = (release.spec.number, &release.spec.change);
            Note::normal("ReleaseCreated", format!("release {number}, {}: {change}", release.name_any()))
        }
    };
    decision.make.clone().map(Step::Create).into_iter().chain([note]).collect()
}

/// Ends builds that something newer has taken the place of. One that is wanted and ended through no fault of its
/// source makes room for another of its name.
fn cancel(decision: &Decision, observed: &Observed) -> Vec<Step> {
    let Some(wanted) = &decision.build else { return Vec::new() };
    let back = observed.builds.iter().find(|build| build.name_any() == *wanted);
    if let Some(build) = back.filter(|build| decide::is_void(build) && !is_deleted(&***build)) {
        return vec![Step::Delete(Target::exactly(&**build))];
    }
    let superseded = |build: &&Arc<Build>| {
        let finished = build.status.as_ref().is_some_and(|status| status.phase.is_final());
        !finished
            && build.name_any() != *wanted
            && !is_deleted(&***build)
            && !build.annotations().contains_key(CANCEL_ANNOTATION)
    };
    let steps = observed.builds.iter().filter(superseded).flat_map(|build| {
        [
            Step::Patch {
                of: Target::of(&**build),
                patch: json!({ "metadata": { "annotations": {
                    CANCEL_ANNOTATION: "true",
                    decide::SUPERSEDED_ANNOTATION: wanted,
                } } }),
            },
            Note::normal("BuildSuperseded", format!("{} is cancelled: {wanted} takes its place", build.name_any())),
        ]
    });
    steps.collect()
}

/// Gives a rollout up that cannot succeed. What serves goes on serving; the release is tried again when something
/// about the application has changed.
fn give_up(application: &Application, observed: &Observed, decision: &Decision) -> Option<Vec<Step>> {
    let target = decision.target.as_ref()?;
    let other = decision.serving.as_ref().filter(|serving| serving.metadata.uid != target.metadata.uid);
    let serves = other.is_none() && (decision.serving.is_some() || decide::available_of(observed, target) > 0);
    if decision.wanted == 0 || serves {
        return None;
    }
    let (name, why) = of_release(observed, target)
        .filter(|instance| !is_deleted(&***instance))
        .find_map(|instance| Some((instance.name_any(), hopeless(instance, observed)?)))?;
    let kept = other.map_or_else(String::new, |other| format!("; {} goes on serving", other.name_any()));
    let failure = format!("{name}: {why}");
    let failure: String = failure.chars().take(2000).collect();
    Some(vec![
        Step::PatchStatus {
            of: Target::of(&**target),
            patch: json!({ "failure": failure, "failedGeneration": application.metadata.generation }),
        },
        Note::warning("RolloutFailed", format!("{} was given up{kept}: {failure}", target.name_any())),
    ])
}

/// Why an instance will never answer, if so, with the last lines it wrote.
fn hopeless(instance: &Instance, observed: &Observed) -> Option<String> {
    let status = instance.status.clone().unwrap_or_default();
    let log = status.last_exit.as_ref().and_then(|exit| exit.log.as_deref()).map(str::trim).unwrap_or_default();
    let log = if log.is_empty() { String::new() } else { format!("\n{}", tail(log, 800)) };
    let word = status.reason.clone().unwrap_or_else(|| "Failed".to_owned());
    let message = status.message.clone().unwrap_or_default();
    match status.phase {
        InstancePhase::Failed => return Some(format!("{word}: {message}{log}")),
        InstancePhase::Pending | InstancePhase::Pulling | InstancePhase::Starting => {}
        InstancePhase::Running if !status.ready => {}
        _ => return None,
    }
    let node = instance.spec.node_name.as_ref().and_then(|node| observed.nodes.get(node))?;
    if node.side != Side::Heard {
        return None;
    }
    let grace = SignedDuration::try_from(instance.spec.template.health.grace.get()).unwrap_or(SignedDuration::ZERO);
    let started: Option<Timestamp> = status.started_at.as_deref().and_then(|time| time.parse().ok());
    if let Some(started) = started
        && status.phase == InstancePhase::Starting
        && observed.now.duration_since(started) > grace + GRACE_OF_AGENT
    {
        let grace = instance.spec.template.health.grace;
        return Some(format!("Unhealthy: it gave no good answer within {grace}; {message}{log}"));
    }
    let made = instance.metadata.creation_timestamp.as_ref().map_or(observed.now, |time| time.0);
    // Time without a node, and on a node that was silent, is not its own.
    let turns = ["Scheduled", READY].map(|type_| condition::find(&status.conditions, type_));
    let since = turns.into_iter().flatten().map(|turn| turn.last_transition_time.0).max().unwrap_or(made).max(made);
    (observed.now.duration_since(since) > START_MAX)
        .then(|| format!("Unhealthy: it did not run within {} minutes; {message}{log}", START_MAX.as_mins()))
}

/// The end of a text, from the beginning of a line if possible.
fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let rest = &text[start..];
    match rest.find('\n') {
        Some(end) if start > 0 => &rest[end + 1..],
        _ => rest,
    }
}

/// Makes and removes instances, so that the target release takes over and everybody is where they should be.
fn roll(application: &Application, observed: &Observed, decision: &Decision) -> Vec<Step> {
    let mut instances: Vec<&Arc<Instance>> =
        observed.instances.iter().filter(|instance| !is_deleted(&***instance)).collect();
    // What is kept longest comes first: the newer release, then the lower ordinal. Whoever looks at an older copy of the
    // world begins with the same ones, which are gone already, and does no harm.
    let number = |instance: &Instance| {
        let release = observed.releases.iter().find(|release| release.name_any() == instance.spec.release);
        release.map_or(0, |release| release.spec.number)
    };
    instances.sort_by_key(|instance| (std::cmp::Reverse(number(instance)), instance.spec.ordinal, instance.name_any()));
    let Some(target) = &decision.target else {
        // Nothing is known that should run. Only what was given up is removed: the rest may belong to a release that
        // has not been heard of yet. Stopping needs no release.
        let given_up = decision.given_up.as_ref().map(|release| release.name_any());
        let gone = instances
            .iter()
            .filter(|instance| decision.wanted == 0 || Some(&instance.spec.release) == given_up.as_ref());
        return gone.map(|instance| Step::Delete(Target::of(&***instance))).collect();
    };
    let slots: Vec<Slot> = instances.iter().map(|instance| slot(instance, target, observed)).collect();
    let rollout = &application.spec.rollout;
    let goal = Goal {
        wanted: decision.wanted,
        surge: usize::try_from(rollout.max_surge).unwrap_or(0),
        unavailable: usize::try_from(rollout.max_unavailable).unwrap_or(0),
    };
    let moves = rollout::moves(goal, &slots);
    let mut steps = Vec::new();
    let attempts: Vec<u32> = moves
        .delete
        .iter()
        .filter(|position| slots[**position].kind == SlotKind::Failed { current: true, due: true })
        .map(|position| attempt(instances[*position]) + 1)
        .collect();
    let taken: BTreeSet<i32> = of_release(observed, target).map(|instance| instance.spec.ordinal).collect();
    let free = (0..).filter(|ordinal| !taken.contains(ordinal));
    for (index, ordinal) in free.take(moves.create).enumerate() {
        let instance = instance(application, target, ordinal, attempts.get(index).copied().unwrap_or(0));
        steps.push(Step::Create(Object::Instance(Box::new(instance))));
    }
    for position in moves.delete {
        // Exactly in the state in which it was judged: it may be the last one that answers by now.
        steps.push(Step::Delete(Target::exactly(&**instances[position])));
        if slots[position].kind != SlotKind::Old {
            continue;
        }
        let name = instances[position].name_any();
        steps.push(Note::normal("InstanceReplaced", format!("{name} gives way to {}", target.name_any())));
    }
    steps
}

fn slot(instance: &Instance, target: &Release, observed: &Observed) -> Slot {
    let node = instance.spec.node_name.as_ref().and_then(|node| observed.nodes.get(node));
    let current = instance.spec.release == target.name_any();
    let phase = instance.status.as_ref().map(|status| status.phase).unwrap_or_default();
    let kind = match phase {
        InstancePhase::Failed | InstancePhase::Stopped => {
            SlotKind::Failed { current, due: current && is_due(instance, observed.now) }
        }
        _ if node.is_some_and(|node| node.lost) => SlotKind::Lost,
        _ if current && !node.is_some_and(|node| node.drain) => SlotKind::Current,
        _ => SlotKind::Old,
    };
    Slot { kind, available: is_available(instance) }
}

/// Whether another instance may be tried in place of one that failed.
fn is_due(instance: &Instance, now: Timestamp) -> bool {
    let attempt = attempt(instance);
    if attempt >= ATTEMPTS_MAX {
        return false;
    }
    let status = instance.status.clone().unwrap_or_default();
    let exit = status.last_exit.as_ref().and_then(|exit| exit.at.as_deref()?.parse().ok());
    let told = || condition::find(&status.conditions, READY).map(|ready| ready.last_transition_time.0);
    let failed: Timestamp = exit.or_else(told).unwrap_or(now);
    now.duration_since(failed) >= ATTEMPT_PAUSE * (1 << attempt)
}

/// How many attempts in a row an instance is the last of, beyond the first.
fn attempt(instance: &Instance) -> u32 {
    let status = instance.status.clone().unwrap_or_default();
    let time = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let ended = time(status.last_exit.as_ref().and_then(|exit| exit.at.as_deref()));
    if let (Some(started), Some(ended)) = (time(status.started_at.as_deref()), ended)
        && ended.duration_since(started) >= RAN_WELL
    {
        return 0;
    }
    instance.annotations().get(ATTEMPT_ANNOTATION).and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn of_release<'a>(observed: &'a Observed, release: &Release) -> impl Iterator<Item = &'a Arc<Instance>> {
    let name = release.name_any();
    observed.instances.iter().filter(move |instance| instance.spec.release == name)
}

/// An instance of a release.
fn instance(application: &Application, release: &Release, ordinal: i32, attempt: u32) -> Instance {
    let mut metadata = content::owned(application, names::joined(&release.name_any(), &ordinal.to_string()));
    let owners = [content::owner(release, true), content::owner(application, false)];
    metadata.owner_references = Some(owners.into_iter().flatten().collect());
    metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    metadata.labels.get_or_insert_default().insert(RELEASE_LABEL.to_owned(), release.name_any());
    if attempt > 0 {
        metadata.annotations = Some([(ATTEMPT_ANNOTATION.to_owned(), attempt.to_string())].into());
    }
    Instance {
        metadata,
        spec: InstanceSpec {
            application: application.name_any(),
            release: release.name_any(),
            ordinal,
            node_name: None,
            template: release.spec.template.clone(),
        },
        status: None,
    }
}

/// A release that serves after all has not failed.
fn forgive(observed: &Observed, decision: &Decision) -> Option<Step> {
    let target = decision.target.as_ref()?;
    let failed = target.status.as_ref().is_some_and(|status| status.failure.is_some());
    let serves = decision.wanted > 0 && decide::available_of(observed, target) >= decision.wanted;
    (failed && serves).then(|| Step::PatchStatus {
        of: Target::of(&**target),
        patch: json!({ "failure": null, "failedGeneration": null }),
    })
}

/// Removes old releases and builds that nothing needs.
fn retire(application: &Application, observed: &Observed, decision: &Decision) -> Vec<Step> {
    let mut releases: Vec<&Arc<Release>> = observed.releases.iter().collect();
    releases.sort_by_key(|release| (std::cmp::Reverse(release.spec.number), release.name_any()));
    let mut needed: BTreeSet<String> =
        observed.instances.iter().map(|instance| instance.spec.release.clone()).collect();
    let status = application.status.as_ref();
    needed.extend(status.and_then(|status| status.active_release.clone()));
    needed.extend(application.spec.release.clone());
    let chosen = [&decision.target, &decision.serving, &decision.given_up];
    needed.extend(chosen.into_iter().flatten().map(|release| release.name_any()));
    let (kept, gone): (Vec<_>, Vec<_>) = releases
        .into_iter()
        .enumerate()
        .partition(|(index, release)| *index < RELEASES_KEPT || needed.contains(&release.name_any()));
    let mut steps: Vec<Step> = gone
        .iter()
        .filter(|(_, release)| !is_deleted(&***release))
        .map(|(_, release)| Step::Delete(Target::of(&***release)))
        .collect();

    let named: BTreeSet<&String> = kept.iter().filter_map(|(_, release)| release.spec.build.as_ref()).collect();
    let mut builds: Vec<&Arc<Build>> = observed.builds.iter().collect();
    builds.sort_by_key(|build| (std::cmp::Reverse(content::made_at(&***build)), build.name_any()));
    let old = builds.into_iter().skip(BUILDS_KEPT).filter(|build| {
        let name = build.name_any();
        let finished = build.status.as_ref().is_some_and(|status| status.phase.is_final());
        finished && !named.contains(&name) && decision.build.as_ref() != Some(&name) && !is_deleted(&***build)
    });
    steps.extend(old.map(|build| Step::Delete(Target::of(&**build))));
    steps
}

/// Takes everything down: first what runs, then what it was made from, and itself when no node routes it any more.
fn teardown(application: &Application, observed: &Observed) -> Vec<Step> {
    if !observed.instances.is_empty() {
        let alive = observed.instances.iter().filter(|instance| !is_deleted(&***instance));
        return alive.map(|instance| Step::Delete(Target::of(&**instance))).collect();
    }
    let mut steps: Vec<Step> = Vec::new();
    steps.extend(observed.builds.iter().filter(|it| !is_deleted(&***it)).map(|it| Step::Delete(Target::of(&**it))));
    steps.extend(observed.releases.iter().filter(|it| !is_deleted(&***it)).map(|it| Step::Delete(Target::of(&**it))));
    if observed.builds.is_empty() && observed.releases.is_empty() && !is_routed(application, observed) {
        steps.extend(Step::release(application, FINALIZER));
    }
    steps
}

/// Whether a node that still exists may send requests for it somewhere.
pub(super) fn is_routed(application: &Application, observed: &Observed) -> bool {
    application
        .status
        .iter()
        .flat_map(|status| &status.routes)
        .any(|(node, route)| route.ready && observed.nodes.get(node).is_some_and(|node| node.side != Side::Gone))
}
