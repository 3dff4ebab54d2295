//! Port-forward as kubectl does it since 1.30: a SPDY session in the binary frames of a WebSocket.
//!
//! For each connection the client opens two streams with the same `requestID`: `error`, on which it hears what went
//! wrong, and `data`. What SPDY itself asks for is in [`crate::spdy`].

use std::collections::BTreeMap;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::SplitStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{EVENTS, Event, WAITING, connect, port, socket};
use crate::spdy::{Heard, Session};
use crate::streams::{FRAMES, Program};

pub(super) const PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// Connections of one session that are open or being opened: a browser opens some six to a host, a database's pool some
/// dozens.
const CONNECTIONS_MAX: usize = 256;

/// Two streams that belong together.
#[derive(Debug, Default)]
struct Pair {
    error: Option<u32>,
    data: Option<u32>,
    port: Option<u16>,
}

/// The session and what it leads to.
struct Switchboard {
    session: Session,
    program: Program,
    pairs: BTreeMap<String, Pair>,
    /// By data stream: the error stream beside it and the way to the connection, until the client sends no more.
    open: BTreeMap<u32, Line>,
    connections: JoinSet<()>,
    events: mpsc::Sender<(u32, Event)>,
}

struct Line {
    error: u32,
    input: Option<mpsc::Sender<Bytes>>,
    task: tokio::task::AbortHandle,
}

pub(super) async fn talk(socket: WebSocket, program: Program) {
    let (sink, stream) = socket.split();
    let (queue, queued) = mpsc::channel(FRAMES);
    let (events, heard) = mpsc::channel(EVENTS);
    let switchboard = Switchboard {
        session: Session::server(),
        program,
        pairs: BTreeMap::new(),
        open: BTreeMap::new(),
        connections: JoinSet::new(),
        events,
    };
    tokio::join!(switchboard.run(stream, heard, queue), socket::send(sink, queued));
}

impl Switchboard {
    async fn run(
        mut self,
        mut stream: SplitStream<WebSocket>,
        mut events: mpsc::Receiver<(u32, Event)>,
        queue: mpsc::Sender<Bytes>,
    ) {
        loop {
            tokio::select! {
                message = stream.next() => {
                    let data = match message {
                        Some(Ok(Message::Binary(data))) => data,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                        Some(Ok(_)) => continue,
                    };
                    match self.session.receive(&data) {
                        Ok(heard) => {
                            for one in heard {
                                self.hear(one, &mut events, &queue).await;
                            }
                        }
                        Err(error) => {
                            tracing::debug!(%error, "a port-forward's session was broken off");
                            self.session.go_away();
                            drop(self.flush(&queue).await);
                            return;
                        }
                    }
                }
                Some((stream, event)) = events.recv() => self.tell(stream, event),
                Some(_) = self.connections.join_next() => {}
            }
            if self.flush(&queue).await.is_err() {
                return;
            }
        }
    }

    /// Sends what the session has to say.
    async fn flush(&mut self, queue: &mpsc::Sender<Bytes>) -> Result<(), mpsc::error::SendError<Bytes>> {
        while let Some(frame) = self.session.next_frame() {
            queue.send(frame).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, heard: Heard, events: &mut mpsc::Receiver<(u32, Event)>, queue: &mpsc::Sender<Bytes>) {
        match heard {
            Heard::Opened { stream, headers, .. } => self.opened(stream, &headers),
            Heard::Data { stream, data } => {
                let length = data.len();
                let input = self.open.get(&stream).and_then(|line| line.input.clone());
                if let Some(input) = input {
                    // While this connection takes nothing, the others' answers still go out.
                    let sending = input.send(data);
                    tokio::pin!(sending);
                    loop {
                        tokio::select! {
                            biased;
                            _ = &mut sending => break,
                            Some((stream, event)) = events.recv() => {
                                self.tell(stream, event);
                                if self.flush(queue).await.is_err() {
                                    return;
                                }
                            }
                        }
                    }
                }
                self.session.consumed(stream, length);
            }
            Heard::Finished { stream } => {
                if let Some(line) = self.open.get_mut(&stream) {
                    line.input = None;
                }
            }
            Heard::Reset { stream } => self.drop_stream(stream),
            Heard::GoneAway => {}
        }
    }

    fn opened(&mut self, stream: u32, headers: &BTreeMap<String, String>) {
        let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        let Ok(port) = port(header("port")) else { return self.session.refuse(stream) };
        if self.open.len() + self.pairs.len() >= CONNECTIONS_MAX {
            return self.session.refuse(stream);
        }
        let id = header("requestid").to_owned();
        let pair = self.pairs.entry(id.clone()).or_default();
        let place = match header("streamtype") {
            "error" => &mut pair.error,
            "data" => &mut pair.data,
            _ => return self.session.refuse(stream),
        };
        if place.is_some() || pair.port.is_some_and(|other| other != port) {
            return self.session.refuse(stream);
        }
        *place = Some(stream);
        pair.port = Some(port);
        let both = (pair.error, pair.data);
        self.session.reply(stream);
        if let (Some(error), Some(data)) = both {
            self.pairs.remove(&id);
            let (input, incoming) = mpsc::channel(WAITING);
            let task = self.connections.spawn(connect(self.program.clone(), port, data, incoming, self.events.clone()));
            self.open.insert(data, Line { error, input: Some(input), task });
        }
    }

    /// Tells the client of something that happened to a connection.
    fn tell(&mut self, stream: u32, event: Event) {
        match event {
            Event::Data(data) => self.session.send(stream, &data),
            Event::Closed => self.session.finish(stream),
            Event::Over(error) => {
                if let Some(line) = self.open.remove(&stream) {
                    if let Some(error) = error {
                        self.session.send(line.error, error.as_bytes());
                    }
                    self.session.finish(stream);
                    self.session.finish(line.error);
                }
            }
        }
    }

    /// The client wants nothing more of a stream: its connection ends.
    fn drop_stream(&mut self, stream: u32) {
        self.pairs.retain(|_, pair| pair.error != Some(stream) && pair.data != Some(stream));
        if let Some(line) = self.open.remove(&stream) {
            line.task.abort();
            // The client waits for the end of the other.
            self.session.finish(line.error);
        }
    }
}
