//! Opens WebSockets to the gateway as this node.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use node_protocol::{FRAME_BYTES_MAX, STREAM_FRAME_BYTES_MAX};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use url::Url;

use super::{Error, Identity, tls};

/// How long an upgrade may take.
const UPGRADE_WITHIN: Duration = Duration::from_secs(15);
/// What a connection sets aside for reading; more is taken when a message needs it.
const READ_BUFFER_BYTES: usize = 8 << 10;

/// An open WebSocket.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Who this node is and where the gateway.
pub(crate) struct Dialer {
    pub(super) identity: Identity,
    server: Url,
    pub(super) tls: Arc<rustls::ClientConfig>,
}

impl Dialer {
    /// For a node that has joined.
    pub(super) fn new(identity: Identity, server: &Url) -> anyhow::Result<Self> {
        let tls = Arc::new(tls::trusting(&identity.ca_pem)?);
        Ok(Self { identity, server: server.clone(), tls })
    }

    /// An address of this node at the gateway.
    pub(super) fn address(&self, verb: &str) -> Result<Url, Error> {
        let path = format!("/api/internal/paas/nodes/{}/{verb}", self.identity.uid);
        self.server.join(&path).map_err(|error| Error::Broken(error.to_string()))
    }

    /// The connection for everything but streams.
    pub(super) async fn connection(&self) -> Result<Socket, Error> {
        self.open("connect", FRAME_BYTES_MAX).await
    }

    /// A connection for a stream that the gateway has asked for.
    pub(crate) async fn stream(&self, stream: u64) -> Result<Socket, Error> {
        self.open(&format!("streams/{stream}"), STREAM_FRAME_BYTES_MAX).await
    }

    async fn open(&self, verb: &str, frame_bytes_max: usize) -> Result<Socket, Error> {
        let mut address = self.address(verb)?;
        let broken = |error: &dyn std::fmt::Display| Error::Broken(format!("no WebSocket: {error}"));
        address.set_scheme("wss").map_err(|()| Error::Broken("the server's address is not https".to_owned()))?;
        let mut request = address.as_str().into_client_request().map_err(|error| broken(&error))?;
        let token = self.identity.token().map_err(|error| Error::Refused(error.to_string()))?;
        let header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| broken(&error))?;
        request.headers_mut().insert(AUTHORIZATION, header);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_frame_size(Some(frame_bytes_max))
            .max_message_size(Some(frame_bytes_max));
        let connector = Connector::Rustls(Arc::clone(&self.tls));
        let upgrade = tokio_tungstenite::connect_async_tls_with_config(request, Some(config), true, Some(connector));
        let (socket, _) = timeout(UPGRADE_WITHIN, Box::pin(upgrade))
            .await
            .map_err(|late| Error::Broken(format!("no WebSocket within {} s: {late}", UPGRADE_WITHIN.as_secs())))?
            .map_err(|error| broken(&error))?;
        Ok(socket)
    }
}
