//! What builds images of a Dockerfile, and runs the helpers that a build needs. When to do so is the builder's business.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ByteStream, Error, Image};

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
