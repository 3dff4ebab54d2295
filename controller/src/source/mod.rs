//! Watches the branches that applications are deployed from, and reports what they point to in `status.source`.

mod git;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::Application;
use crds::application::SourceStatus;
use ipnet::IpNet;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::watch::{Branch, Watches};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::execute;
use crate::hub::Hub;
use crate::step::{Step, Target, is_deleted};
use crate::world::{Key, World};

/// Look-ups at the same time. Each is a process of some 10 MiB, and forges limit their guests.
const LOOK_UPS_MAX: usize = 4;
/// New wishes are noticed this often: a person who waits for a deployment does not notice it.
const PULSE: Duration = Duration::from_millis(50);
/// Without a change, times are looked at this often.
const IDLE: Duration = Duration::from_secs(1);
/// An application that others write to at the same time is tried this often.
const REPORTS_MAX: u32 = 8;

pub(crate) async fn run(hub: Arc<Hub>, networks: Vec<IpNet>, shutdown: CancellationToken) {
    let networks = Arc::new(networks);
    let places = Arc::new(Semaphore::new(LOOK_UPS_MAX));
    let mut watches = Watches::default();
    let mut asked = JoinSet::new();
    let mut changed = hub.world.changed();
    loop {
        watches.follow(&wishes(&hub.world), Instant::now());
        while let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let Some(branch) = watches.take_due(Instant::now()) else { break };
            let access = access(&hub.world, &branch);
            // Those that come from now on may have come too late for this look.
            let deploys = deploys(&hub.world, &branch);
            let networks = Arc::clone(&networks);
            asked.spawn(async move {
                let _place = place;
                let answer = match access {
                    Ok(access) => git::look_up(&branch.url, &branch.name, &access, &networks).await,
                    Err(missing) => Err(missing),
                };
                (branch, deploys, answer)
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(answer) = asked.join_next() => match answer {
                Ok((branch, deploys, answer)) => {
                    watches.answered(&branch, answer.is_ok(), Instant::now());
                    report(&hub, &branch, &deploys, &answer).await;
                }
                Err(error) => tracing::error!(%error, "a look-up ended without an answer"),
            },
            _changed = changed.changed() => tokio::time::sleep(PULSE).await,
            () = tokio::time::sleep(IDLE) => {}
        }
    }
}

/// The branches that applications want, and what asks for a look at once when it is different.
fn wishes(world: &World) -> BTreeMap<Branch, Vec<String>> {
    let mut wishes: BTreeMap<Branch, Vec<String>> = BTreeMap::new();
    for application in world.applications.all() {
        if is_deleted(&*application) {
            continue;
        }
        if let Some(branch) = branch(&application) {
            let deploy = application.deploy_wish();
            let uid = application.metadata.uid.clone().unwrap_or_default();
            let asking = wishes.entry(branch).or_default();
            asking.push(format!("{uid} {deploy:?}"));
            if application.source_seen().is_none() {
                asking.push(format!("{uid} knows nothing"));
            }
        }
    }
    wishes
}

fn branch(application: &Application) -> Option<Branch> {
    let git = application.spec.source.git.as_ref()?;
    // What admission would refuse is not asked for either.
    if !crds::git::validate(git, "").is_empty() {
        return None;
    }
    let namespace = Key::of(application).namespace;
    let secret = git.credentials.as_ref().map(|credentials| credentials.secret_name.clone());
    Some(Branch { namespace, url: git.url.clone(), name: git.branch.clone(), secret })
}

fn access(world: &World, branch: &Branch) -> Result<Credentials, String> {
    let Some(name) = &branch.secret else { return Ok(Credentials::default()) };
    let Some(secret) = world.secrets.get(&Key::new(&*branch.namespace, &**name)) else {
        return Err(format!("there is no Secret {name}, which spec.source.git.credentials names"));
    };
    Ok(Credentials::of(&secret))
}

/// The wishes to deploy, by the uid of the application that has one.
type Deploys = BTreeMap<String, String>;

/// The last wishes to deploy from a branch.
fn deploys(world: &World, of: &Branch) -> Deploys {
    let applications = world.applications.all().into_iter();
    let wishing = applications.filter(|application| branch(application).as_ref() == Some(of));
    wishing
        .filter_map(|application| Some((application.metadata.uid.clone()?, application.deploy_wish()?.to_owned())))
        .collect()
}

/// Writes an answer to every application that is deployed from the branch, where it is news.
async fn report(hub: &Hub, of: &Branch, deploys: &Deploys, answer: &Result<String, String>) {
    for application in hub.world.applications.all() {
        if branch(&application).as_ref() == Some(of) {
            let deploy = application.metadata.uid.as_ref().and_then(|uid| deploys.get(uid));
            report_to(hub, &Key::of(&*application), of, deploy, answer).await;
        }
    }
}

/// Writes it to one of them, thinking it over again where the application has changed meanwhile.
async fn report_to(hub: &Hub, key: &Key, of: &Branch, deploy: Option<&String>, answer: &Result<String, String>) {
    for tries in 1..=REPORTS_MAX {
        let Some(application) = hub.world.applications.get(key) else { return };
        if branch(&application).as_ref() != Some(of) || is_deleted(&*application) {
            return;
        }
        let Some(step) = news(&application, deploy, answer) else { return };
        match execute::execute(hub, &step).await {
            Ok(()) => return,
            Err(error @ Error::Changed(_)) => tokio::time::sleep(error.retry(tries)).await,
            Err(error) => {
                tracing::warn!(%error, "what a branch points to could not be reported");
                return;
            }
        }
    }
    // The next look finds the report missing and writes it.
    tracing::warn!(application = %key, "what a branch points to could not be reported: the application changes constantly");
}

/// What an answer makes of an application's status, if it is news to it. It depends on what was known, so it is for that
/// state only. `deploy` is the last wish to deploy that came before the look.
fn news(application: &Application, deploy: Option<&String>, answer: &Result<String, String>) -> Option<Step> {
    let key = application.source_key()?;
    if application.source_seen().is_some() && deploy.map(String::as_str) != application.deploy_wish() {
        // What is known comes from a later look.
        return None;
    }
    let before = application.status.as_ref().and_then(|status| status.source.clone()).unwrap_or_default();
    let deploy = deploy.cloned();
    // What the branch was seen to point to stays true while it cannot be seen, until somebody wants it looked at anew.
    let (commit, error) = match answer {
        Ok(commit) => (Some(commit.clone()), None),
        Err(error) => {
            let same = before.of == key && before.deploy == deploy;
            (before.commit.clone().filter(|_| same), Some(error.clone()))
        }
    };
    let after = SourceStatus { of: key, deploy, commit, error };
    if before == after {
        return None;
    }
    if let Some(error) = &after.error {
        tracing::info!(application = %Key::of(application), error, "the source cannot be read");
    }
    let SourceStatus { of, deploy, commit, error } = after;
    let patch = json!({ "source": { "of": of, "deploy": deploy, "commit": commit, "error": error } });
    Some(Step::PatchStatus { of: Target::exactly(application), patch })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn shop(source: &Value) -> Application {
        serde_json::from_value(json!({
            "apiVersion": "berth.dev/v1alpha1", "kind": "Application",
            "metadata": { "name": "shop", "namespace": "acme", "uid": "u1", "resourceVersion": "7" },
            "spec": { "plan": "small", "source": { "git": { "url": "https://git.example.com/shop.git", "branch": "main" } } },
            "status": { "source": source },
        }))
        .unwrap()
    }

    fn patch(application: &Application, deploy: Option<&str>, answer: Result<&str, &str>) -> Option<Value> {
        let answer = answer.map(str::to_owned).map_err(str::to_owned);
        match news(application, deploy.map(str::to_owned).as_ref(), &answer)? {
            Step::PatchStatus { of: target, patch } => {
                // Another commit may be there by now, and the patch may name the one before.
                assert_eq!(target.resource_version.as_deref(), Some("7"));
                Some(patch["source"].clone())
            }
            other => panic!("{other:?} is no report"),
        }
    }

    #[test]
    fn what_depends_on_a_state_is_written_to_that_state_only() {
        let of = "https://git.example.com/shop.git#main";
        let known = shop(&json!({ "of": of, "commit": "1" }));
        let away = patch(&known, None, Err("it is away")).expect("that it is away is news");
        assert_eq!(away, json!({ "of": of, "deploy": null, "commit": "1", "error": "it is away" }));
        assert_eq!(patch(&known, None, Ok("1")), None);
        let another = shop(&json!({ "of": "https://git.example.com/shop.git#next", "commit": "1" }));
        let away = patch(&another, None, Err("it is away")).expect("that it is away is news");
        assert_eq!(away["commit"], Value::Null, "what another branch points to says nothing of this one");
    }

    #[test]
    fn a_look_answers_the_wish_to_deploy_that_came_before_it() {
        let of = "https://git.example.com/shop.git#main";
        let wishing = |wish: &str| {
            let mut application = shop(&json!({ "of": of, "deploy": "noon", "commit": "1" }));
            application.metadata.annotations = Some([("berth.dev/deploy".to_owned(), wish.to_owned())].into());
            application
        };
        assert_eq!(patch(&wishing("noon"), Some("noon"), Ok("1")), None);
        assert_eq!(patch(&wishing("noon"), None, Ok("0")), None, "what is known comes from a later look");
        let seen = patch(&wishing("one"), Some("one"), Ok("1")).expect("that it is still the same commit is news");
        assert_eq!(seen, json!({ "of": of, "deploy": "one", "commit": "1", "error": null }));
        let away = patch(&wishing("one"), Some("one"), Err("it is away")).expect("that it is away is news");
        assert_eq!(away["commit"], Value::Null, "what was pushed since is not known");
    }
}
