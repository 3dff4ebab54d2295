//! `GET …/{uid}/connect`: an agent's WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use http::HeaderMap;
use node_protocol::{AssignmentUpdate, Down, FRAME_BYTES_MAX, Hello, ITEM_BYTES_MAX, Up};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::Gateway;
use super::assign::{self, Assigned};
use super::error::Refused;
use super::link::Link;
use super::peer::{Attached, Peer};

/// An agent says who it is at once.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// One message may take this long to be taken: an agent that is slower is stuck.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Proxies on the way close what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Three heartbeats: without a word for this long the other side is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// What one connection sets aside for reading: most messages are smaller, and thousands of agents are connected.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Opens the WebSocket.
pub(super) async fn connect(
    State(gateway): State<Gateway>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Refused> {
    let peer = gateway.recognise(&uid, &headers)?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_message_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| Box::pin(serve(gateway, peer, socket))))
}

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum End {
    #[error("the agent closed it")]
    Closed,
    #[error("the agent said nothing for too long")]
    Silent,
    #[error("the agent takes its messages too slowly")]
    Slow,
    #[error("the first message was not hello")]
    NoHello,
    #[error("the node was deleted or its key revoked, or it connected anew")]
    Replaced,
    #[error("the gateway is stopping")]
    Stopping,
}

async fn serve(gateway: Gateway, peer: Arc<Peer>, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let hello = match timeout(HELLO_WITHIN, next(&mut stream)).await {
        Ok(Ok(Heard::Message(message))) => match *message {
            Up::Hello(hello) => hello,
            _ => return close(sink, &End::NoHello).await,
        },
        Ok(Ok(Heard::Unknown(_)) | Err(_)) | Err(_) => return close(sink, &End::NoHello).await,
    };
    let attached = peer.attach();
    gateway.note_connections();
    tracing::info!(node = peer.name(), agent = hello.agent_version, "an agent has connected");
    let Attached { queued, queue, closed } = attached;
    let (again, hellos) = mpsc::channel(1);
    let mut speaker = Speaker { gateway: &gateway, peer: &peer, sink: &mut sink };
    let end = tokio::select! {
        end = listen(&gateway, &peer, &mut stream, &queue, &again) => end,
        end = speaker.speak(hello, queued, hellos) => end,
        () = closed.cancelled() => End::Replaced,
        () = gateway.stopping().cancelled() => End::Stopping,
    };
    peer.detach(&closed);
    gateway.note_connections();
    tracing::info!(node = peer.name(), reason = %end, "an agent's connection has ended");
    close(sink, &end).await;
}

/// A message, or what was said instead of one that this side knows.
enum Heard {
    Message(Box<Up>),
    Unknown(String),
}

/// The next thing that the agent says; pings and pongs are the library's business but count as a sign of life.
async fn next(stream: &mut SplitStream<WebSocket>) -> Result<Heard, End> {
    loop {
        let message = match timeout(SILENCE_MAX, stream.next()).await {
            Err(_) => return Err(End::Silent),
            Ok(None | Some(Err(_))) => return Err(End::Closed),
            Ok(Some(Ok(message))) => message,
        };
        match message {
            Message::Text(text) => return Ok(heard(&text)),
            Message::Binary(_) => return Ok(Heard::Unknown("a binary frame".to_owned())),
            Message::Close(_) => return Err(End::Closed),
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
}

fn heard(text: &str) -> Heard {
    match serde_json::from_str(text) {
        Err(error) => Heard::Unknown(error.to_string()),
        Ok(value) => match understand(value) {
            Ok(message) => Heard::Message(Box::new(message)),
            Err(message) => Heard::Unknown(message),
        },
    }
}

/// Reads a message, or says what is wrong with it.
pub(super) fn understand(value: Value) -> Result<Up, String> {
    let named = value.get("type").and_then(Value::as_str).unwrap_or("a message without a type").to_owned();
    serde_json::from_value(value).map_err(|error| format!("{named}: {error}"))
}

async fn listen(
    gateway: &Gateway,
    peer: &Peer,
    stream: &mut SplitStream<WebSocket>,
    queue: &mpsc::Sender<Down>,
    again: &mpsc::Sender<Hello>,
) -> End {
    loop {
        let answer = match next(stream).await {
            Err(end) => return end,
            Ok(Heard::Unknown(message)) => Some(Down::Unknown { message }),
            Ok(Heard::Message(message)) => match *message {
                // An agent that could not apply an update says where it stands.
                Up::Hello(hello) => match again.send(hello).await {
                    Ok(()) => None,
                    Err(_) => return End::Closed,
                },
                message => gateway.hear(peer, message).await,
            },
        };
        if let Some(answer) = answer
            && queue.try_send(answer).is_err()
        {
            return End::Slow;
        }
    }
}

/// The side that sends.
struct Speaker<'a> {
    gateway: &'a Gateway,
    peer: &'a Peer,
    sink: &'a mut SplitSink<WebSocket, Message>,
}

impl Speaker<'_> {
    async fn speak(&mut self, hello: Hello, queued: mpsc::Receiver<Down>, hellos: mpsc::Receiver<Hello>) -> End {
        match self.try_speak(hello, queued, hellos).await {
            Err(end) => end,
            Ok(never) => match never {},
        }
    }

    async fn try_speak(
        &mut self,
        hello: Hello,
        mut queued: mpsc::Receiver<Down>,
        mut hellos: mpsc::Receiver<Hello>,
    ) -> Result<std::convert::Infallible, End> {
        let mut news = self.gateway.news();
        let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = news.fingerprint(self.peer.name());
        let mut assigned = assign::assignment(self.peer.name(), &news.index());
        let mut link = self.resume(&hello, &assigned).await?;
        loop {
            tokio::select! {
                changed = news.changed() => {
                    if !changed {
                        return Err(End::Stopping);
                    }
                    if self.gateway.still_trusted(self.peer).is_none() {
                        return Err(End::Replaced);
                    }
                    let now = news.fingerprint(self.peer.name());
                    if now == seen {
                        continue;
                    }
                    seen = now;
                    assigned = assign::assignment(self.peer.name(), &news.index());
                    let update = link.advance(&assigned);
                    self.tell(&link, &assigned, update).await?;
                }
                Some(hello) = hellos.recv() => {
                    assigned = assign::assignment(self.peer.name(), &news.index());
                    link = self.resume(&hello, &assigned).await?;
                }
                Some(message) = queued.recv() => self.send(&message).await?,
                _ = ping.tick() => {
                    // What cannot be assigned may have waited for long enough by now.
                    self.gateway.tell_withheld(self.peer, &assigned, link.told());
                    self.put(Message::Ping(bytes::Bytes::new())).await?;
                }
            }
        }
    }

    async fn resume(&mut self, hello: &Hello, assigned: &Assigned) -> Result<Link, End> {
        let (link, update) = Link::resume(hello, assigned, self.peer.told().as_ref());
        self.tell(&link, assigned, update).await?;
        Ok(link)
    }

    async fn tell(&mut self, link: &Link, assigned: &Assigned, update: Option<AssignmentUpdate>) -> Result<(), End> {
        self.peer.remember(link.told());
        self.gateway.tell_withheld(self.peer, assigned, link.told());
        let Some(update) = update else { return Ok(()) };
        self.gateway.metrics().pushed(update.base.is_none());
        for piece in update.pieces(ITEM_BYTES_MAX) {
            self.send(&Down::Assignment(piece)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: &Down) -> Result<(), End> {
        let text = serde_json::to_string(message).expect("messages serialise: their map keys are strings");
        if text.len() > FRAME_BYTES_MAX {
            tracing::error!(
                node = self.peer.name(),
                bytes = text.len(),
                "a message is larger than the protocol allows"
            );
        }
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_WITHIN, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::Slow),
        }
    }
}

/// Says goodbye, if the other side still listens.
async fn close(mut sink: SplitSink<WebSocket, Message>, end: &End) {
    let code = match end {
        End::NoHello | End::Replaced => close_code::POLICY,
        End::Stopping => close_code::RESTART,
        End::Closed | End::Silent | End::Slow => close_code::NORMAL,
    };
    let frame = CloseFrame { code, reason: end.to_string().into() };
    let goodbye = timeout(Duration::from_secs(1), sink.send(Message::Close(Some(frame)))).await;
    tracing::trace!(heard = matches!(goodbye, Ok(Ok(()))), "said goodbye");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_named_and_ends_nothing() {
        let Heard::Unknown(message) = heard(r#"{"type":"dance","to":"music"}"#) else { panic!("known") };
        assert!(message.starts_with("dance: "), "{message}");
        assert!(matches!(heard("{"), Heard::Unknown(_)));
        assert!(matches!(heard(r#"{"type":"applied","revision":1,"new":true}"#), Heard::Message(_)));
    }
}
