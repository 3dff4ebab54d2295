//! One HTTP/1.1 connection, over TLS, TCP or a unix socket: as little client as possible, since client and server share
//! the processors.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// How a connection to a TLS server is made.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    address: SocketAddr,
}

impl Tls {
    /// Trusts one authority only.
    pub(crate) fn new(address: SocketAddr, authority: &[u8]) -> anyhow::Result<Self> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let mut roots = rustls::RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(authority)
            .map_err(|error| anyhow::anyhow!("the authority's certificate: {error}"))?;
        roots.add(certificate)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), address })
    }

    /// A new connection. `token` goes with each of its requests.
    pub(crate) async fn connect(&self, token: Option<&str>) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::from(self.address.ip()), stream).await?;
        Connection::over(stream, &self.address.to_string(), token).await
    }
}

/// One connection, on which one request runs at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    // Ends with the connection.
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn tcp(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, host, None).await
    }

    pub(crate) async fn unix(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path).await.with_context(|| format!("cannot reach {}", path.display()))?;
        Self::over(stream, "localhost", None).await
    }

    async fn over<S>(stream: S, host: &str, token: Option<&str>) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection is seen by the request that needs it.
            drop(connection.await);
        });
        let authorization = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose()?;
        Ok(Self { sender, host: HeaderValue::from_str(host)?, authorization, _driver: driver })
    }

    /// Sends a request and returns the answer once its head is there.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        content_type: Option<&'static str>,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header(http::header::HOST, self.host.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(http::header::AUTHORIZATION, authorization.clone());
        }
        if let Some(content_type) = content_type {
            request = request.header(http::header::CONTENT_TYPE, content_type);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Waits until a request can be sent; fails if the other side has closed the connection meanwhile.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        Ok(self.sender.ready().await?)
    }

    /// The status and the whole body.
    pub(crate) async fn call(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(u16, Bytes)> {
        let content_type = match method {
            _ if body.is_empty() => None,
            Method::PATCH => Some("application/merge-patch+json"),
            _ => Some("application/json"),
        };
        let answer = self.send(method, path, body, content_type).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }

    /// The body of an answer that must be a good one.
    pub(crate) async fn good(&mut self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let (status, answer) = self.call(method.clone(), path, body).await?;
        if !(200..300).contains(&status) {
            bail!(
                "{method} {path}: {status}: {}",
                String::from_utf8_lossy(&answer).chars().take(500).collect::<String>()
            );
        }
        Ok(answer)
    }

    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        self.good(Method::GET, path, Bytes::new()).await
    }

    /// Reads the body of a good answer and throws it away; how many bytes it had.
    pub(crate) async fn drain(&mut self, path: &str) -> anyhow::Result<usize> {
        let answer = self.send(Method::GET, path, Bytes::new(), None).await?;
        anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        count_bytes(answer.into_body()).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Bytes> {
        self.good(Method::POST, path, body.into()).await
    }
}

/// Reads a body to its end.
pub(crate) async fn count_bytes(mut body: Incoming) -> anyhow::Result<usize> {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(count)
}
