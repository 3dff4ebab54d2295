//! What runs instances: containers, what happens to them, what their programs write and use.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use node_protocol::UsageSample;
use tokio::io::AsyncWrite;

use super::{Error, Image, Network, NetworkSpec};

/// What a program writes.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<Output, Error>> + Send>>;
/// What the container engine says has changed.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EngineEvent, Error>> + Send>>;

/// Which container engine this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engine {
    /// Its version.
    pub version: String,
    /// Where it keeps images and containers.
    pub data_root: String,
}

/// Something changed about a container, network or image of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineEvent {
    /// The container's id, if it is about one.
    pub container: Option<String>,
    /// Docker's word: `start`, `die`, `oom`, …
    pub action: String,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, and never started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
    /// The engine takes it away.
    Removing,
    /// A state this agent does not know; it is left alone until it changes.
    Unknown,
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: ContainerState,
    /// When its process started last.
    pub started_at: Option<Timestamp>,
    /// When its process ended last.
    pub finished_at: Option<Timestamp>,
    /// The exit code of a process that has ended.
    pub exit_code: Option<i64>,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// Id of the image it was made from.
    pub image: String,
    /// Its address on its project's network, while it runs.
    pub address: Option<IpAddr>,
}

/// A container to make. Hardening is not here: every container gets all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Reference or id of its image.
    pub image: String,
    /// Arguments that replace the image's own command and entry point.
    pub command: Option<Vec<String>>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The network it joins, the only one.
    pub network: String,
    /// Names under which its neighbours find it there.
    pub aliases: Vec<String>,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory; there is no swap.
    pub memory_bytes: u64,
    /// Whether its root is read-only, with a `/tmp` in memory.
    pub read_only: bool,
}

/// A piece of what a program writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whether it was written to standard error.
    pub errors: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// A program to run in a running container: as the container's user, and hardened as its own program is.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it gets input.
    pub stdin: bool,
    /// Whether its standard output is wanted.
    pub stdout: bool,
    /// Whether its standard error is wanted.
    pub stderr: bool,
    /// Whether it gets a terminal, whose output is all standard output.
    pub tty: bool,
}

/// A program that was started by [`Containers::exec`].
pub struct Process {
    /// By which the engine knows it.
    pub id: String,
    /// What it writes; ends when it has ended.
    pub output: OutputStream,
    /// What it reads; shut down to say that there is no more.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// Which part of a container's log.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the protocol's own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether to go on with what is written from now on.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u32>,
    /// Not what was written before.
    pub since: Option<Timestamp>,
    /// Not what was written after.
    pub until: Option<Timestamp>,
    /// Whether lines begin with their time.
    pub timestamps: bool,
    /// Whether standard output is wanted.
    pub stdout: bool,
    /// Whether standard error is wanted.
    pub stderr: bool,
}

impl Default for LogQuery {
    /// All that was written so far.
    fn default() -> Self {
        Self {
            follow: false,
            tail_lines: None,
            since: None,
            until: None,
            timestamps: false,
            stdout: true,
            stderr: true,
        }
    }
}

/// What runs instances. Every method is idempotent, and sees only what bears this node's label.
pub trait Containers: Send + Sync + 'static {
    /// Which engine it is; also the question whether it answers.
    fn engine(&self) -> impl Future<Output = Result<Engine, Error>> + Send;
    /// What happens from now on. Ends when the engine goes away.
    fn events(&self) -> EventStream;
    /// All containers of this node.
    fn containers(&self) -> impl Future<Output = Result<Vec<Container>, Error>> + Send;
    /// One container of this node; `None` if it is gone.
    fn container(&self, id: &str) -> impl Future<Output = Result<Option<Container>, Error>> + Send;
    /// Makes a container and gives its id; the one that has this name already, if it is of the same instance.
    fn create(&self, spec: &ContainerSpec) -> impl Future<Output = Result<String, Error>> + Send;
    /// Starts it.
    fn start(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Asks it to end, and ends it after `patience`.
    fn stop(&self, id: &str, patience: Duration) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes it, whatever it does.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// The networks of this node.
    fn networks(&self) -> impl Future<Output = Result<Vec<Network>, Error>> + Send;
    /// Makes a network unless it is there.
    fn ensure_network(&self, spec: &NetworkSpec) -> impl Future<Output = Result<(), Error>> + Send;
    /// Removes a network unless it is gone.
    fn remove_network(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// An image by reference or id; `None` if it is not here.
    fn image(&self, reference: &str) -> impl Future<Output = Result<Option<Image>, Error>> + Send;
    /// Fetches an image from its registry.
    fn pull(&self, reference: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// The images that were built for this node.
    fn built_images(&self) -> impl Future<Output = Result<Vec<Image>, Error>> + Send;
    /// Images that a build left when it failed, and that nothing was made from since.
    fn unfinished_images(&self) -> impl Future<Output = Result<Vec<Image>, Error>> + Send;
    /// The images that were fetched for this node, with when each was last asked for.
    fn pulled_images(&self) -> BTreeMap<String, Timestamp>;
    /// Removes an image by reference or id, unless it is gone.
    fn remove_image(&self, reference: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// How many bytes each running container has written to its own disk. Takes seconds: the engine counts files.
    fn written(&self) -> impl Future<Output = Result<BTreeMap<String, u64>, Error>> + Send;
    /// A container's log, in the order in which it was written.
    fn logs(&self, id: &str, query: &LogQuery) -> OutputStream;
    /// Starts another program in a running container.
    fn exec(&self, id: &str, spec: &ExecSpec) -> impl Future<Output = Result<Process, Error>> + Send;
    /// Says how large the terminal of such a program is.
    fn resize(&self, process: &str, width: u16, height: u16) -> impl Future<Output = Result<(), Error>> + Send;
    /// The exit code of such a program; `None` while it runs.
    fn exit_code(&self, process: &str) -> impl Future<Output = Result<Option<i64>, Error>> + Send;
    /// What a container uses; processor time is over the time since the last call for it.
    fn usage(&self, id: &str) -> impl Future<Output = Result<UsageSample, Error>> + Send;
}
