//! What is worth saying to the gateway: what has changed since it was last said on this connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use node_protocol::{BuildObservation, Heartbeat, InstanceObservation, Observation, RouteObservation, Up};
use tokio::sync::watch;

use super::hello;
use crate::agent::{Held, Shown};
use crate::build_log::BuildLogs;

/// The longest piece of a build's log in one message.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// Instances in one message. Each may have the last words of a program, which take 25 KiB if all of them must be escaped:
/// together less than the protocol allows.
const INSTANCES_MAX: usize = 200;
/// How much of a log may be under way without the gateway having said that it is kept.
const WINDOW_BYTES: u64 = 1 << 20;

/// Up to where the gateway has kept each build's log.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Arc<Mutex<BTreeMap<String, u64>>>);

impl Kept {
    /// Notes that so many bytes are kept.
    pub(super) fn keep(&self, build: String, bytes: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(build, bytes);
    }

    fn of(&self, build: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(build).copied().unwrap_or(0)
    }

    fn retain(&self, builds: &[BuildObservation]) {
        let there = |uid: &String| builds.iter().any(|build| build.uid == *uid);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| there(uid));
    }
}

/// What the gateway was told on this connection.
#[derive(Default)]
struct Told {
    held: Held,
    whole: bool,
    instances: BTreeMap<String, InstanceObservation>,
    builds: BTreeMap<String, BuildObservation>,
    routes: BTreeMap<String, RouteObservation>,
    logs: BTreeMap<String, u64>,
}

/// Says what is new.
pub(crate) struct Voice {
    held: watch::Receiver<Held>,
    observation: watch::Receiver<Arc<Observation>>,
    heartbeat: watch::Receiver<Option<Arc<Heartbeat>>>,
    logs: BuildLogs,
    log_changes: watch::Receiver<u64>,
    told: Told,
}

impl Voice {
    /// A voice for what the agent shows.
    pub(crate) fn new(shown: &Shown, heartbeat: watch::Receiver<Option<Arc<Heartbeat>>>, logs: BuildLogs) -> Self {
        Self {
            held: shown.held.clone(),
            observation: shown.observation.clone(),
            heartbeat,
            log_changes: logs.changes(),
            logs,
            told: Told::default(),
        }
    }

    /// A connection begins: nothing was told yet. Gives the first message.
    pub(super) fn begin(&mut self) -> Up {
        let held = self.held.borrow_and_update().clone();
        self.heartbeat.mark_changed();
        self.observation.mark_changed();
        let first = Up::Hello(hello(&held, false));
        self.told = Told { held, ..Told::default() };
        first
    }

    /// What the agent has, for a poll; nothing, so that all is sent, after an update that did not fit.
    pub(super) fn hello(&mut self) -> node_protocol::Hello {
        let held = self.held.borrow().clone();
        let misfit = held.misfits != self.told.held.misfits;
        self.told.held.misfits = held.misfits;
        hello(&held, misfit)
    }

    /// Waits until there may be something to say.
    pub(super) async fn changed(&mut self) {
        // An agent that is gone changes nothing any more; the session ends by its own token.
        let gone = tokio::select! {
            changed = self.held.changed() => changed.is_err(),
            changed = self.observation.changed() => changed.is_err(),
            changed = self.log_changes.changed() => changed.is_err(),
            changed = self.heartbeat.changed() => {
                self.heartbeat.mark_changed();
                changed.is_err()
            }
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }

    /// All that is new, most urgent first.
    pub(super) fn news(&mut self, ears: &mut super::Ears) -> Vec<Up> {
        let mut news = Vec::new();
        if std::mem::take(&mut ears.anew) {
            self.told.whole = false;
        }
        if self.heartbeat.has_changed().unwrap_or(false)
            && let Some(heartbeat) = &*self.heartbeat.borrow_and_update()
        {
            news.push(Up::Heartbeat((**heartbeat).clone()));
        }
        let held = self.held.borrow_and_update().clone();
        if held.misfits != self.told.held.misfits {
            news.push(Up::Hello(hello(&held, true)));
        } else if held != self.told.held
            && let Some(revision) = held.revision
        {
            news.push(Up::Applied { revision });
        }
        self.told.held = held;
        news.extend(self.seen(&ears.kept));
        news
    }

    /// What is new of all that the agent sees. Whoever follows the log of a build stops when that has ended, which is
    /// therefore told after the last of its log.
    fn seen(&mut self, kept: &Kept) -> Vec<Up> {
        let observation = Arc::clone(&self.observation.borrow_and_update());
        let (mut news, logs) = self.build_logs(&observation, kept);
        news.extend(self.observed(&observation));
        news.extend(logs);
        news
    }

    fn observed(&mut self, observation: &Observation) -> Vec<Up> {
        let told = &mut self.told;
        let there = |uid: &String| observation.routes.iter().any(|route| route.application_uid == *uid);
        let gone: Vec<RouteObservation> =
            told.routes.values().filter(|route| !there(&route.application_uid)).map(without).collect();
        let mut changed = Observation {
            full: !told.whole,
            revision: observation.revision,
            instances: renew(&mut told.instances, &observation.instances, |one| &one.uid),
            builds: renew(&mut told.builds, &observation.builds, |one| &one.uid),
            routes: renew(&mut told.routes, &observation.routes, |one| &one.application_uid),
        };
        changed.routes.extend(gone);
        if changed.full {
            if !observation.full {
                // The agent has not looked yet.
                return Vec::new();
            }
            told.whole = true;
            changed = observation.clone();
        } else if changed.instances.is_empty() && changed.builds.is_empty() && changed.routes.is_empty() {
            return Vec::new();
        }
        pieces(changed).into_iter().map(Up::Observed).collect()
    }

    /// What is new in the logs of builds that have ended, and in those of the others.
    fn build_logs(&mut self, observation: &Observation, kept: &Kept) -> (Vec<Up>, Vec<Up>) {
        kept.retain(&observation.builds);
        self.told.logs.retain(|uid, _| observation.builds.iter().any(|build| build.uid == *uid));
        let (mut ended, mut others) = (Vec::new(), Vec::new());
        for build in &observation.builds {
            let pieces = if build.phase.is_final() { &mut ended } else { &mut others };
            let safe = kept.of(&build.uid);
            let offset = self.told.logs.entry(build.uid.clone()).or_insert(safe);
            *offset = (*offset).max(safe);
            while *offset < safe + WINDOW_BYTES {
                match self.logs.read(&build.uid, *offset, PIECE_BYTES_MAX) {
                    Ok(text) if !text.is_empty() => {
                        let length = text.len() as u64;
                        pieces.push(Up::BuildLog { build: build.uid.clone(), offset: *offset, text });
                        *offset += length;
                    }
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(build = build.uid, %error, "a build's log cannot be read");
                        break;
                    }
                }
            }
        }
        (ended, others)
    }
}

/// An observation as messages that are small enough: the first has the routes, for it says whether these are all.
fn pieces(mut observation: Observation) -> Vec<Observation> {
    let rest = observation.instances.split_off(observation.instances.len().min(INSTANCES_MAX));
    let revision = observation.revision;
    let more = rest.chunks(INSTANCES_MAX).map(|instances| Observation {
        revision,
        instances: instances.to_vec(),
        ..Observation::default()
    });
    [observation].into_iter().chain(more).collect()
}

/// The last word on a route that is no longer live.
fn without(route: &RouteObservation) -> RouteObservation {
    RouteObservation { ready: false, hosts: Vec::new(), error: None, ..route.clone() }
}

/// Makes `told` what `now` is, and gives what was new in it.
fn renew<T: Clone + PartialEq>(told: &mut BTreeMap<String, T>, now: &[T], uid: impl Fn(&T) -> &String) -> Vec<T> {
    let changed: Vec<T> = now.iter().filter(|one| told.get(uid(one)) != Some(one)).cloned().collect();
    *told = now.iter().map(|one| (uid(one).clone(), one.clone())).collect();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_protocol::FRAME_BYTES_MAX;

    #[test]
    fn the_last_of_a_builds_log_is_told_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = BuildLogs::new(folder.path()).unwrap();
        let written = logs.clone();
        let build = |uid: &str, phase: &str| -> BuildObservation {
            let build = serde_json::json!({ "uid": uid, "namespace": "acme", "name": uid, "phase": phase });
            serde_json::from_value(build).unwrap()
        };
        let seen = |phase: &str| Observation {
            full: true,
            builds: vec![build("one", phase), build("other", "Building")],
            ..Observation::default()
        };
        let (show, observation) = watch::channel(Arc::new(seen("Building")));
        let mut voice = Voice {
            held: watch::channel(Held::default()).1,
            observation,
            heartbeat: watch::channel(None).1,
            log_changes: logs.changes(),
            logs,
            told: Told::default(),
        };
        let mut says = || -> Vec<&'static str> {
            let name = |message| match message {
                Up::BuildLog { build, .. } if build == "one" => "the log of one",
                Up::BuildLog { .. } => "the log of the other",
                Up::Observed(_) => "what is seen",
                _ => "something else",
            };
            voice.seen(&Kept::default()).into_iter().map(name).collect()
        };
        let write = |text: &str| ["one", "other"].map(|uid| written.append(uid, text));
        write("first\n");
        assert_eq!(says(), ["what is seen", "the log of one", "the log of the other"]);
        write("last\n");
        show.send_replace(Arc::new(seen("Succeeded")));
        assert_eq!(says(), ["the log of one", "what is seen", "the log of the other"]);
    }

    #[test]
    fn what_a_thousand_programs_wrote_last_goes_in_messages_of_an_allowed_size() {
        let instance = |number: usize| InstanceObservation {
            uid: number.to_string(),
            namespace: "acme".to_owned(),
            name: "web".to_owned(),
            phase: crds::instance::InstancePhase::Failed,
            ready: false,
            routed: false,
            reason: None,
            message: None,
            container_id: None,
            address: None,
            started_at: None,
            restarts: 3,
            // 4 KiB of what takes six bytes each as JSON.
            last_exit: Some(crds::instance::LastExit { log: Some("\u{1}".repeat(4096)), ..Default::default() }),
        };
        let whole = Observation {
            full: true,
            revision: 7,
            instances: (0..1000).map(instance).collect(),
            ..Observation::default()
        };
        let pieces = pieces(whole.clone());
        for piece in &pieces {
            assert!(serde_json::to_vec(&Up::Observed(piece.clone())).unwrap().len() < FRAME_BYTES_MAX);
        }
        assert_eq!(pieces.iter().map(|piece| piece.full).collect::<Vec<_>>(), [true, false, false, false, false]);
        let told: Vec<InstanceObservation> = pieces.into_iter().flat_map(|piece| piece.instances).collect();
        assert_eq!(told, whole.instances);
    }
}
