//! Streams to the programs on nodes. Each is asked for over the node's connection and comes in as a WebSocket of its own,
//! so that TCP holds back whoever is faster than the other side, and nothing is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use crds::Instance;
use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use kube::ResourceExt;
use node_protocol::{
    Down, END, OUTPUT, OpenStream, STREAM_FRAME_BYTES_MAX, STREAM_PING_SECONDS, StreamEnd, StreamPurpose,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::Gateway;
use super::error::Refused;
use super::metrics::Metrics;

/// Streams of one node at a time: each costs a task and two buffers here, a task and a connection to Docker there.
const STREAMS_MAX: usize = 256;
/// Frames that wait in each direction: of 32 KiB at most, so 256 KiB.
const FRAMES: usize = 8;
/// An agent opens a stream in a round trip or two and the time that Docker takes.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// Each side shows three times in this that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(3 * STREAM_PING_SECONDS);
/// What a connection sets aside for reading.
const READ_BUFFER_BYTES: usize = 32 << 10;

/// A way into a program on a node: frames in both directions, as `node_protocol` describes them. Dropping it ends the
/// stream.
#[derive(Debug)]
pub struct Pipe {
    /// To the program.
    pub to: mpsc::Sender<Bytes>,
    /// From the program.
    pub from: mpsc::Receiver<Bytes>,
}

/// The streams of one node.
pub(super) struct Streams {
    open: Arc<Semaphore>,
    expected: Mutex<Expected>,
}

#[derive(Default)]
struct Expected {
    streams: BTreeMap<u64, (oneshot::Sender<Pipe>, OwnedSemaphorePermit)>,
    last: u64,
}

impl Default for Streams {
    fn default() -> Self {
        Self { open: Arc::new(Semaphore::new(STREAMS_MAX)), expected: Mutex::default() }
    }
}

impl Streams {
    /// A new stream's number, and where it comes in; `None` when there are too many.
    fn expect(&self) -> Option<(u64, oneshot::Receiver<Pipe>)> {
        let permit = Arc::clone(&self.open).try_acquire_owned().ok()?;
        let (arrived, arrives) = oneshot::channel();
        let mut expected = self.lock();
        expected.last += 1;
        let number = expected.last;
        expected.streams.insert(number, (arrived, permit));
        Some((number, arrives))
    }

    /// A stream is here, or nobody waits for it any more.
    fn take(&self, number: u64) -> Option<(oneshot::Sender<Pipe>, OwnedSemaphorePermit)> {
        self.lock().streams.remove(&number)
    }

    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets a stream that did not come.
struct Waiting<'a>(&'a Streams, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        drop(self.0.take(self.1));
    }
}

impl Gateway {
    /// Opens a way into the program of an instance.
    pub async fn open_stream(&self, instance: &Instance, purpose: StreamPurpose) -> Result<Pipe, Refused> {
        let name = instance.name_any();
        let Some(node) = &instance.spec.node_name else {
            return Err(Refused::bad_request(format!("the instance {name} has no node yet, and so does not run")));
        };
        let offline = || {
            Refused::unavailable(format!(
                "the node {node} of the instance {name} is not connected: it cannot be reached"
            ))
        };
        let peer = self.peers().values().find(|peer| peer.name() == node).map(Arc::clone).ok_or_else(offline)?;
        let Some((stream, arrives)) = peer.streams().expect() else {
            return Err(Refused::too_many(format!("too many streams of the node {node} are open at once"), 5));
        };
        let _waiting = Waiting(peer.streams(), stream);
        let open = OpenStream { stream, instance: instance.uid().unwrap_or_default(), purpose };
        let disconnected = peer.send(Down::OpenStream(open)).ok_or_else(offline)?;
        let late = || Refused::unavailable(format!("the node {node} of the instance {name} does not answer in time"));
        let opened = timeout(OPEN_WITHIN, async {
            let mut pipe = arrives.await.ok()?;
            let first = pipe.from.recv().await?;
            Some((pipe, first))
        });
        let (pipe, first) = tokio::select! {
            opened = opened => opened.ok().flatten().ok_or_else(late)?,
            () = disconnected => return Err(offline()),
        };
        match first.first() {
            Some(&OUTPUT) if first.len() == 1 => Ok(pipe),
            Some(&END) => {
                let end: StreamEnd = serde_json::from_slice(&first[1..]).unwrap_or_default();
                Err(Refused::bad_request(end.error.unwrap_or_else(|| format!("the instance {name} has ended"))))
            }
            _ => Err(Refused::unavailable(format!("the node {node} speaks another protocol: update its agent"))),
        }
    }
}

/// `GET …/{uid}/streams/{stream}`: an agent opens a stream that it was asked for.
pub(super) async fn accept(
    State(gateway): State<Gateway>,
    Path((uid, stream)): Path<(String, u64)>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let peer = gateway.recognise(&uid, &headers)?;
    let Some((arrived, permit)) = peer.streams().take(stream) else {
        return Err(Refused::not_found("nobody waits for this stream"));
    };
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(STREAM_FRAME_BYTES_MAX)
        .max_message_size(STREAM_FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        let _permit = permit;
        let (to, down) = mpsc::channel(FRAMES);
        let (up, from) = mpsc::channel(FRAMES);
        if arrived.send(Pipe { to, from }).is_ok() {
            let ended = async {
                tokio::select! {
                    () = peer.ended().cancelled() => {}
                    () = gateway.stopping().cancelled() => {}
                }
            };
            Box::pin(carry(socket, down, up, gateway.metrics(), ended)).await;
        }
    }))
}

/// Carries frames until either side has ended. What one side does not take waits, and with it the other.
async fn carry(
    socket: WebSocket,
    mut down: mpsc::Receiver<Bytes>,
    up: mpsc::Sender<Bytes>,
    metrics: &Metrics,
    ended: impl Future<Output = ()>,
) {
    let (mut sink, mut stream) = socket.split();
    let sending = async {
        let every = Duration::from_secs(STREAM_PING_SECONDS);
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                frame = down.recv() => match frame {
                    Some(frame) => Message::Binary(frame),
                    None => return,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let hearing = async {
        while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, stream.next()).await {
            match message {
                Message::Binary(frame) => {
                    metrics.log_bytes("streamed", frame.len() as u64);
                    if up.send(frame).await.is_err() {
                        return;
                    }
                }
                Message::Close(_) => return,
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = hearing => {}
        () = ended => {}
        // A reader that has gone is noticed although the program says nothing.
        () = up.closed() => {}
    }
    let frame = CloseFrame { code: close_code::NORMAL, reason: "".into() };
    let goodbye = timeout(Duration::from_secs(1), sink.send(Message::Close(Some(frame)))).await;
    tracing::trace!(heard = matches!(goodbye, Ok(Ok(()))), "said goodbye");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_numbered_bounded_and_taken_once() {
        let streams = Streams::default();
        let (first, _arrives) = streams.expect().unwrap();
        let (second, _arrives) = streams.expect().unwrap();
        assert_ne!(first, second);
        assert!(streams.take(first).is_some());
        assert!(streams.take(first).is_none(), "taken");
        assert!(streams.take(99).is_none(), "never asked for");
        drop(Waiting(&streams, second));
        assert!(streams.take(second).is_none(), "nobody waits any more");
        let open: Vec<_> = (0..STREAMS_MAX).map(|_| streams.expect().unwrap()).collect();
        assert!(streams.expect().is_none());
        for (number, _) in open {
            drop(streams.take(number));
        }
        assert!(streams.expect().is_some());
    }
}
