//! Carries steps out, one subject at a time, and says what became of them. Decides nothing.

use std::sync::Arc;
use std::time::Duration;

use crds::instance::LastExit;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};

use crate::history::Histories;
use crate::machine::{Container, Containers, Error, Live, LogQuery, Network, Router, RouterError, Routes};
use crate::observed::{History, ImageState, Subject};
use crate::plan::{Step, after};

/// Time between SIGTERM and SIGKILL, as Docker's own default.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How much of a container's last output is kept with how it ended.
const LAST_LOG_LINES: u32 = 50;
const LAST_LOG_BYTES: usize = 4096;
/// First and longest time until an image that could not be fetched is tried again.
const PULL_RETRY: SignedDuration = SignedDuration::from_secs(10);
const PULL_RETRY_MAX: SignedDuration = SignedDuration::from_mins(5);

/// What a step has changed, as far as is known.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// An image, by how it is asked for; `None`: look again.
    Image(String, Option<ImageState>),
    /// A container, by id; `None`: gone.
    Container(String, Option<Container>),
    /// A network, by name; `None`: gone.
    Network(String, Option<Network>),
    /// What is remembered of an instance; `None`: nothing.
    History(String, Option<History>),
    /// What is live after these routes were asked for.
    Live(Routes, Live),
}

/// What became of the steps about a subject.
#[derive(Debug)]
pub(crate) struct Done {
    /// The subject.
    pub(crate) subject: Subject,
    /// What was changed, in order.
    pub(crate) outcomes: Vec<Outcome>,
    /// Why it ended early, if it did.
    pub(crate) error: Option<Error>,
}

/// Carries out the steps about one subject, in order, until one fails.
pub(crate) struct Execution<C, R> {
    /// Runs containers.
    pub(crate) containers: Arc<C>,
    /// Routes requests.
    pub(crate) router: Arc<R>,
    /// Remembers.
    pub(crate) histories: Histories,
    /// When this was planned.
    pub(crate) now: Timestamp,
    /// What is remembered of the instance, if the subject is one.
    pub(crate) history: History,
    /// How often the image could not be had, if the subject is one.
    pub(crate) attempts: u32,
}

impl<C: Containers, R: Router> Execution<C, R> {
    /// Carries the steps out.
    pub(crate) async fn run(mut self, subject: Subject, steps: Vec<Step>) -> Done {
        let mut done = Done { subject, outcomes: Vec::new(), error: None };
        for step in steps {
            tracing::debug!(subject = ?done.subject, step = %summary(&step), "step");
            if let Err(error) = self.step(&done.subject, step, &mut done.outcomes).await {
                done.error = Some(error);
                break;
            }
        }
        done
    }

    async fn step(&mut self, subject: &Subject, step: Step, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        match step {
            Step::Look { image } => {
                let state = self.containers.image(&image).await?.map_or(ImageState::Absent, ImageState::Here);
                outcomes.push(Outcome::Image(image, Some(state)));
            }
            Step::Pull { image, reference } => {
                let state = self.pull(&image, &reference).await?;
                outcomes.push(Outcome::Image(image, Some(state)));
            }
            Step::EnsureNetwork(spec) => {
                self.containers.ensure_network(&spec).await?;
                let network = Network { name: spec.name.clone(), labels: spec.labels };
                outcomes.push(Outcome::Network(spec.name, Some(network)));
            }
            Step::Create(spec) => {
                let made = self.containers.create(&spec).await;
                if let Err(Error::NotFound(_)) = made {
                    // The image or the network that was there a moment ago is not.
                    outcomes.push(Outcome::Network(spec.network.clone(), None));
                    outcomes.push(Outcome::Image(spec.image.clone(), None));
                }
                let id = made?;
                // So that a crash or a failure to start finds it.
                if let Some(container) = self.containers.container(&id).await? {
                    outcomes.push(Outcome::Container(id, Some(container)));
                }
            }
            Step::Start { container } => self.start(subject, &container, outcomes).await?,
            Step::NoteRestart { container } => {
                self.history.last_exit = self.last_exit(&container).await?;
                self.history.restart(self.now);
                self.remember(subject, outcomes)?;
            }
            Step::GiveUp { container, failed } => {
                self.history.last_exit = self.last_exit(&container).await?;
                self.history.failed = Some(failed);
                self.remember(subject, outcomes)?;
            }
            Step::Stop { container } => {
                self.containers.stop(&container, STOP_PATIENCE).await?;
                let now = self.containers.container(&container).await?;
                outcomes.push(Outcome::Container(container, now));
            }
            Step::Remove { container } => {
                self.containers.remove(&container).await?;
                outcomes.push(Outcome::Container(container, None));
            }
            Step::Forget => {
                if let Subject::Instance(uid) = subject {
                    self.histories.forget(uid).map_err(|error| not_written(&error))?;
                    outcomes.push(Outcome::History(uid.clone(), None));
                }
            }
            Step::Route(routes) => {
                let live = self.router.apply(&routes).await.map_err(|RouterError(message)| Error::Refused(message))?;
                outcomes.push(Outcome::Live(routes, live));
            }
            Step::RemoveNetwork { name } => {
                self.containers.remove_network(&name).await?;
                outcomes.push(Outcome::Network(name, None));
            }
        }
        Ok(())
    }

    async fn start(&mut self, subject: &Subject, container: &str, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        let started = self.containers.start(container).await;
        match &started {
            Ok(()) => {
                if self.history.start_failures > 0 {
                    self.history.start_failures = 0;
                    self.remember(subject, outcomes)?;
                }
            }
            Err(Error::Refused(message)) => {
                self.history.start_failures += 1;
                self.history.start_error = Some(message.clone());
                self.remember(subject, outcomes)?;
            }
            Err(_) => {}
        }
        let now = self.containers.container(container).await?;
        if let Some(now) = now {
            outcomes.push(Outcome::Container(now.id.clone(), Some(now)));
        }
        started
    }

    async fn pull(&self, image: &str, reference: &str) -> Result<ImageState, Error> {
        // By id it may be missed only because its reference was never fetched.
        let fetched = self.containers.pull(reference).await;
        let message = match fetched {
            Ok(()) => match self.containers.image(image).await? {
                Some(here) => return Ok(ImageState::Here(here)),
                None => format!("the image of this name is not {image} any more"),
            },
            Err(error @ (Error::Unreachable(_) | Error::Cancelled)) => return Err(error),
            Err(error) => error.to_string(),
        };
        let factor = 1_i32 << self.attempts.min(8);
        let delay = (PULL_RETRY * factor).min(PULL_RETRY_MAX);
        Ok(ImageState::Unavailable { message, retry_at: after(self.now, delay), attempts: self.attempts + 1 })
    }

    /// How a container ended, with its last words. One that still runs has not ended: then nothing changes.
    async fn last_exit(&self, container: &str) -> Result<Option<LastExit>, Error> {
        let Some(seen) = self.containers.container(container).await? else {
            return Ok(self.history.last_exit.clone());
        };
        let log = self.last_words(&seen).await;
        Ok(Some(LastExit {
            code: seen.exit_code.unwrap_or_default(),
            out_of_memory: seen.out_of_memory,
            at: seen.finished_at.map(|at| at.to_string()),
            log,
        }))
    }

    async fn last_words(&self, container: &Container) -> Option<String> {
        let query = LogQuery { tail_lines: Some(LAST_LOG_LINES), since: container.started_at, ..LogQuery::default() };
        let mut log = self.containers.logs(&container.id, &query);
        let mut bytes = Vec::new();
        while let Some(Ok(piece)) = log.next().await {
            bytes.extend_from_slice(&piece.bytes);
            if bytes.len() > 2 * LAST_LOG_BYTES {
                bytes.drain(..bytes.len() - LAST_LOG_BYTES);
            }
        }
        let from = bytes.len().saturating_sub(LAST_LOG_BYTES);
        let text = String::from_utf8_lossy(&bytes[from..]).into_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Writes down what is remembered, before anything is done that follows from it.
    fn remember(&self, subject: &Subject, outcomes: &mut Vec<Outcome>) -> Result<(), Error> {
        if let Subject::Instance(uid) = subject {
            self.histories.save(uid, &self.history).map_err(|error| not_written(&error))?;
            outcomes.push(Outcome::History(uid.clone(), Some(self.history.clone())));
        }
        Ok(())
    }
}

fn not_written(error: &std::io::Error) -> Error {
    Error::Refused(format!("cannot write to the agent's data folder: {error}"))
}

/// A step in a few words, without the environment, which may hold secrets.
fn summary(step: &Step) -> String {
    match step {
        Step::Look { image } => format!("look for {image}"),
        Step::Pull { reference, .. } => format!("pull {reference}"),
        Step::EnsureNetwork(spec) => format!("network {}", spec.name),
        Step::Create(spec) => format!("create {}", spec.name),
        Step::Start { container } => format!("start {container}"),
        Step::NoteRestart { container } => format!("restart {container}"),
        Step::GiveUp { container, failed } => format!("give {container} up: {}", failed.reason),
        Step::Stop { container } => format!("stop {container}"),
        Step::Remove { container } => format!("remove {container}"),
        Step::Forget => "forget".to_owned(),
        Step::Route(routes) => format!("route {} sites", routes.sites.len()),
        Step::RemoveNetwork { name } => format!("remove network {name}"),
    }
}

/// When something that failed is tried again: after 1, 2, 4 … 60 s.
pub(crate) fn retry_at(now: Timestamp, attempts: u32) -> Timestamp {
    after(now, SignedDuration::from_secs(i64::from(1_u32 << attempts.min(6)).min(60)))
}
