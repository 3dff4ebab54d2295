//! Fetches source: git runs in containers of its own, as nobody, and hands out an archive.
//!
//! Its address is resolved and judged here, and the container gets the answer, so that the name cannot mean another
//! machine a moment later. What signs in is put into the container as a file, and goes with it.

mod address;
mod settings;
mod words;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use crds::git::Commit;
use ipnet::IpNet;
use node_protocol::BuildTask;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::context::SOURCE_BYTES_MAX;
use super::failure::{Failure, of_clone, of_engine};
use super::log::Log;
use crate::labels;
use crate::machine::{HelperNetwork, HelperSpec, VolumeMount, Workshop};
use address::pinned_hosts;
use words::{parse_commit, received_bytes};

/// Where the repository lies in the helper containers, on a volume that they share.
const REPOSITORY: &str = "/app/repository";
/// Memory of a helper: git needs some to put together what it receives.
const MEMORY_BYTES: u64 = 1 << 30;
/// Processes of a helper: git starts a few of its own.
const PIDS: u64 = 64;
/// How much git may say of a commit.
const SAID_BYTES_MAX: usize = 64 << 10;

/// What a fetch needs to know.
pub(super) struct Fetch<'a, W> {
    pub(super) workshop: &'a W,
    pub(super) task: &'a BuildTask,
    /// Image with git.
    pub(super) image: &'a str,
    /// Networks that a source may be in although they are private.
    pub(super) networks: &'a [IpNet],
    /// Certificates to trust, PEM.
    pub(super) certificates: Option<&'a [u8]>,
    pub(super) log: &'a Mutex<Log>,
    pub(super) cancel: &'a CancellationToken,
}

/// What happens to what git prints.
enum Output<'a> {
    Log,
    Text(&'a mut Vec<u8>),
    File(&'a Path),
}

impl<W: Workshop> Fetch<'_, W> {
    /// Fetches the commit's files into an archive.
    pub(super) async fn run(&self, archive: &Path) -> Result<Commit, Failure> {
        let hosts = pinned_hosts(&self.task.git.url, self.networks).await?;
        self.forget().await;
        let fetched = self.fetch(&hosts, archive).await;
        self.forget().await;
        fetched
    }

    /// Removes what the containers shared.
    async fn forget(&self) {
        if let Err(problem) = self.workshop.remove_volume(&self.volume()).await {
            tracing::warn!(%problem, build = self.task.uid, "the volume of a clone stays");
        }
    }

    async fn fetch(&self, hosts: &[String], archive: &Path) -> Result<Commit, Failure> {
        let git = &self.task.git;
        let clone = ["clone", "--progress", "--no-checkout", "--depth=1", "--single-branch", "--no-tags"];
        let clone = clone.into_iter().chain([
            "--template=/berth/template",
            "--branch",
            &git.branch,
            "--",
            &git.url,
            REPOSITORY,
        ]);
        self.git("clone", clone, hosts, Output::Log).await?;
        let mut commit = self.commit("HEAD").await?;
        let wanted = git.commit.as_deref().filter(|wanted| *wanted != commit.sha);
        if let Some(wanted) = wanted {
            // The branch has moved on since.
            let fetch = ["-C", REPOSITORY, "fetch", "--progress", "--depth=1", "--no-tags", "origin", wanted];
            self.git("fetch", fetch, hosts, Output::Log).await?;
            commit = self.commit(wanted).await?;
        }
        let path = git.path.trim_start_matches("./").trim_matches('/');
        let tree = if path.is_empty() || path == "." { commit.sha.clone() } else { format!("{}:{path}", commit.sha) };
        let failed = |failure: Failure| match path {
            "" | "." => failure,
            path => Failure::new("CloneFailed", format!("there is no folder {path} in the repository"))
                .hint("check spec.source.git.path"),
        };
        let command = ["-C", REPOSITORY, "archive", "--format=tar", &tree];
        self.git("archive", command, &[], Output::File(archive))
            .await
            .map_err(|failure| if failure.exit_code.is_some() { failed(failure) } else { failure })?;
        Ok(commit)
    }

    async fn commit(&self, name: &str) -> Result<Commit, Failure> {
        let mut said = Vec::new();
        let command = ["-C", REPOSITORY, "log", "-1", "-z", "--format=%H%x00%an%x00%cI%x00%s", name];
        self.git("log", command, &[], Output::Text(&mut said)).await?;
        parse_commit(&said).ok_or_else(|| Failure::new("CloneFailed", "git does not say which commit it fetched"))
    }

    fn volume(&self) -> String {
        format!("berth-build-{}", self.task.uid)
    }

    /// Runs git once, in a container.
    async fn git(
        &self,
        step: &str,
        args: impl IntoIterator<Item = &str>,
        hosts: &[String],
        output: Output<'_>,
    ) -> Result<(), Failure> {
        let online = !hosts.is_empty() || matches!(output, Output::Log);
        let files = settings::files(&self.task.git, self.certificates, online);
        let spec = HelperSpec {
            name: format!("berth-build-{}-{step}", self.task.uid),
            image: self.image.to_owned(),
            command: ["git"].into_iter().chain(args).map(str::to_owned).collect(),
            env: settings::environment(),
            labels: [(labels::BUILD.to_owned(), self.task.uid.clone())].into(),
            working_dir: Some("/app".to_owned()),
            user: Some("65532:65532".to_owned()),
            network: if online { HelperNetwork::Outside } else { HelperNetwork::None },
            volumes: vec![VolumeMount { volume: self.volume(), path: "/app".to_owned(), read_only: false }],
            tmpfs: vec![("/tmp".to_owned(), 16 << 20)],
            files: Some(files.map_err(|e| Failure::new("CloneFailed", e.to_string()))?),
            cpu_millis: self.task.cpu_millis.max(500),
            memory_bytes: MEMORY_BYTES,
            pids: PIDS,
            extra_hosts: hosts.to_vec(),
            keep: false,
        };
        let (sender, receiver) = mpsc::channel(16);
        let stop = self.cancel.child_token();
        let words = Mutex::new(Vec::new());
        let take = self.take(receiver, output, &words, &stop);
        let (ended, taken) = tokio::join!(self.workshop.run_helper(spec, sender, &stop), take);
        taken?;
        let ended = ended.map_err(|problem| of_engine(&problem))?;
        if ended.code == 0 {
            return Ok(());
        }
        if ended.out_of_memory {
            return Err(Failure::new("OutOfMemory", "git needed more than 1 GiB of memory to fetch the source")
                .exit_code(ended.code));
        }
        let words = words.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(of_clone(&String::from_utf8_lossy(&words), &self.task.git.branch, ended.code))
    }

    async fn take(
        &self,
        mut receiver: mpsc::Receiver<Bytes>,
        output: Output<'_>,
        words: &Mutex<Vec<u8>>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let too_large = || {
            stop.cancel();
            Failure::new("CloneFailed", format!("the source has more than {} MiB", SOURCE_BYTES_MAX >> 20))
                .hint("keep large files elsewhere, or set spec.source.git.path")
        };
        let broken = |problem: std::io::Error| {
            stop.cancel();
            Failure::new("CloneFailed", format!("the source cannot be kept: {problem}"))
        };
        let mut file = match &output {
            Output::File(path) => Some(tokio::fs::File::create(path).await.map_err(broken)?),
            Output::Log | Output::Text(_) => None,
        };
        let mut output = output;
        let mut bytes = 0_u64;
        while let Some(piece) = receiver.recv().await {
            bytes += piece.len() as u64;
            match &mut output {
                Output::Log => {
                    self.log.lock().unwrap_or_else(PoisonError::into_inner).write(&piece);
                    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                    words.extend_from_slice(&piece);
                    // Only the end is ever asked for; git's progress comes before it.
                    let surplus = words.len().saturating_sub(SAID_BYTES_MAX);
                    words.drain(..surplus);
                    if received_bytes(&words).is_some_and(|received| received > SOURCE_BYTES_MAX) {
                        return Err(too_large());
                    }
                }
                Output::Text(text) if text.len() + piece.len() <= SAID_BYTES_MAX => text.extend_from_slice(&piece),
                Output::Text(_) => {}
                Output::File(_) if bytes > SOURCE_BYTES_MAX + (SOURCE_BYTES_MAX >> 2) => return Err(too_large()),
                Output::File(_) => {
                    if let Some(file) = &mut file {
                        file.write_all(&piece).await.map_err(broken)?;
                    }
                    if bytes <= SAID_BYTES_MAX as u64 {
                        words.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece);
                    }
                }
            }
        }
        if let Some(mut file) = file {
            file.flush().await.map_err(broken)?;
        }
        Ok(())
    }
}
