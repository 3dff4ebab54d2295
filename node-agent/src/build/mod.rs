//! Makes images out of source. Read this first; `work.rs` is what one build does.
//!
//! A build that is asked for is either known, or begun anew. How it ended is kept on disk until nobody asks for it any
//! more; what it was doing when the agent died is not, and is done again from the beginning.

mod check;
mod clone;
mod context;
mod detect;
mod dockerfile;
mod failure;
mod ignore;
mod log;
mod render;
mod source;
mod state;
mod versions;
mod work;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::build::BuildPhase;
use futures::FutureExt as _;
use ipnet::IpNet;
use node_protocol::{BuildObservation, BuildTask};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::machine::{Builder, LogSink, Workshop};
use failure::Failure;
use state::Folder;

/// How many builds may wait on a node. One that is not taken is asked for again, so nothing is lost.
const QUEUE_MAX: usize = 100;

/// Logs and data of a node's instances grow by less in the time until somebody has looked.
const FREE_BYTES_MIN: u64 = 1 << 30;
/// How often free disk is looked at: what a disk writes meanwhile is less than that.
const DISK_LOOK: Duration = Duration::from_secs(3);

/// How builds are done on this node.
#[derive(Clone, Debug)]
pub struct BuildSettings {
    /// The agent's data folder.
    pub data_dir: PathBuf,
    /// Image in which git runs.
    pub git_image: String,
    /// More certificates that builds trust, PEM.
    pub extra_ca_file: Option<PathBuf>,
    /// Networks that sources may be in although they are private.
    pub source_networks: Vec<IpNet>,
    /// How many builds run at a time.
    pub parallel: usize,
    /// Builds end when the node's disk has less than this free: what runs there needs it more.
    pub free_bytes_min: u64,
}

impl BuildSettings {
    /// Berth's own image for git, no certificates but the machine's, no private sources, one build at a time: a second
    /// one would slow down what the node is there for.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            git_image: "berth/git:1".to_owned(),
            extra_ca_file: None,
            source_networks: Vec::new(),
            parallel: 1,
            free_bytes_min: FREE_BYTES_MIN,
        }
    }
}

/// The builds of a node.
pub struct Builds<W: Workshop> {
    inner: Arc<Inner<W>>,
    tasks: Mutex<JoinSet<()>>,
    runtime: Handle,
}

struct Inner<W> {
    workshop: Arc<W>,
    settings: BuildSettings,
    folder: Folder,
    slots: Semaphore,
    builds: Mutex<BTreeMap<String, Entry>>,
    changed: Notify,
}

struct Entry {
    observation: BuildObservation,
    stop: CancellationToken,
    /// Nobody asks for it any more: it goes when it has ended.
    forgotten: bool,
}

impl<W: Workshop> Builds<W> {
    /// Builds in this workshop. Must be called inside a Tokio runtime. Knows again what has ended before.
    pub fn new(workshop: Arc<W>, settings: BuildSettings) -> io::Result<Self> {
        let folder = Folder::open(&settings.data_dir)?;
        let known = folder.finished().into_iter().map(|observation| {
            let entry = Entry { observation, stop: CancellationToken::new(), forgotten: false };
            (entry.observation.uid.clone(), entry)
        });
        let inner = Inner {
            workshop,
            slots: Semaphore::new(settings.parallel.max(1)),
            settings,
            builds: Mutex::new(known.collect()),
            folder,
            changed: Notify::new(),
        };
        Ok(Self { inner: Arc::new(inner), tasks: Mutex::default(), runtime: Handle::current() })
    }
}

impl<W: Workshop> Builder for Builds<W> {
    fn run(&self, task: &BuildTask, log: LogSink) {
        let mut builds = self.inner.builds();
        if let Some(entry) = builds.get(&task.uid) {
            if task.cancel {
                entry.stop.cancel();
            }
            return;
        }
        if builds.values().filter(|entry| !entry.observation.phase.is_final()).count() >= QUEUE_MAX {
            return;
        }
        let stop = CancellationToken::new();
        if task.cancel {
            stop.cancel();
        }
        let observation = BuildObservation {
            uid: task.uid.clone(),
            namespace: task.namespace.clone(),
            name: task.name.clone(),
            phase: BuildPhase::Pending,
            commit: None,
            runtime: None,
            image: None,
            digest: None,
            start_command: None,
            port: None,
            started_at: None,
            finished_at: None,
            exit_code: None,
            failure: None,
        };
        builds.insert(task.uid.clone(), Entry { observation, stop: stop.clone(), forgotten: false });
        drop(builds);
        let (inner, task) = (Arc::clone(&self.inner), task.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(async move { inner.build(task, log, stop).await }, &self.runtime);
    }

    fn forget(&self, uid: &str) {
        let mut builds = self.inner.builds();
        let Some(entry) = builds.get_mut(uid) else { return };
        if !entry.observation.phase.is_final() {
            entry.forgotten = true;
            entry.stop.cancel();
            return;
        }
        builds.remove(uid);
        drop(builds);
        self.inner.remove_folder(uid);
    }

    fn observe(&self) -> Vec<BuildObservation> {
        self.inner.builds().values().map(|entry| entry.observation.clone()).collect()
    }

    async fn changed(&self) {
        self.inner.changed.notified().await;
    }
}

impl<W: Workshop> Inner<W> {
    fn builds(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is reported of a build.
    fn report(&self, uid: &str, change: impl FnOnce(&mut BuildObservation)) {
        if let Some(entry) = self.builds().get_mut(uid) {
            change(&mut entry.observation);
        }
        self.changed.notify_one();
    }

    fn remove_folder(&self, uid: &str) {
        if let Err(problem) = self.folder.remove(uid) {
            tracing::warn!(%problem, build = uid, "the folder of a build stays");
        }
    }

    /// One build from its place in the queue to its end.
    async fn build(&self, task: BuildTask, log: LogSink, stop: CancellationToken) {
        let uid = task.uid.clone();
        // Waiting costs no time of the build's own.
        let slot = stop.run_until_cancelled(self.slots.acquire()).await;
        let ended = match slot {
            None | Some(Err(_)) => Err(Failure::new("Cancelled", "the build was cancelled before it began")),
            Some(Ok(_slot)) => {
                self.report(&uid, |build| {
                    build.phase = BuildPhase::Cloning;
                    build.started_at = Some(clock::now().to_string());
                });
                self.in_time(&task, log, &stop).await
            }
        };
        self.end(&uid, ended);
    }

    /// Does the work, and stops it when its time is over. It is never dropped: it ends what it started.
    async fn in_time(&self, task: &BuildTask, log: LogSink, stop: &CancellationToken) -> Result<work::Built, Failure> {
        let allowed = Duration::from_millis(task.timeout_milliseconds);
        let time_over = stop.child_token();
        let work = std::panic::AssertUnwindSafe(work::work(self, task, log, &time_over)).catch_unwind();
        let mut work = std::pin::pin!(work);
        let (mut late, mut full) = (false, false);
        let done = tokio::select! {
            done = &mut work => done,
            () = tokio::time::sleep(allowed) => {
                late = true;
                time_over.cancel();
                work.await
            }
            () = self.disk_is_full() => {
                full = true;
                time_over.cancel();
                work.await
            }
        };
        let done = done.unwrap_or_else(|_panic| {
            Err(Failure::new("BuilderUnavailable", "the agent met something it did not expect; its log says more"))
        });
        match done {
            Err(_) if late => {
                Err(Failure::new("TimedOut", format!("the build took longer than {} s", allowed.as_secs()))
                    .hint("raise spec.build.timeout (15m at most), or let the build do less"))
            }
            Err(_) if full => {
                Err(Failure::new("BuilderUnavailable", "the node's disk has too little room left for a build")
                    .hint("the administrator must make room; or let the build write less"))
            }
            Err(_) if stop.is_cancelled() => Err(Failure::new("Cancelled", "the build was cancelled")),
            done => done,
        }
    }

    /// Waits until the disk has too little room; for ever where that cannot be told.
    async fn disk_is_full(&self) {
        while self.workshop.free_bytes().await.is_none_or(|free| free >= self.settings.free_bytes_min) {
            tokio::time::sleep(DISK_LOOK).await;
        }
    }

    fn end(&self, uid: &str, ended: Result<work::Built, Failure>) {
        let mut builds = self.builds();
        let Some(entry) = builds.get_mut(uid) else { return };
        let build = &mut entry.observation;
        build.finished_at = Some(clock::now().to_string());
        match ended {
            Ok(built) => {
                build.phase = BuildPhase::Succeeded;
                (build.image, build.digest, build.port) =
                    (Some(built.image), Some(built.id), built.port.map(i32::from));
                build.exit_code = Some(0);
            }
            Err(failure) => {
                let cancelled = failure.reason == "Cancelled";
                build.phase = if cancelled { BuildPhase::Cancelled } else { BuildPhase::Failed };
                build.exit_code = failure.exit_code;
                build.failure = Some(failure.report());
            }
        }
        let (forgotten, observation) = (entry.forgotten, entry.observation.clone());
        if forgotten {
            builds.remove(uid);
        }
        drop(builds);
        if forgotten {
            self.remove_folder(uid);
        } else if let Err(problem) = self.folder.finish(&observation) {
            tracing::warn!(%problem, build = uid, "how a build ended could not be kept");
        }
        self.changed.notify_one();
    }
}
