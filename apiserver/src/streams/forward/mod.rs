//! `portforward`: connections to a program's ports, several at a time, in either of two protocols.
//!
//! A connection is the same in both: what comes in for it, what goes out from it. `channels.rs` has two channels of a
//! WebSocket for each port that the query names, `spdy.rs` two streams of a SPDY session for each connection.

mod channels;
mod spdy;

use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use tokio::sync::mpsc;

use super::{CLOSED, END, End, FRAME_BYTES_MAX, Guard, INPUT, OUTPUT, Open, Pipe, Program, frame, socket};
use crate::error::Error;
use crate::query::Query;

/// Data of one connection that waits for its program. When it is full the whole session waits: SPDY as Kubernetes'
/// clients speak it has no flow control for each stream, and bytes may not be lost. 64 pieces are up to 2 MiB.
const WAITING: usize = 64;
/// Events that wait for the client's connection.
const EVENTS: usize = 16;

pub(super) async fn answer(
    program: Program,
    query: &Query,
    parts: &mut Parts,
    mut guard: Guard,
) -> Result<Response, Error> {
    // kr8s names none.
    let known = &[spdy::PROTOCOL, channels::V4];
    let (upgrade, protocol) = socket::upgrade(parts, known, Some(channels::V4)).await?;
    let ports = if protocol == spdy::PROTOCOL { Vec::new() } else { channels::ports(query)? };
    Ok(upgrade.on_upgrade(async move |socket| {
        let talk = async {
            if protocol == spdy::PROTOCOL {
                Box::pin(spdy::talk(socket, program)).await;
            } else {
                Box::pin(channels::talk(socket, program, ports)).await;
            }
        };
        tokio::select! {
            () = talk => {}
            () = guard.revoked() => {}
        }
    }))
}

/// A port as a text; 0 is none.
fn port(text: &str) -> Result<u16, Error> {
    let parsed = text.parse().ok().filter(|port| *port != 0);
    parsed.ok_or_else(|| Error::bad_request(format!("port {text:?} must be a number from 1 to 65535")))
}

/// Something about one connection.
#[derive(Debug)]
enum Event {
    /// Bytes from the program.
    Data(Bytes),
    /// The program sends no more.
    Closed,
    /// The connection is over, and what was wrong if anything was.
    Over(Option<String>),
}

/// One connection to a port, from its opening to its end. `incoming` ends when the client sends no more. Events bear
/// the connection's number.
async fn connect(
    program: Program,
    port: u16,
    number: u32,
    incoming: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<(u32, Event)>,
) {
    let error = match program.open(Open::Forward { port }).await {
        Ok(pipe) => carry(pipe, number, incoming, &events).await,
        Err(error) => Some(error.to_string()),
    };
    let error = error.map(|error| format!("error forwarding port {port}: {error}"));
    // Without a reader there is nobody to tell.
    drop(events.send((number, Event::Over(error))).await);
}

async fn carry(
    pipe: Pipe,
    number: u32,
    mut incoming: mpsc::Receiver<Bytes>,
    events: &mpsc::Sender<(u32, Event)>,
) -> Option<String> {
    let Pipe { to, mut from } = pipe;
    let inward = async {
        while let Some(data) = incoming.recv().await {
            for piece in data.chunks(FRAME_BYTES_MAX) {
                if to.send(frame(INPUT, piece)).await.is_err() {
                    return;
                }
            }
        }
        drop(to.send(frame(CLOSED, &[INPUT])).await);
    };
    let outward = async {
        while let Some(frame) = from.recv().await {
            let event = match frame.first() {
                Some(&OUTPUT) if frame.len() > 1 => Event::Data(frame.slice(1..)),
                Some(&CLOSED) => Event::Closed,
                Some(&END) => return serde_json::from_slice::<End>(&frame[1..]).unwrap_or_default().error,
                _ => continue,
            };
            if events.send((number, event)).await.is_err() {
                return None;
            }
        }
        Some("the way to the program was lost".to_owned())
    };
    tokio::pin!(inward, outward);
    tokio::select! {
        error = &mut outward => error,
        // What the program still has to say is heard.
        () = &mut inward => outward.await,
    }
}
