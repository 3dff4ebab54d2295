//! Watches the branches that applications are deployed from, and reports what they point to in `status.source`.

mod git;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::Application;
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
            let networks = Arc::clone(&networks);
            asked.spawn(async move {
                let _place = place;
                let answer = match access {
                    Ok(access) => git::look_up(&branch.url, &branch.name, &access, &networks).await,
                    Err(missing) => Err(missing),
                };
                (branch, answer)
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(answer) = asked.join_next() => match answer {
                Ok((branch, answer)) => {
                    watches.answered(&branch, answer.is_ok(), Instant::now());
                    report(&hub, &branch, &answer).await;
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
            let annotations = application.metadata.annotations.as_ref();
            let deploy = annotations.and_then(|annotations| annotations.get(crds::DEPLOY_ANNOTATION));
            let known = application
                .status
                .as_ref()
                .and_then(|status| status.source.as_ref())
                .is_some_and(|source| Some(&source.of) == application.source_key().as_ref());
            let uid = application.metadata.uid.clone().unwrap_or_default();
            let asking = wishes.entry(branch).or_default();
            asking.push(format!("{uid} {deploy:?}"));
            if !known {
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

/// Writes an answer to every application that is deployed from the branch, where it is news.
async fn report(hub: &Hub, of: &Branch, answer: &Result<String, String>) {
    for application in hub.world.applications.all() {
        if branch(&application).as_ref() == Some(of) {
            report_to(hub, &Key::of(&*application), of, answer).await;
        }
    }
}

/// Writes it to one of them, thinking it over again where the application has changed meanwhile.
async fn report_to(hub: &Hub, key: &Key, of: &Branch, answer: &Result<String, String>) {
    for tries in 1..=REPORTS_MAX {
        let Some(application) = hub.world.applications.get(key) else { return };
        if branch(&application).as_ref() != Some(of) || is_deleted(&*application) {
            return;
        }
        let Some(step) = news(&application, answer) else { return };
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
/// state only.
fn news(application: &Application, answer: &Result<String, String>) -> Option<Step> {
    let key = application.source_key()?;
    let before = application.status.as_ref().and_then(|status| status.source.clone()).unwrap_or_default();
    // What the branch was seen to point to stays true while it cannot be seen.
    let (commit, error) = match answer {
        Ok(commit) => (Some(commit.clone()), None),
        Err(error) => (before.commit.clone().filter(|_| before.of == key), Some(error.clone())),
    };
    if (&before.of, &before.commit, &before.error) == (&key, &commit, &error) {
        return None;
    }
    if let Some(error) = &error {
        tracing::info!(application = %Key::of(application), error, "the source cannot be read");
    }
    let patch = json!({ "source": { "of": key, "commit": commit, "error": error } });
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

    #[test]
    fn what_depends_on_a_state_is_written_to_that_state_only() {
        let of = "https://git.example.com/shop.git#main";
        let known = shop(&json!({ "of": of, "commit": "1" }));
        let Some(Step::PatchStatus { of: target, patch }) = news(&known, &Err("it is away".to_owned())) else {
            panic!("that it is away is news");
        };
        // Another commit may be there by now, and this patch names the one before.
        assert_eq!(target.resource_version.as_deref(), Some("7"));
        assert_eq!(patch, json!({ "source": { "of": of, "commit": "1", "error": "it is away" } }));
        assert_eq!(news(&known, &Ok("1".to_owned())), None);
        let another = shop(&json!({ "of": "https://git.example.com/shop.git#next", "commit": "1" }));
        let Some(Step::PatchStatus { patch, .. }) = news(&another, &Err("it is away".to_owned())) else {
            panic!("that it is away is news");
        };
        assert_eq!(patch["source"]["commit"], Value::Null, "what another branch points to says nothing of this one");
    }
}
