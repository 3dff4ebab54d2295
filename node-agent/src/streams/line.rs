//! A stream's WebSocket: frames out, frames in, and the signs of life of both sides.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::SplitStream;
use futures::{SinkExt, StreamExt};
use node_protocol::{STREAM_DATA_BYTES_MAX, STREAM_PING_SECONDS, StreamEnd};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::session::Socket;

/// Frames that wait to be sent: 256 KiB.
const FRAMES: usize = 8;
/// The gateway shows three times in this that it is there.
const SILENCE_MAX: Duration = Duration::from_secs(3 * STREAM_PING_SECONDS);

/// Frames to the gateway.
pub(super) struct Outlet(mpsc::Sender<Vec<u8>>);

impl Outlet {
    /// Sends data of a channel, as frames; waits while the other side takes none. Fails when nobody is there any more.
    pub(super) async fn send(&self, channel: u8, data: &[u8]) -> Result<(), StreamEnd> {
        let empty = data.is_empty().then_some(data);
        for piece in data.chunks(STREAM_DATA_BYTES_MAX).chain(empty) {
            let mut frame = Vec::with_capacity(piece.len() + 1);
            frame.push(channel);
            frame.extend_from_slice(piece);
            self.0.send(frame).await.map_err(|_gone| gone())?;
        }
        Ok(())
    }

    /// Sends the last frame.
    pub(super) async fn end(&self, end: &StreamEnd) {
        drop(self.0.send(end.frame()).await);
    }
}

/// The end of a stream that nobody is interested in any more; nobody hears it either.
pub(super) fn gone() -> StreamEnd {
    StreamEnd::because("the other side of the stream is gone")
}

/// Frames from the gateway.
pub(super) struct Inlet(SplitStream<Socket>);

impl Inlet {
    /// The next frame; `None` when the other side is gone.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match timeout(SILENCE_MAX, self.0.next()).await {
                Ok(Some(Ok(Message::Binary(frame)))) if !frame.is_empty() => return Some(frame),
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
                Ok(Some(Ok(_))) => {}
            }
        }
    }

    /// Returns when the other side is gone; what it still says is of no interest.
    pub(super) async fn gone(mut self) {
        while self.next().await.is_some() {}
    }
}

/// Has a conversation over a socket, and sends what it says until it is over.
pub(super) async fn run(socket: Socket, conversation: impl AsyncFnOnce(Outlet, Inlet)) {
    let (mut sink, stream) = socket.split();
    let (frames, mut queued) = mpsc::channel(FRAMES);
    let sending = async move {
        let every = Duration::from_secs(STREAM_PING_SECONDS);
        let mut ping = interval_at(Instant::now() + every, every);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                frame = queued.recv() => match frame {
                    Some(frame) => Message::binary(frame),
                    None => break,
                },
                _ = ping.tick() => Message::Ping(Bytes::new()),
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        let goodbye = timeout(Duration::from_secs(2), sink.close()).await;
        tracing::trace!(heard = matches!(goodbye, Ok(Ok(()))), "said goodbye");
    };
    tokio::join!(conversation(Outlet(frames), Inlet(stream)), sending);
}
