//! What the WebSockets of Kubernetes' clients have in common: how one begins, and how it says that all went well or not.

use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use bytes::Bytes;
use futures::SinkExt as _;
use futures::stream::SplitSink;
use http::header;
use http::request::Parts;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{END, End, frame};
use crate::error::Error;

/// Kubernetes' clients send at most 32 KiB at a time; others may send a little more.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Proxies on the way close what is silent for a minute.
const PING_EVERY: Duration = Duration::from_secs(25);
/// What a socket that is ended gets for its goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_secs(5);

/// Begins a WebSocket with the first protocol of the client's that is known; `unnamed` is what one speaks that names none.
pub(super) async fn upgrade(
    parts: &mut Parts,
    known: &'static [&'static str],
    unnamed: Option<&str>,
) -> Result<(WebSocketUpgrade, String), Error> {
    let names_none = !parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
    let asks_for_spdy =
        parts.headers.get(header::UPGRADE).is_some_and(|upgrade| upgrade.as_bytes().starts_with(b"SPDY/"));
    if asks_for_spdy {
        return Err(Error::bad_request("this server speaks WebSocket and not bare SPDY: use kubectl 1.30 or newer"));
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &())
        .await
        .map_err(|rejection| Error::bad_request(format!("Upgrade request required: {}", rejection.body_text())))?
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        // What a program says is passed on at once.
        .write_buffer_size(0)
        .protocols(known.iter().copied());
    let chosen = upgrade.selected_protocol().and_then(|protocol| protocol.to_str().ok()).map(str::to_owned);
    let unnamed = unnamed.filter(|_| names_none).map(str::to_owned);
    let Some(chosen) = chosen.or(unnamed) else {
        return Err(Error::bad_request(format!(
            "unable to upgrade: unable to negotiate protocol: this server speaks {}",
            known.join(", ")
        )));
    };
    Ok((upgrade, chosen))
}

/// Sends what is queued until the queue ends, and then says goodbye. Keeps a quiet socket open with pings.
pub(super) async fn send(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Bytes>) {
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            frame = queue.recv() => match frame {
                Some(frame) => Message::Binary(frame),
                None => break,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let close = Message::Close(Some(CloseFrame { code: close_code::NORMAL, reason: "".into() }));
    let goodbye = timeout(GOODBYE_WITHIN, sink.send(close)).await;
    tracing::trace!(heard = matches!(goodbye, Ok(Ok(()))), "said goodbye");
}

/// The last frame of a program's stream: a `Status` on the third channel.
pub(super) fn status(end: &End) -> Bytes {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    match end {
        End { error: Some(error), .. } => {
            status["status"] = json!("Failure");
            status["reason"] = json!("InternalError");
            status["message"] = json!(error);
            status["code"] = json!(500);
        }
        End { exit_code: Some(code), .. } if *code != 0 => {
            status["status"] = json!("Failure");
            status["reason"] = json!("NonZeroExitCode");
            status["message"] = json!(format!("command terminated with non-zero exit code: exit status {code}"));
            status["details"] = json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]});
        }
        _ => {}
    }
    frame(END, status.to_string().as_bytes())
}
