//! Watches over a WebSocket, which is how a browser watches: each event is one text frame with the same JSON line that
//! other clients read from the body.

use std::time::Duration;

use axum::extract::FromRequestParts as _;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, header};
use tokio::time::timeout;

use super::Stream;
use crate::error::Error;

/// A watching client sends pings and its farewell and nothing else, so longer messages need no room.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Whether the client asks for a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let upgrade = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    upgrade.flat_map(|value| value.split(',')).any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
}

/// Accepts the WebSocket and sends the stream through it. A frame that the client does not take within `patience` ends it.
pub(super) async fn upgrade(mut parts: Parts, stream: Stream, patience: Duration) -> Result<Response, Error> {
    let protocols =
        parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    // Events look the same in every subprotocol: the first that the client offers is taken, because a browser closes a
    // WebSocket that answers none of its offers.
    let first = protocols.flat_map(|value| value.split(',')).map(str::trim).find(|protocol| !protocol.is_empty());
    let first = first.map(str::to_owned);
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .map_err(|refused| Error::bad_request(refused.body_text()))?
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .protocols(first);
    Ok(upgrade.on_upgrade(move |socket| send(socket, stream, patience)))
}

async fn send(mut socket: WebSocket, mut stream: Stream, patience: Duration) {
    loop {
        let line = tokio::select! {
            line = stream.next_line() => line,
            // Reading is what answers pings and notices the client's leaving.
            received = socket.recv() => match received {
                None | Some(Err(_) | Ok(Message::Close(_))) => return,
                Some(Ok(_)) => continue,
            },
        };
        let (message, last) = match line.map(Utf8Bytes::try_from) {
            Some(Ok(text)) => (Message::Text(text), false),
            // JSON is UTF-8: the other case is the end.
            Some(Err(_)) | None => (Message::Close(None), true),
        };
        match timeout(patience, socket.send(message)).await {
            Ok(Ok(())) if !last => {}
            Ok(_) => return,
            Err(_elapsed) => return tracing::debug!("a watcher on a WebSocket was too slow and is let go"),
        }
    }
}
