//! Log streams: a container's output, for as long as somebody reads.
//!
//! A slow reader slows its stream down and nothing else: each has a task of its own, which waits until its piece is
//! taken; Docker keeps the log meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use jiff::SignedDuration;
use node_protocol::{OpenStream, Up};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use crate::clock;
use crate::machine::{Container, Containers, LogQuery};

/// Streams open at a time; each costs a connection to Docker.
const STREAMS_MAX: usize = 64;
/// The longest piece that is sent at once; well below a frame.
const PIECE_BYTES_MAX: usize = 32 << 10;

/// The streams that are open.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: BTreeMap<u64, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Streams {
    /// Opens a stream of a container's log.
    pub(crate) fn open<C: Containers>(
        &mut self,
        containers: Arc<C>,
        asked: OpenStream,
        container: Option<Container>,
        pieces: mpsc::Sender<Up>,
    ) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|_, task| !task.is_finished());
        let (stream, full) = (asked.stream, self.open.len() >= STREAMS_MAX);
        let task = self.tasks.spawn(async move {
            let error = match container {
                _ if full => Some(format!("this node has {STREAMS_MAX} streams open already")),
                None => Some("the instance has no container on this node".to_owned()),
                Some(container) => follow(&*containers, &asked, &container, &pieces).await,
            };
            // If nobody is there to hear it, nobody needs it.
            if pieces.send(Up::StreamEnd { stream, error }).await.is_err() {
                tracing::debug!(stream, "the reader of a stream is gone");
            }
        });
        if let Some(before) = self.open.insert(stream, task) {
            before.abort();
        }
    }

    /// Closes a stream.
    pub(crate) fn close(&mut self, stream: u64) {
        if let Some(task) = self.open.remove(&stream) {
            task.abort();
        }
    }

    /// Closes them all.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
        self.tasks.abort_all();
    }
}

/// Sends a log to its end, or for as long as somebody reads; says what went wrong.
async fn follow<C: Containers>(
    containers: &C,
    asked: &OpenStream,
    container: &Container,
    pieces: &mpsc::Sender<Up>,
) -> Option<String> {
    let seconds = asked.since_seconds.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
    let since = seconds.and_then(|seconds| clock::now().checked_sub(SignedDuration::from_secs(seconds)).ok());
    let query = LogQuery {
        follow: asked.follow && !asked.previous,
        tail_lines: asked.tail_lines,
        since,
        // The same container is started again, so what was written before its last start is the one before.
        until: container.started_at.filter(|_| asked.previous),
        timestamps: asked.timestamps,
    };
    let mut log = containers.logs(&container.id, &query);
    while let Some(piece) = log.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => return Some(error.to_string()),
        };
        for part in piece.chunks(PIECE_BYTES_MAX) {
            let text = String::from_utf8_lossy(part).into_owned();
            let data = Up::StreamData { stream: asked.stream, text, dropped: 0 };
            pieces.send(data).await.ok()?;
        }
    }
    None
}
