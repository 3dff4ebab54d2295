//! What an application asks for, from its spec and what there is: which release should serve, with how many instances,
//! and what is missing for it. Both the plan and the status follow from this.

use std::sync::Arc;

use crds::build::BuildPhase;
use crds::condition::Verdict;
use crds::{Application, Build, Release};
use kube::ResourceExt;

use super::content::{self, Image};
use super::status::{BUILD_SUCCEEDED, READY};
use super::{Observed, is_available};
use crate::step::Object;

/// On a build that was cancelled because another was wanted: which one. Without it, a person cancelled it.
pub(super) const SUPERSEDED_ANNOTATION: &str = "berth.dev/superseded-by";

/// Whether how a build ended says nothing about its source: another was wanted, or its node was lost. It may be made
/// again; a node is lost only after minutes, so this is no busy circle.
pub(super) fn is_void(build: &Build) -> bool {
    let Some(status) = &build.status else { return false };
    match status.phase {
        BuildPhase::Cancelled => build.annotations().contains_key(SUPERSEDED_ANNOTATION),
        BuildPhase::Failed => status.failure.as_ref().is_some_and(|failure| failure.reason == "NodeLost"),
        _ => false,
    }
}

/// What an application asks for.
pub(super) struct Decision {
    /// The release that its instances should be of.
    pub(super) target: Option<Arc<Release>>,
    /// The release that serves until the target does.
    pub(super) serving: Option<Arc<Release>>,
    /// How many instances there should be.
    pub(super) wanted: usize,
    /// A build or release that is to be made first.
    pub(super) make: Option<Object>,
    /// The build that it asks for now: others are out of date.
    pub(super) build: Option<String>,
    /// How the build is.
    pub(super) build_verdict: Verdict,
    /// What a person must change before what they asked for can happen.
    pub(super) trouble: Option<Verdict>,
    /// The release that was asked for and was given up.
    pub(super) given_up: Option<Arc<Release>>,
}

/// Why nothing at all is done, if so: the object itself is wrong.
pub(super) fn invalid(application: &Application, observed: &Observed) -> Option<Verdict> {
    let say = |message: String| Some(Verdict::new(READY, Some(false), "Invalid", message));
    let wrong = crds::application::validate(application);
    if !wrong.is_empty() {
        let all: Vec<String> = wrong.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.message)).collect();
        return say(all.join("; "));
    }
    let spec = &application.spec;
    if spec.source.git.is_some() == spec.source.image.is_some() {
        return say("spec.source: give exactly one of git and image".to_owned());
    }
    let plan = observed.plan.as_ref()?;
    let most = plan.spec.max_instances;
    if spec.instances > most {
        return say(format!(
            "spec.instances: Invalid value: {}: the plan {} allows at most {most}",
            spec.instances, spec.plan
        ));
    }
    if let Some(runtime) = &spec.runtime
        && !plan.spec.runtimes.is_empty()
        && !plan.spec.runtimes.contains(runtime)
    {
        let allowed = plan.spec.runtimes.join(", ");
        return say(format!("spec.runtime: Invalid value: {runtime:?}: the plan {} is for: {allowed}", spec.plan));
    }
    if let Some(region) = &spec.region
        && !plan.spec.regions.is_empty()
        && !plan.spec.regions.contains(region)
    {
        let allowed = plan.spec.regions.join(", ");
        return say(format!("spec.region: Invalid value: {region:?}: the plan {} is sold in: {allowed}", spec.plan));
    }
    None
}

pub(super) fn decide(application: &Application, observed: &Observed) -> Decision {
    let serving = serving(application, observed);
    let wanted = if application.spec.running { usize::try_from(application.spec.instances).unwrap_or(0) } else { 0 };
    let mut decision = Decision {
        target: serving.clone(),
        serving,
        wanted,
        make: None,
        build: None,
        build_verdict: Verdict::new(BUILD_SUCCEEDED, Some(true), "Prebuilt", "the image was built elsewhere"),
        trouble: None,
        given_up: None,
    };
    if let Some(name) = &application.spec.release {
        decision.build_verdict =
            Verdict::new(BUILD_SUCCEEDED, Some(true), "Pinned", format!("it stays on the release {name}"));
        if let Some(release) = observed.releases.iter().find(|release| release.name_any() == *name) {
            decision.aim(application, release);
        } else {
            let mut there: Vec<_> = observed.releases.iter().collect();
            there.sort_by_key(|release| std::cmp::Reverse(release.spec.number));
            let there: Vec<String> = there.into_iter().map(|release| release.name_any()).collect();
            decision.trouble = Some(content::not_found("ReleaseNotFound", "release", name, &there));
        }
        return decision;
    }
    let Some(image) = decision.image(application, observed) else { return decision };
    match content::release(application, observed, image) {
        Err(trouble) => decision.trouble = Some(trouble),
        Ok(release) => match observed.releases.iter().find(|present| present.name_any() == release.name_any()) {
            Some(present) => decision.aim(application, present),
            None => decision.make = Some(Object::Release(Box::new(release))),
        },
    }
    decision
}

impl Decision {
    /// Makes a release the target, unless it was tried and nothing has changed since.
    fn aim(&mut self, application: &Application, release: &Arc<Release>) {
        let status = release.status.clone().unwrap_or_default();
        let tried = status.failure.is_some() && status.failed_generation == application.metadata.generation;
        // What serves already needs no trial.
        let serves = self.serving.as_ref().is_some_and(|serving| serving.metadata.uid == release.metadata.uid);
        if tried && !serves {
            self.given_up = Some(Arc::clone(release));
        } else {
            self.target = Some(Arc::clone(release));
        }
    }

    /// The image to run, if there is one already; says what it waits for otherwise.
    fn image(&mut self, application: &Application, observed: &Observed) -> Option<Image> {
        if let Some(runtime) = &application.spec.runtime
            && observed.runtime.is_none()
        {
            self.trouble = Some(content::not_found("RuntimeNotFound", "runtime", runtime, &observed.runtimes));
            return None;
        }
        if let Some(image) = Image::elsewhere(application) {
            return Some(image);
        }
        let build = match content::build(application, observed)? {
            Ok(build) => build,
            Err(verdict) => {
                self.build_verdict = verdict;
                return None;
            }
        };
        let name = build.name_any();
        self.build = Some(name.clone());
        let Some(present) = observed.builds.iter().find(|present| present.name_any() == name) else {
            if let Some(trouble) = not_offered(application, observed) {
                self.trouble = Some(trouble);
                return None;
            }
            self.build_verdict = Verdict::new(BUILD_SUCCEEDED, None, "Building", format!("{name} is to be built"));
            self.make = Some(Object::Build(Box::new(build)));
            return None;
        };
        let status = present.status.clone().unwrap_or_default();
        let failure = status.failure.unwrap_or_default();
        let say = |succeeded, reason, message: String| Verdict::new(BUILD_SUCCEEDED, succeeded, reason, message);
        self.build_verdict = match status.phase {
            _ if is_void(present) => say(None, "Building", format!("{name} is to be built anew")),
            BuildPhase::Succeeded => {
                let image = Image::built(present);
                self.build_verdict = match &image {
                    Some(_) => {
                        say(Some(true), "Succeeded", format!("{name} made the image{}", unreadable(application)))
                    }
                    None => say(Some(false), "ImageNotFound", format!("{name} ended well and named no image")),
                };
                return image;
            }
            BuildPhase::Failed => {
                let hint = failure.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                say(Some(false), "BuildFailed", format!("{name}: {}: {}{hint}", failure.reason, failure.message))
            }
            BuildPhase::Cancelled => say(Some(false), "Cancelled", format!("{name} was cancelled")),
            BuildPhase::Pending => say(None, "Building", format!("{name} waits for its turn")),
            BuildPhase::Cloning => say(None, "Building", format!("{name}: the source is fetched")),
            BuildPhase::Building => say(None, "Building", format!("{name}: the image is built")),
        };
        // Whoever mends the build should not learn only then that there is no such plan.
        if observed.plan.is_none() {
            self.trouble = Some(content::not_found("PlanNotFound", "plan", &application.spec.plan, &observed.plans));
        }
        None
    }
}

/// What built well may be out of date without anybody knowing.
fn unreadable(application: &Application) -> String {
    let error = application.source_seen().and_then(|source| source.error.as_deref());
    error.map(|error| format!("; newer commits are not seen: {error}")).unwrap_or_default()
}

/// Why no new build may be begun, if so.
fn not_offered(application: &Application, observed: &Observed) -> Option<Verdict> {
    if observed.plan.is_none() {
        return Some(content::not_found("PlanNotFound", "plan", &application.spec.plan, &observed.plans));
    }
    let runtime = observed.runtime.as_ref()?;
    (!runtime.spec.active)
        .then(|| content::not_found("RuntimeNotFound", "active runtime", &runtime.name_any(), &observed.runtimes))
}

/// The release that serves: the one that did when this was last said, or else the one with the most instances that
/// answer.
fn serving(application: &Application, observed: &Observed) -> Option<Arc<Release>> {
    let active = application.status.as_ref().and_then(|status| status.active_release.as_ref());
    if let Some(release) = observed.releases.iter().find(|release| Some(&release.name_any()) == active) {
        return Some(Arc::clone(release));
    }
    let count = |release: &Arc<Release>| available_of(observed, release);
    let best = observed.releases.iter().max_by_key(|release| (count(release), release.spec.number))?;
    (count(best) > 0).then(|| Arc::clone(best))
}

/// How many instances of a release answer and get requests.
pub(super) fn available_of(observed: &Observed, release: &Release) -> usize {
    let name = release.name_any();
    observed.instances.iter().filter(|instance| instance.spec.release == name && is_available(instance)).count()
}
