//! The WebSocket: what is new goes up as it comes, what the gateway says comes down.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use node_protocol::{FRAME_BYTES_MAX, Up};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use super::voice::Voice;
use super::{Ears, Error, PIECES, Session};

/// How long an upgrade may take.
const UPGRADE_WITHIN: Duration = Duration::from_secs(15);
/// How long one message may take to be handed to the network.
const SEND_WITHIN: Duration = Duration::from_secs(20);
/// The gateway pings every 20 s; three missed ones mean that nobody is there.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// What a connection sets aside for reading; more is taken when a message needs it.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// An open WebSocket.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens it.
pub(super) async fn connect(session: &Session) -> Result<Socket, Error> {
    let mut address = session.address("connect")?;
    let broken = |error: &dyn std::fmt::Display| Error::Broken(format!("no WebSocket: {error}"));
    address.set_scheme("wss").map_err(|()| Error::Broken("the server's address is not https".to_owned()))?;
    let mut request = address.as_str().into_client_request().map_err(|error| broken(&error))?;
    let token = session.identity.token().map_err(|error| Error::Refused(error.to_string()))?;
    let header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| broken(&error))?;
    request.headers_mut().insert(AUTHORIZATION, header);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(FRAME_BYTES_MAX));
    let connector = Connector::Rustls(std::sync::Arc::clone(&session.tls));
    let upgrade = tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, Some(connector));
    let (socket, _) = timeout(UPGRADE_WITHIN, Box::pin(upgrade))
        .await
        .map_err(|late| Error::Broken(format!("no WebSocket within {} s: {late}", UPGRADE_WITHIN.as_secs())))?
        .map_err(|error| broken(&error))?;
    Ok(socket)
}

/// Talks until the connection ends.
pub(super) async fn talk(
    mut socket: Socket,
    voice: &mut Voice,
    ears: &mut Ears,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let first = voice.begin();
    send(&mut socket, &first).await?;
    let mut heard_at = Instant::now();
    loop {
        for message in voice.news(ears) {
            send(&mut socket, &message).await?;
        }
        // In this order: what the agent has to say is never kept waiting by somebody's log.
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
                        if let Some(answer) = ears.hear_text(&text, &sender).await? {
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
            Some(piece) = pieces.recv() => send(&mut socket, &piece).await?,
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
