//! The WebSocket: what is new goes up as it comes, what the gateway says comes down.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use node_protocol::Up;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::dial::Socket;
use super::voice::Voice;
use super::{Ears, Error};

/// How long one message may take to be handed to the network.
const SEND_WITHIN: Duration = Duration::from_secs(20);
/// The gateway pings every 20 s; three missed ones mean that nobody is there.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// Talks until the connection ends.
pub(super) async fn talk(
    mut socket: Socket,
    voice: &mut Voice,
    ears: &mut Ears,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let first = voice.begin();
    send(&mut socket, &first).await?;
    let mut heard_at = Instant::now();
    loop {
        for message in voice.news(ears) {
            send(&mut socket, &message).await?;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {
                // A goodbye that does not arrive changes nothing.
                if timeout(Duration::from_secs(2), socket.close(None)).await.is_err() {
                    tracing::debug!("the gateway did not hear the goodbye");
                }
                return Ok(());
            }
            () = voice.changed() => {}
            heard = socket.next() => {
                heard_at = Instant::now();
                match heard {
                    Some(Ok(Message::Text(text))) => {
                        if let Some(answer) = ears.hear_text(&text).await? {
                            send(&mut socket, &answer).await?;
                        }
                    }
                    Some(Ok(Message::Binary(_))) => {
                        send(&mut socket, &Up::Unknown { message: "a binary frame".to_owned() }).await?;
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map_or_else(|| "no reason given".to_owned(), |frame| frame.reason.to_string());
                        return Err(Error::Broken(format!("the gateway closed the connection: {why}")));
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                        // The library has its answer ready; it goes out with a flush.
                        timeout(SEND_WITHIN, socket.flush()).await.map_err(slow)?.map_err(|error| Error::Broken(error.to_string()))?;
                    }
                    Some(Err(error)) => return Err(Error::Broken(error.to_string())),
                    None => return Err(Error::Broken("the connection ended".to_owned())),
                }
            }
            () = tokio::time::sleep_until(heard_at + SILENCE_MAX) => {
                return Err(Error::Broken(format!("the gateway said nothing for {} s", SILENCE_MAX.as_secs())));
            }
        }
    }
}

fn slow(_: tokio::time::error::Elapsed) -> Error {
    Error::Broken(format!("a message could not be sent within {} s", SEND_WITHIN.as_secs()))
}

async fn send(socket: &mut Socket, message: &Up) -> Result<(), Error> {
    let text = serde_json::to_string(message).map_err(|error| Error::Broken(error.to_string()))?;
    timeout(SEND_WITHIN, socket.send(Message::text(text)))
        .await
        .map_err(slow)?
        .map_err(|error| Error::Broken(error.to_string()))
}
