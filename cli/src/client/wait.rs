//! Waits until an application is served, and shows meanwhile what it waits for.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::Instant;

use super::{Session, resource, table};
use crate::failure::{Exit, fail};
use crate::print;

/// Short enough to feel immediate, long enough to cost the server nothing.
const STEP: Duration = Duration::from_millis(200);
/// How long a failure must stand before it is believed, if what it lacks may just have been applied beside it.
const BELIEVED: Duration = Duration::from_secs(2);
/// How long a failure from before an action must stand to be the action's own too.
const BELIEVED_OLD: Duration = Duration::from_secs(30);
/// How long an older release must go on serving to be what was asked for. Until its successor is made, an application
/// that was just changed is ready as it was.
const SETTLED: Duration = Duration::from_secs(1);

/// One line that changes in place on a terminal, and a line for each change elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    last: RefCell<String>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(
                ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        print::set_progress(bar.clone());
        Self { bar, last: RefCell::default() }
    }

    /// Shows what is waited for.
    pub(crate) fn say(&self, message: impl Into<String>) {
        let message = table::plain(&message.into());
        if *self.last.borrow() == message {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(message.clone()),
            None => print::note(&message),
        }
        self.last.replace(message);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        print::set_progress(None);
    }
}

/// Whether an application is asked not to run.
pub(super) fn is_stopped(application: &Value) -> bool {
    application["spec"]["running"] == false || application["spec"]["instances"] == 0
}

/// Waits until an application is in its present generation what it was asked to be. Returns its address.
pub(crate) async fn until_ready(
    session: &Session,
    object: &Value,
    timeout_seconds: u64,
    progress: &Progress,
) -> anyhow::Result<String> {
    wait(session, object, None, timeout_seconds, progress).await
}

/// Waits until an action has had its effect: until another release serves than in `before`.
pub(super) async fn until_replaced(
    session: &Session,
    before: &Value,
    timeout_seconds: u64,
    progress: &Progress,
) -> anyhow::Result<String> {
    wait(session, before, Some(View(before)), timeout_seconds, progress).await
}

async fn wait(
    session: &Session,
    object: &Value,
    before: Option<View<'_>>,
    timeout_seconds: u64,
    progress: &Progress,
) -> anyhow::Result<String> {
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let path = resource::of_object(session, object).await?.path(namespace, name);
    let begun = Instant::now();
    let mut settled: Option<Instant> = None;
    let mut failing: Option<Instant> = None;
    loop {
        let application = session.send("GET", &path, "application/json").await?;
        if application["metadata"]["uid"] != object["metadata"]["uid"] {
            return Err(fail(Exit::NotReady, format!("application {name} was deleted and made anew by somebody else")));
        }
        let view = View(&application);
        let state = view.state(before);
        progress.say(format!("{name}: {}", view.message()));
        let since = |mark: &mut Option<Instant>| mark.get_or_insert_with(Instant::now).elapsed();
        match state {
            State::Ready => {
                let current = before.is_some() || is_newest_active(session, &application).await?;
                if current || is_stopped(&application) || since(&mut settled) >= SETTLED {
                    return Ok(text(&application["status"]["url"]).to_owned());
                }
            }
            State::Failed { why, patience } => {
                settled = None;
                if since(&mut failing) >= patience {
                    return Err(fail(Exit::NotReady, format!("application {name}: {why}")));
                }
            }
            State::Waiting => (settled, failing) = (None, None),
        }
        if begun.elapsed() >= Duration::from_secs(timeout_seconds) {
            let state = view.message();
            let message = format!("application {name} is not ready after {timeout_seconds} s: {state}");
            return Err(fail(Exit::TimedOut, message));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Whether the release that serves is the one that was made last.
async fn is_newest_active(session: &Session, application: &Value) -> anyhow::Result<bool> {
    let metadata = &application["metadata"];
    let selector = resource::segment(&format!("berth.dev/application={}", text(&metadata["name"])));
    let releases = resource::find_one(session, "releases.berth.dev").await?;
    let path = format!("{}?labelSelector={selector}", releases.list_path(metadata["namespace"].as_str()));
    let list = session.send("GET", &path, "application/json").await?;
    let newest =
        list["items"].as_array().into_iter().flatten().max_by_key(|item| item["spec"]["number"].as_i64().unwrap_or(0));
    Ok(newest.is_some_and(|newest| newest["metadata"]["name"] == application["status"]["activeRelease"]))
}

/// An application as one who waits for it sees it.
#[derive(Clone, Copy)]
struct View<'a>(&'a Value);

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// It will not mend by waiting, if it stays so for a while.
    Failed {
        why: String,
        patience: Duration,
    },
    Waiting,
}

impl<'a> View<'a> {
    /// A condition that speaks of the present generation.
    fn condition(self, type_: &str) -> Option<&'a Value> {
        let generation = &self.0["metadata"]["generation"];
        let all = self.0["status"]["conditions"].as_array().into_iter().flatten();
        all.into_iter().find(|found| found["type"] == type_ && found["observedGeneration"] == *generation)
    }

    fn is_true(self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|found| found["status"] == "True")
    }

    /// What is waited for, in the words of the condition that is nearest to it.
    fn message(self) -> String {
        let said = ["BuildSucceeded", "RolledOut", "Ready"].into_iter().filter_map(|type_| self.condition(type_));
        let mut open = said.filter(|found| found["status"] != "True");
        let message = open.next().or_else(|| self.condition("Ready")).map(|found| text(&found["message"]));
        table::plain(message.unwrap_or("not looked at yet"))
    }

    fn state(self, before: Option<View<'_>>) -> State {
        let stopped = is_stopped(self.0);
        if let Some((type_, found)) = self.failure() {
            let old =
                before.and_then(|before| before.condition(type_)).filter(|old| old["message"] == found["message"]);
            let patience = match (old, type_) {
                (Some(_), _) => BELIEVED_OLD,
                (None, "Ready") => BELIEVED,
                (None, _) => Duration::ZERO,
            };
            return State::Failed { why: self.explained(type_, text(&found["message"])), patience };
        }
        if stopped {
            let still = self.0["status"]["instances"]["ready"].as_i64().unwrap_or(0);
            let said = self.condition("Ready").is_some_and(|ready| ready["reason"] == "Stopped");
            return if said && still == 0 { State::Ready } else { State::Waiting };
        }
        let replaced = before.is_none_or(|before| {
            let (old, new) = (&before.0["status"]["activeRelease"], &self.0["status"]["activeRelease"]);
            new.is_string() && old != new
        });
        if replaced && ["BuildSucceeded", "RolledOut", "Ready"].into_iter().all(|type_| self.is_true(type_)) {
            return State::Ready;
        }
        State::Waiting
    }

    /// What will not mend by waiting: an invalid application, a failed build, a rollout that was given up.
    fn failure(self) -> Option<(&'static str, &'a Value)> {
        const FINAL: &[(&str, &[&str])] = &[
            ("Ready", &["Invalid", "PlanNotFound", "RuntimeNotFound", "ReleaseNotFound", "SecretNotFound", "Deleting"]),
            ("BuildSucceeded", &["BuildFailed", "SourceUnreachable", "ImageNotFound", "Cancelled"]),
            ("RolledOut", &["RolloutFailed"]),
        ];
        FINAL.iter().find_map(|(type_, reasons)| {
            let found = self.condition(type_).filter(|found| found["status"] == "False")?;
            reasons.contains(&found["reason"].as_str()?).then_some((*type_, found))
        })
    }

    /// A failure with where to look for more.
    fn explained(self, type_: &str, why: &str) -> String {
        let name = text(&self.0["metadata"]["name"]);
        match (type_, self.0["status"]["latestBuild"].as_str()) {
            ("BuildSucceeded", Some(build)) => format!("{why}\nIts log: berth builds {name} --log={build}"),
            ("RolledOut", _) => format!("{why}\nMore: berth describe application {name}"),
            _ => why.to_owned(),
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `generation/observed`, then `Type=Status:Reason` for each condition.
    fn application(generation: i64, observed: i64, release: &str, conditions: &str) -> Value {
        let conditions: Vec<Value> = conditions
            .split_whitespace()
            .map(|word| {
                let (type_, rest) = word.split_once('=').unwrap();
                let (status, reason) = rest.split_once(':').unwrap();
                json!({"type": type_, "status": status, "reason": reason, "observedGeneration": observed,
                    "message": format!("{type_} {reason}")})
            })
            .collect();
        json!({
            "metadata": {"name": "shop", "namespace": "default", "uid": "1", "generation": generation},
            "spec": {"instances": 1, "running": true},
            "status": {"activeRelease": release, "url": "http://shop", "conditions": conditions},
        })
    }

    const WELL: &str = "Ready=True:Running BuildSucceeded=True:Succeeded RolledOut=True:RolledOut";

    fn failed(state: &State) -> bool {
        matches!(state, State::Failed { .. })
    }

    #[test]
    fn what_is_ready() {
        assert_eq!(View(&application(1, 1, "a", WELL)).state(None), State::Ready);
        assert_eq!(View(&application(2, 1, "a", WELL)).state(None), State::Waiting, "the status is of before");
        let building = "Ready=True:Running BuildSucceeded=Unknown:Building RolledOut=True:RolledOut";
        assert_eq!(View(&application(1, 1, "a", building)).state(None), State::Waiting, "the old one serves");
    }

    #[test]
    fn what_fails() {
        let state = |conditions: &str| View(&application(1, 1, "a", conditions)).state(None);
        assert!(failed(&state("Ready=True:Running BuildSucceeded=False:BuildFailed RolledOut=True:RolledOut")));
        assert!(failed(&state("Ready=False:Invalid")));
        assert!(!failed(&state("Ready=False:Progressing Scheduled=False:Unschedulable")), "a node may join");
        let old = application(2, 1, "a", "Ready=False:Invalid");
        assert_eq!(View(&old).state(None), State::Waiting, "it may be mended by now");
    }

    #[test]
    fn an_action_has_its_effect_when_another_release_serves() {
        let before = application(1, 1, "a", WELL);
        assert_eq!(View(&before).state(Some(View(&before))), State::Waiting);
        assert_eq!(View(&application(1, 1, "b", WELL)).state(Some(View(&before))), State::Ready);
        let broken = application(1, 1, "a", "Ready=True:Running BuildSucceeded=False:BuildFailed");
        let State::Failed { patience, .. } = View(&broken).state(Some(View(&broken))) else { panic!() };
        assert_eq!(patience, BELIEVED_OLD, "that one failed before");
    }

    #[test]
    fn a_stopped_one_is_as_asked_for_when_nothing_runs() {
        let mut stopped = application(1, 1, "a", "Ready=True:Stopped BuildSucceeded=True:Succeeded");
        stopped["spec"]["running"] = json!(false);
        stopped["status"]["instances"] = json!({"ready": 1});
        assert_eq!(View(&stopped).state(None), State::Waiting);
        stopped["status"]["instances"] = json!({"ready": 0});
        assert_eq!(View(&stopped).state(None), State::Ready);
    }
}
