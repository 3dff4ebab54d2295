//! For agents that get no WebSocket through: the same messages, asked for and posted.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use http::HeaderMap;
use node_protocol::{Down, Hello, ITEM_BYTES_MAX, PollAnswer};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::error::Refused;
use super::link::Link;
use super::{Gateway, assign, connect};

/// How long a poll waits for something to say. Proxies give up on an answer after a minute or half of one.
const WAIT: Duration = Duration::from_secs(25);
/// Messages in one post: more are a second post.
const MESSAGES_MAX: usize = 10_000;

/// `GET …/{uid}/assignment`: what the agent should have, as soon as that is not what it has.
pub(super) async fn assignment(
    State(gateway): State<Gateway>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    hello: Result<Query<Hello>, QueryRejection>,
) -> Result<Json<PollAnswer>, Refused> {
    let Query(hello) = hello.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    let peer = gateway.recognise(&uid, &headers)?;
    let until = Instant::now() + WAIT;
    let mut news = gateway.news();
    let mut seen = news.fingerprint(peer.name());
    let mut assigned = assign::assignment(peer.name(), &news.index());
    let (mut link, mut update) = Link::resume(&hello, &assigned, peer.told().as_ref());
    while update.is_none() {
        peer.remember(link.told());
        gateway.tell_withheld(&peer, &assigned, link.told());
        let stopping = gateway.stopping();
        let changed = tokio::select! {
            changed = timeout_at(until, news.changed()) => changed.unwrap_or(false),
            () = stopping.cancelled() => false,
        };
        if !changed {
            return Ok(Json(PollAnswer::default()));
        }
        if gateway.still_trusted(&peer).is_none() {
            return Err(Refused::unauthorized("the node was deleted, or its key revoked"));
        }
        let now = news.fingerprint(peer.name());
        if now != seen {
            seen = now;
            assigned = assign::assignment(peer.name(), &news.index());
            update = link.advance(&assigned);
        }
    }
    peer.remember(link.told());
    gateway.tell_withheld(&peer, &assigned, link.told());
    let pieces = update.into_iter().flat_map(|update| update.pieces(ITEM_BYTES_MAX));
    let messages = pieces.map(Down::Assignment).collect();
    Ok(Json(PollAnswer { messages }))
}

/// A post, message by message: one that this side does not know must not cost the others.
#[derive(Deserialize)]
pub(super) struct Posted {
    #[serde(default)]
    messages: Vec<Value>,
}

/// `POST …/{uid}/observed`: what the agent would have said.
pub(super) async fn observed(
    State(gateway): State<Gateway>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    body: Result<Json<Posted>, JsonRejection>,
) -> Result<Json<PollAnswer>, Refused> {
    let peer = gateway.recognise(&uid, &headers)?;
    let Json(posted) = body.map_err(|rejection| Refused::bad_request(rejection.body_text()))?;
    if posted.messages.len() > MESSAGES_MAX {
        return Err(Refused::bad_request("messages: at most 10000 in one post"));
    }
    let mut messages = Vec::new();
    for message in posted.messages {
        messages.extend(match connect::understand(message) {
            Ok(message) => gateway.hear(&peer, message).await,
            Err(message) => Some(Down::Unknown { message }),
        });
    }
    Ok(Json(PollAnswer { messages }))
}
