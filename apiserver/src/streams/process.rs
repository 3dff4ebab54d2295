//! `exec` and `attach`: a WebSocket whose frames bear a channel, `v5.channel.k8s.io` or `v4.channel.k8s.io`.
//!
//! The frames of a [`Pipe`] are the same, so they pass through as they are, in both directions; only the last one becomes
//! a `Status`.

use axum::extract::ws::{Message, WebSocket};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::SplitStream;
use http::request::Parts;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    CLOSED, END, End, Exec, FRAME_BYTES_MAX, FRAMES, Guard, INPUT, OUTPUT, Open, Pipe, Program, SIZE, frame, socket,
};
use crate::error::Error;
use crate::query::Query;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";

/// A program with its arguments fits into the kernel's own limit of one argument, and well into a message.
const COMMAND_BYTES_MAX: usize = 128 << 10;

/// What to run, by the query.
pub(super) fn exec(query: &Query, shown: &Value, name: &str) -> Result<Open, Error> {
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.first().is_none_or(String::is_empty) {
        return Err(Error::bad_request("you must specify at least one command for the container"));
    }
    if command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX || command.iter().any(|a| a.contains('\0')) {
        return Err(Error::bad_request("command: must be at most 128 KiB without NUL characters"));
    }
    if let Some(phase @ ("Succeeded" | "Failed")) = shown["status"]["phase"].as_str() {
        let message = format!("cannot exec into a container in a completed pod; current phase of {name} is {phase}");
        return Err(Error::bad_request(message));
    }
    let (stdin, stdout, stderr) = wanted(query)?;
    let tty = query.switch("tty");
    // A terminal has one output.
    Ok(Open::Exec(Exec { command, stdin, stdout, stderr: stderr && !tty, tty }))
}

/// What to listen to, by the query.
pub(super) fn attach(query: &Query) -> Result<Open, Error> {
    let (_, stdout, stderr) = wanted(query)?;
    Ok(Open::Attach { stdout, stderr })
}

fn wanted(query: &Query) -> Result<(bool, bool, bool), Error> {
    let wanted = (query.switch("stdin"), query.switch("stdout"), query.switch("stderr"));
    if wanted == (false, false, false) {
        return Err(Error::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(wanted)
}

pub(super) async fn answer(
    program: Program,
    what: Open,
    parts: &mut Parts,
    mut guard: Guard,
) -> Result<Response, Error> {
    let (upgrade, _) = socket::upgrade(parts, &[V5, V4], None).await?;
    let takes_input = matches!(&what, Open::Exec(exec) if exec.stdin);
    Ok(upgrade.on_upgrade(async move |socket| {
        let talk = Box::pin(talk(socket, program, what, takes_input));
        tokio::select! {
            () = talk => {}
            () = guard.revoked() => {}
        }
    }))
}

/// Both directions until the program has ended or the client has gone.
async fn talk(socket: WebSocket, program: Program, what: Open, takes_input: bool) {
    let (sink, stream) = socket.split();
    let (queue, queued) = mpsc::channel(FRAMES);
    let conversation = async move {
        match program.open(what).await {
            Ok(Pipe { to, from }) => {
                // By which clients know that it was reached.
                drop(queue.send(frame(OUTPUT, &[])).await);
                tokio::select! {
                    () = output(from, &queue) => {}
                    () = input(stream, to, takes_input) => {}
                }
            }
            Err(error) => {
                let end = End { error: Some(error.to_string()), ..End::default() };
                drop(queue.send(socket::status(&end)).await);
            }
        }
    };
    // The queue ends with the conversation, and the sender after what is in it.
    tokio::join!(conversation, socket::send(sink, queued));
}

async fn output(mut from: mpsc::Receiver<Bytes>, queue: &mpsc::Sender<Bytes>) {
    let mut end = End { error: Some("the way to the program was lost".to_owned()), ..End::default() };
    while let Some(frame) = from.recv().await {
        if frame.first() == Some(&END) {
            end = serde_json::from_slice(&frame[1..]).unwrap_or_default();
            break;
        }
        if queue.send(frame).await.is_err() {
            return;
        }
    }
    drop(queue.send(socket::status(&end)).await);
}

/// Returns when the client is gone. What a program does not take waits, and with it the client.
async fn input(mut stream: SplitStream<WebSocket>, to: mpsc::Sender<Bytes>, takes_input: bool) {
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            // The Python client sends text as text.
            Message::Text(text) => text.into(),
            Message::Close(_) => return,
            _ => continue,
        };
        let wanted = match data.first() {
            Some(&INPUT) => takes_input && data.len() > 1,
            Some(&SIZE) => data.len() > 1,
            Some(&CLOSED) => data.get(1) == Some(&INPUT),
            _ => false,
        };
        if !wanted {
            continue;
        }
        for piece in pieces(data) {
            if to.send(piece).await.is_err() {
                // The program takes nothing any more; it may still have something to say.
                break;
            }
        }
    }
}

/// A frame as frames of at most the usual length.
fn pieces(data: Bytes) -> Vec<Bytes> {
    if data.len() <= FRAME_BYTES_MAX + 1 {
        return vec![data];
    }
    data[1..].chunks(FRAME_BYTES_MAX).map(|piece| frame(data[0], piece)).collect()
}
