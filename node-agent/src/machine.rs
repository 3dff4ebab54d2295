//! What the agent asks of a machine: to run containers, to build images, to route requests.
//!
//! `docker.rs` and `nginx/` do it for real, `fake.rs` in memory. Nothing here decides anything: that is `plan.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use node_protocol::{BuildObservation, BuildTask, PartState, UsageSample};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Bytes that arrive bit by bit.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;
/// What a program writes.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<Output, Error>> + Send>>;
/// What the container engine says has changed.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EngineEvent, Error>> + Send>>;

/// Why the container engine did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or something still uses it.
    #[error("{0}")]
    Conflict(String),
    /// The engine does not answer.
    #[error("the container engine does not answer: {0}")]
    Unreachable(String),
    /// The engine answered, and refused.
    #[error("{0}")]
    Refused(String),
    /// It was cancelled from our side.
    #[error("cancelled")]
    Cancelled,
}

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

/// A network to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Name of its bridge interface; begins with [`BRIDGE_PREFIX`], so that the firewall covers it.
    pub bridge: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// Bridges of ours begin with this. The firewall drops what comes from `bth-+` to the host and the metadata address.
pub const BRIDGE_PREFIX: &str = "bth-";
/// What the name of a bridge begins with on which builds reach the outside. Other names go on with a hexadecimal digit,
/// so no project's bridge begins like this.
pub const OUTSIDE_BRIDGE_PREFIX: &str = "bth-o";

/// A network of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Its id, `sha256:…`.
    pub id: String,
    /// Its references.
    pub tags: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The TCP ports it exposes.
    pub ports: BTreeSet<u16>,
    /// The user its process runs as; empty = root.
    pub user: String,
    /// Its entry point.
    pub entrypoint: Vec<String>,
    /// Its command.
    pub command: Vec<String>,
    /// Bytes.
    pub size_bytes: u64,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Instructions for whoever builds from it, which the builder would carry out unread.
    pub triggers: Vec<String>,
}

impl Image {
    /// Whether a text found it only because its id begins like that, and not because it is its name.
    pub fn is_found_by_id(&self, text: &str) -> bool {
        let hex = self.id.strip_prefix("sha256:").unwrap_or_default();
        let begins = self.id.starts_with(text) || hex.starts_with(text);
        begins && !self.tags.iter().any(|tag| tag == text || tag.strip_suffix(":latest") == Some(text))
    }
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

/// Where a helper container's traffic may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelperNetwork {
    /// Nowhere.
    None,
    /// To the outside, but to no project, not to the host and not to the metadata address.
    Outside,
}

/// A named volume in a helper container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// The volume's name; it is made, with this node's label, if it is not there.
    pub volume: String,
    /// Where it is seen.
    pub path: String,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// A container that does one thing and ends: fetches source, packs files.
///
/// It gets the hardening of an instance; labels `dev.berth.node` and `dev.berth.helper` are added, so that what a
/// crash leaves behind is found and removed.
pub struct HelperSpec {
    /// Its name; an older one of this name is removed first.
    pub name: String,
    /// Reference or id of its image.
    pub image: String,
    /// Its arguments, instead of the image's command and entry point.
    pub command: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The folder it starts in.
    pub working_dir: Option<String>,
    /// `uid:gid` it runs as; none = the image's own.
    pub user: Option<String>,
    /// Where its traffic may go.
    pub network: HelperNetwork,
    /// Its named volumes.
    pub volumes: Vec<VolumeMount>,
    /// Folders in memory, with their size in bytes.
    pub tmpfs: Vec<(String, u64)>,
    /// Files put into it before it starts: a tar, unpacked at `/`.
    pub files: Option<Bytes>,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory; there is no swap.
    pub memory_bytes: u64,
    /// Processes.
    pub pids: u64,
    /// Extra `name:address` lines for its hosts file: an address that was checked stays the one that is used.
    pub extra_hosts: Vec<String>,
    /// Whether it is kept when it has ended, so that files can be copied out of it. Then whoever asked removes it.
    pub keep: bool,
}

/// How a helper container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelperExit {
    /// The container's id; gone already unless it was to be kept.
    pub container: String,
    /// Its exit code.
    pub code: i64,
    /// Whether the kernel ended it for want of memory.
    pub out_of_memory: bool,
}

/// An image to build from a Dockerfile.
pub struct ImageBuild {
    /// The context: an uncompressed tar.
    pub context: ByteStream,
    /// Path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Labels of the image; `dev.berth.node` is added.
    pub labels: BTreeMap<String, String>,
    /// The reference it gets.
    pub tag: String,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory; there is no swap.
    pub memory_bytes: u64,
    /// Where its traffic may go.
    pub network: HelperNetwork,
    /// Whether the layers of earlier builds may be used.
    pub cache: bool,
}

/// What builds images. Dropping a future stops nothing by itself: `cancel` does, and ends what was started.
pub trait Workshop: Send + Sync + 'static {
    /// Runs a helper container to its end; its output, both streams as written, goes to `output` as it comes. A full
    /// channel slows the container down; a closed one is ignored. On cancel it is killed and removed.
    fn run_helper(
        &self,
        spec: HelperSpec,
        output: mpsc::Sender<Bytes>,
        cancel: &CancellationToken,
    ) -> impl Future<Output = Result<HelperExit, Error>> + Send;
    /// A file or folder of a container, running or not, as a tar.
    fn copy_out(&self, container: &str, path: &str) -> ByteStream;
    /// Removes a helper container that was kept, whatever it does.
    fn remove_helper(&self, container: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Builds an image and gives its id; the builder's words go to `output` as they come. A failed step is
    /// [`Error::Refused`] with the builder's last words.
    fn build_image(
        &self,
        build: ImageBuild,
        output: mpsc::Sender<Bytes>,
        cancel: &CancellationToken,
    ) -> impl Future<Output = Result<String, Error>> + Send;
    /// An image by reference or id; `None` if it is not here.
    fn inspect_image(&self, reference: &str) -> impl Future<Output = Result<Option<Image>, Error>> + Send;
    /// Fetches an image from its registry; does nothing if it is here already.
    fn ensure_image(&self, reference: &str) -> impl Future<Output = Result<Image, Error>> + Send;
    /// Free bytes of the disk on which images are made; none where that cannot be told.
    fn free_bytes(&self) -> impl Future<Output = Option<u64>> + Send;
    /// Gives an image another reference.
    fn tag_image(&self, image: &str, reference: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// Takes a reference from an image, and the image away with its last one; does nothing if it is gone.
    fn untag_image(&self, reference: &str) -> impl Future<Output = Result<(), Error>> + Send;
    /// An image as `docker save` writes it.
    fn save_image(&self, reference: &str) -> ByteStream;
    /// Removes a named volume, unless it is gone.
    fn remove_volume(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A DNS host name as it may stand in a configuration file: lower case letters, digits, dots and hyphens, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host(String);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no host name")]
pub struct NotAHost(pub String);

impl FromStr for Host {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // 253 is what DNS allows in text.
        if text.len() <= 253 && text.split('.').all(label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAHost(text.to_owned()))
        }
    }
}

/// Where requests go, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routes {
    /// Port for http.
    pub http_port: u16,
    /// Port for https.
    pub https_port: u16,
    /// Sites by the uid of their application.
    pub sites: BTreeMap<String, Site>,
}

/// The hosts of one application and what answers for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The application's namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
    /// Its hosts.
    pub hosts: Vec<Host>,
    /// Addresses of its healthy instances; none = 503.
    pub backends: Vec<SocketAddr>,
}

/// What is live after [`Router::apply`] has returned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Sites that are not as asked, by the application's uid, and why. All others are live, and no process serves an
    /// older configuration to new connections.
    pub failed: BTreeMap<String, String>,
}

/// Why no route changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RouterError(pub String);

/// What leads requests to instances.
pub trait Router: Send + Sync + 'static {
    /// Makes these routes live, and returns when they are: the new generation answers. What was live before stays so
    /// on an error. Applying what is live already is cheap. Calls never overlap.
    fn apply(&self, routes: &Routes) -> impl Future<Output = Result<Live, RouterError>> + Send;
    /// Its version, if it is there.
    fn version(&self) -> impl Future<Output = Option<String>> + Send;
    /// Whether it runs; looks anew, for it is asked before every heartbeat.
    fn state(&self) -> impl Future<Output = PartState> + Send;
}

/// Takes a build's log, piece by piece. Never blocks for long: it appends to a file.
pub type LogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// What makes images out of source. Keeps what it has to say until [`Builder::forget`].
pub trait Builder: Send + Sync + 'static {
    /// Begins a build, unless it runs or has ended: called at every look at the assignment. After a restart of the
    /// agent it finds what an earlier process finished, and begins anew what that one left undone. With `cancel` set
    /// it ends what it started and reports `Cancelled`.
    fn run(&self, task: &BuildTask, log: LogSink);
    /// Ends what it still does for a build that is not assigned any more, and forgets it.
    fn forget(&self, uid: &str);
    /// The builds it knows.
    fn observe(&self) -> Vec<BuildObservation>;
    /// Waits until something about them has changed since this was last waited for.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}
