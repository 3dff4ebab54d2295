//! Port-forward over plain channels of a WebSocket: for the n-th port of the query, channel 2n carries the bytes and
//! 2n+1 what is wrong. Each begins with the port's number, two bytes, little-endian.
//!
//! Version 4 only, as with Kubernetes: the Python and JavaScript clients and kr8s offer version 5 and take its frames that
//! close a channel for an error. Half an end cannot be told then: a connection is over when its program sends no more, and
//! the WebSocket when all are.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::SplitStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{EVENTS, Event, WAITING, connect, port, socket};
use crate::error::Error;
use crate::query::Query;
use crate::streams::{FRAMES, Program, frame};

pub(super) const V4: &str = "v4.channel.k8s.io";

/// Two channels each, of which there are 256; nobody needs half as many.
const PORTS_MAX: usize = 64;

/// The ports that the query names: several parameters, or one with commas.
pub(super) fn ports(query: &Query) -> Result<Vec<u16>, Error> {
    let named = query.all("ports").chain(query.all("port")).flat_map(|list| list.split(','));
    let ports: Vec<u16> = named.filter(|text| !text.is_empty()).map(port).collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(Error::bad_request("query parameter \"ports\" is required")),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(Error::bad_request(format!("ports: at most {PORTS_MAX}"))),
    }
}

pub(super) async fn talk(socket: WebSocket, program: Program, ports: Vec<u16>) {
    let (sink, stream) = socket.split();
    let (queue, queued) = mpsc::channel(FRAMES);
    let conversation = async move {
        let (events, heard) = mpsc::channel(EVENTS);
        let mut inputs = BTreeMap::new();
        let mut connections = JoinSet::new();
        for (number, port) in (0..).zip(&ports) {
            for channel in [data_channel(number), data_channel(number) + 1] {
                if queue.send(frame(channel, &port.to_le_bytes())).await.is_err() {
                    return;
                }
            }
            let (input, incoming) = mpsc::channel(WAITING);
            inputs.insert(data_channel(number), input);
            connections.spawn(connect(program.clone(), *port, number, incoming, events.clone()));
        }
        drop(events);
        tokio::select! {
            () = output(heard, &queue, ports.len()) => {}
            () = input(stream, inputs) => {}
        }
    };
    tokio::join!(conversation, socket::send(sink, queued));
}

fn data_channel(number: u32) -> u8 {
    u8::try_from(number * 2).unwrap_or(u8::MAX - 1)
}

/// Passes on what the programs send, until all of so many connections are over.
async fn output(mut events: mpsc::Receiver<(u32, Event)>, queue: &mpsc::Sender<Bytes>, connections: usize) {
    let mut over = BTreeSet::new();
    while over.len() < connections
        && let Some((number, event)) = events.recv().await
    {
        let channel = data_channel(number);
        if !matches!(event, Event::Data(_)) {
            over.insert(number);
        }
        let said = match event {
            Event::Data(data) => Some(frame(channel, &data)),
            Event::Closed => None,
            Event::Over(error) => error.map(|error| frame(channel + 1, error.as_bytes())),
        };
        if let Some(frame) = said
            && queue.send(frame).await.is_err()
        {
            return;
        }
    }
}

/// Returns when the client is gone.
async fn input(mut stream: SplitStream<WebSocket>, mut inputs: BTreeMap<u8, mpsc::Sender<Bytes>>) {
    while let Some(Ok(message)) = stream.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        if data.len() > 1
            && let Some(input) = inputs.get(&data[0])
            && input.send(data.slice(1..)).await.is_err()
        {
            inputs.remove(&data[0]);
        }
    }
}
