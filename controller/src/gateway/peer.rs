//! One node as the gateway knows it: what it was told, what it reports, and the connection it has, if any.

use std::sync::{Mutex, MutexGuard, PoisonError};

use node_protocol::{Assignment, Down};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::streams::Streams;
use super::writer::Writer;

/// Messages that wait for an agent. It answers in milliseconds: one that is this far behind is gone or stuck, and is
/// better off connecting anew, which brings it up to date at once.
const QUEUE_MAX: usize = 256;

/// One node.
pub(super) struct Peer {
    uid: String,
    name: String,
    key: String,
    writer: Writer,
    streams: Streams,
    /// Ends everything of this peer: the node is gone or has another key.
    ended: CancellationToken,
    told: Mutex<Option<Assignment>>,
    connection: Mutex<Option<Connection>>,
}

/// A way to the agent.
#[derive(Clone)]
struct Connection {
    queue: mpsc::Sender<Down>,
    closed: CancellationToken,
}

/// The connection's own end.
pub(super) struct Attached {
    /// What is to be sent.
    pub(super) queued: mpsc::Receiver<Down>,
    /// For answers.
    pub(super) queue: mpsc::Sender<Down>,
    /// Says that another connection has taken over, or the peer has ended.
    pub(super) closed: CancellationToken,
}

impl Peer {
    pub(super) fn new(uid: &str, name: &str, key: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
            writer: Writer::default(),
            streams: Streams::default(),
            ended: CancellationToken::new(),
            told: Mutex::new(None),
            connection: Mutex::new(None),
        }
    }

    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The public key, as it stands in the Node, by which the agent was recognised.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// What this gateway told the node last.
    pub(super) fn told(&self) -> Option<Assignment> {
        lock(&self.told).clone()
    }

    pub(super) fn remember(&self, told: &Assignment) {
        *lock(&self.told) = Some(told.clone());
    }

    /// Makes a new connection the node's own. An earlier one is closed: an agent has one, and the newer is the one
    /// that works.
    pub(super) fn attach(&self) -> Attached {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let closed = self.ended.child_token();
        let connection = Connection { queue: queue.clone(), closed: closed.clone() };
        if let Some(earlier) = lock(&self.connection).replace(connection) {
            earlier.closed.cancel();
        }
        Attached { queued, queue, closed }
    }

    /// Takes a connection back, unless another has taken its place.
    pub(super) fn detach(&self, closed: &CancellationToken) {
        // Whoever took over has cancelled this one.
        if !closed.is_cancelled() || self.ended.is_cancelled() {
            *lock(&self.connection) = None;
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        lock(&self.connection).is_some()
    }

    /// Sends a message to the agent, if there is a connection that takes it. Gives what ends with that connection.
    pub(super) fn send(&self, message: Down) -> Option<impl Future<Output = ()> + use<>> {
        let queue = lock(&self.connection).as_ref()?.queue.clone();
        queue.try_send(message).ok()?;
        Some(async move { queue.closed().await })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
