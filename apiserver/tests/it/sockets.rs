//! The TLS listener: protocols, upgrades, and a clean end.

use std::sync::Arc;

use apiserver::clock::Clock;
use apiserver::pki;
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, WIDGETS, World};

struct Socket {
    world: World,
    port: u16,
    ca: CertificateDer<'static>,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Socket {
    async fn open() -> Self {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let world = World::with(|builder| builder.shutdown(stop)).await;
        let dir = tempfile::tempdir().unwrap();
        let pki = pki::load_or_create(dir.path(), &["localhost".into()], &Clock::system()).unwrap();
        let ca = CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upgrade = get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_socket| async {}) });
        let router = world.server.router().merge(Router::new().route("/socket", upgrade));
        let (tls, token) = (pki.server_config().unwrap(), shutdown.clone());
        let serving = apiserver::task::spawn("serve", apiserver::serve(listener, tls, router, token));
        Self { world, port, ca, shutdown, serving }
    }

    async fn connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends a request by HTTP/1.1 and reads the head of the answer.
    async fn ask(&self, path: &str, headers: &str) -> (String, BufReader<TlsStream<TcpStream>>) {
        let mut stream = self.connect(&["http/1.1"]).await.unwrap();
        let token = &self.world.token;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, reader.read_line(&mut head)).await.unwrap().unwrap();
            assert!(read > 0, "the connection was closed: {head}");
        }
        (head, reader)
    }
}

#[tokio::test]
async fn both_protocols_are_offered_and_upgrades_pass() {
    let socket = Socket::open().await;
    let stream = socket.connect(&["h2", "http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (head, _) = socket.ask("/version", "").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let (head, _) = socket.ask("/socket", upgrade).await;
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go() {
    let socket = Socket::open().await;
    let mut stream = TcpStream::connect(("127.0.0.1", socket.port)).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert and the end, or a reset; never an answer.
    let ended = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    assert!(ended.is_err() || !answer.starts_with(b"HTTP"), "{answer:?}");
    socket.ask("/version", "").await;
}

#[tokio::test]
async fn stopping_ends_watches_and_then_the_listener() {
    let socket = Socket::open().await;
    socket.world.widget("web").await;
    let (head, mut watch) = socket.ask(&format!("{WIDGETS}?watch=true"), "").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut line = String::new();
    timeout(PATIENCE, watch.read_line(&mut line)).await.unwrap().unwrap();
    socket.shutdown.cancel();
    let mut rest = String::new();
    timeout(PATIENCE, watch.read_to_string(&mut rest)).await.expect("the watch ends").unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "it ends cleanly: {rest}");
    timeout(PATIENCE, socket.serving).await.expect("the listener ends").unwrap().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", socket.port)).await.is_err());
}
