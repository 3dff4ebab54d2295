//! What makes images out of source, from the first word of its log to the last.

use std::sync::Arc;

use node_protocol::{BuildObservation, BuildTask};

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
