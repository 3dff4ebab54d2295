//! The TLS listener: protocols, upgrades, and a clean end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apiserver::clock::Clock;
use apiserver::{Limits, Patience, pki};
use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, WIDGETS, World, eventually, widget_named};

pub(crate) struct Socket {
    pub(crate) world: World,
    port: u16,
    ca: CertificateDer<'static>,
    pub(crate) shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

/// As usual, but for what a machine that stands still for seconds would end.
fn patient() -> Patience {
    let long = Duration::from_mins(5);
    Patience { drain: long, unread: long, ..Patience::default() }
}

impl Socket {
    pub(crate) async fn open() -> Self {
        Self::with(Limits::default(), patient(), Router::new()).await
    }

    pub(crate) async fn with(limits: Limits, patience: Patience, routes: Router) -> Self {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let world = World::with(|builder| builder.limits(limits).shutdown(stop)).await;
        let dir = tempfile::tempdir().unwrap();
        let pki = pki::load_or_create(dir.path(), &["localhost".into()], &Clock::system()).unwrap();
        let ca = CertificateDer::from_pem_slice(pki.ca_pem.as_bytes()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upgrade = get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_socket| async {}) });
        let router = world.server.router().merge(Router::new().route("/socket", upgrade)).merge(routes);
        let (tls, token) = (pki.server_config().unwrap(), shutdown.clone());
        let serving = apiserver::serve_with(listener, tls, router, token, patience);
        let serving = apiserver::task::spawn("serve", serving);
        Self { world, port, ca, shutdown, serving }
    }

    pub(crate) async fn connect(&self, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
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

    /// A connection that speaks HTTP/2, and the task that keeps it going.
    async fn http2<B>(&self) -> (SendRequest<B>, JoinHandle<hyper::Result<()>>)
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(self.connect(&["h2"]).await.unwrap());
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        (sender, apiserver::task::spawn("client", connection))
    }

    fn request(&self, path: &str) -> Request<Full<Bytes>> {
        let request = Request::get(format!("https://localhost{path}"));
        request.header("Authorization", format!("Bearer {}", self.world.token)).body(Full::default()).unwrap()
    }

    /// Sends a request by HTTP/1.1 and reads the head of the answer.
    pub(crate) async fn ask(&self, path: &str, headers: &str) -> (String, BufReader<TlsStream<TcpStream>>) {
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
    let mut socket = Socket::open().await;
    socket.world.widget("web").await;
    let (head, mut watch) = socket.ask(&format!("{WIDGETS}?watch=true"), "").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut line = String::new();
    timeout(PATIENCE, watch.read_line(&mut line)).await.unwrap().unwrap();
    socket.shutdown.cancel();
    let mut rest = String::new();
    timeout(PATIENCE, watch.read_to_string(&mut rest)).await.expect("the watch ends").unwrap();
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "it ends cleanly: {rest}");
    timeout(PATIENCE, &mut socket.serving).await.expect("the listener ends").unwrap().unwrap();
    // Another program may have been given the port since, and cannot know our key.
    assert!(socket.connect(&["http/1.1"]).await.is_err());
}

#[tokio::test]
async fn many_watches_share_one_connection_and_end_with_a_farewell() {
    let socket = Socket::open().await;
    socket.world.widget("web").await;
    let (mut sender, connection) = socket.http2().await;
    let mut watches = Vec::new();
    for _ in 0..120 {
        let request = socket.request(&format!("{WIDGETS}?watch=true"));
        let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
        watches.push(response.into_body());
    }
    for watch in &mut watches {
        let frame = timeout(PATIENCE, watch.frame()).await.unwrap().unwrap().unwrap();
        assert!(frame.into_data().unwrap().starts_with(b"{\"type\":\"ADDED\""));
    }
    socket.shutdown.cancel();
    for watch in watches {
        let rest = timeout(PATIENCE, watch.collect()).await.unwrap().expect("the stream ends without an error");
        assert!(rest.to_bytes().is_empty());
    }
    // GOAWAY without an error code, then the end.
    timeout(PATIENCE, connection).await.expect("the connection ends").unwrap().unwrap();
    timeout(PATIENCE, socket.serving).await.expect("the listener ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_runs_when_the_server_stops_is_finished() {
    let (entered, leave) = (CancellationToken::new(), CancellationToken::new());
    let (in_handler, out_handler) = (entered.clone(), leave.clone());
    let slow = get(move || {
        let (entered, leave) = (in_handler.clone(), out_handler.clone());
        async move {
            entered.cancel();
            leave.cancelled().await;
            "done"
        }
    });
    let socket = Socket::with(Limits::default(), patient(), Router::new().route("/slow", slow)).await;
    let (mut sender, _connection) = socket.http2().await;
    let answer = apiserver::task::spawn("asks", sender.send_request(socket.request("/slow")));
    timeout(PATIENCE, entered.cancelled()).await.unwrap();
    socket.shutdown.cancel();
    assert!(
        timeout(Duration::from_millis(200), answer_is_there(&socket)).await.is_err(),
        "it still waits for the request"
    );
    leave.cancel();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&*body, b"done");
    timeout(PATIENCE, socket.serving).await.expect("the listener ends").unwrap().unwrap();
}

/// Ends with the listener.
async fn answer_is_there(socket: &Socket) {
    while !socket.serving.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_connects_and_sends_no_request_is_let_go() {
    let first_request = Duration::from_secs(1);
    let socket = Socket::with(Limits::default(), Patience { first_request, ..patient() }, Router::new()).await;
    let started = tokio::time::Instant::now();
    let mut stream = socket.connect(&["http/1.1"]).await.unwrap();
    // A byte now and then, as somebody does who wants to hold as many connections as possible.
    let head = b"GET /version HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
    let endless = head.iter().chain(std::iter::repeat(&b'a'));
    let sending = async {
        for byte in endless {
            if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            let mut answer = [0; 1];
            if let Ok(read) = timeout(Duration::from_millis(100), stream.read(&mut answer)).await {
                assert!(read.is_err() || read.unwrap() == 0, "no answer to half a request");
                return;
            }
        }
    };
    timeout(PATIENCE, sending).await.expect("the connection is closed");
    assert!(started.elapsed() >= first_request, "and not at once");
}

#[tokio::test]
async fn a_reader_that_stops_is_cut_off() {
    let patience = Duration::from_millis(300);
    let limits = Limits { reader_patience: patience, ..Limits::default() };
    let socket = Socket::with(limits, Patience { write: patience, ..Patience::default() }, Router::new()).await;
    let fill = async |socket: &Socket| {
        for number in 0..40 {
            let mut widget = widget_named(&format!("w{number}"));
            widget["spec"]["parts"] = serde_json::json!([{"name": "x".repeat(900_000)}]);
            socket.world.post(WIDGETS, &widget).await.expect(201);
        }
    };
    fill(&socket).await;
    // HTTP/1.1: the socket's buffers fill, and then nothing moves.
    for path in [WIDGETS.to_owned(), format!("{WIDGETS}?watch=true")] {
        let (_head, mut reader) = socket.ask(&path, "").await;
        tokio::time::sleep(patience * 4).await;
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, reader.read_to_end(&mut rest)).await.expect("it was cut off");
        assert!(ended.is_err() || rest.len() < 30_000_000, "{path}: {} bytes came", rest.len());
    }
    // HTTP/2: the connection goes on, and only the response that nobody reads is given up.
    let (mut sender, _connection) = socket.http2().await;
    let answer = sender.send_request(socket.request(WIDGETS)).await.unwrap();
    eventually("it is given up", async || {
        let metrics = socket.world.get("/metrics").await.text;
        let count = metrics.lines().find_map(|line| line.strip_prefix("apiserver_slow_readers_evicted_total "));
        count.is_some_and(|count| count != "0")
    })
    .await;
    let version = sender.send_request(socket.request("/version")).await.expect("others on the connection are served");
    assert_eq!(version.status(), 200);
    timeout(PATIENCE, answer.into_body().collect()).await.unwrap().expect_err("the rest never comes");
    // Who reads, however much it is, gets it.
    let socket = Socket::open().await;
    fill(&socket).await;
    let (mut sender, _connection) = socket.http2().await;
    let whole = sender.send_request(socket.request(WIDGETS)).await.unwrap().into_body().collect().await.unwrap();
    assert!(whole.to_bytes().len() > 36_000_000);
}

#[tokio::test]
async fn who_is_refused_while_still_sending_hears_why() {
    let socket = Socket::open().await;
    let (mut sender, _connection) = socket.http2().await;
    let (chunks, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let request = Request::post(format!("https://localhost{WIDGETS}")).body(StreamBody::new(ReceiverStream::new(body)));
    let answer = timeout(PATIENCE, sender.send_request(request.unwrap())).await.unwrap().unwrap();
    assert_eq!(answer.status(), 401, "before anything was sent");
    for _ in 0..32 {
        let chunk = Frame::data(Bytes::from(vec![b'x'; 64 << 10]));
        timeout(PATIENCE, chunks.send(Ok(chunk))).await.unwrap().expect("what it still sends is taken");
    }
    drop(chunks);
    let reason = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().expect("the stream is not reset");
    assert!(reason.to_bytes().windows(15).any(|part| part == b"\"kind\":\"Status\""));
    // Who goes on for longer than any request may is cut off.
    let (chunks, body) = tokio::sync::mpsc::channel(1);
    let request = Request::post(format!("https://localhost{WIDGETS}")).body(StreamBody::new(ReceiverStream::new(body)));
    timeout(PATIENCE, sender.send_request(request.unwrap())).await.unwrap().unwrap();
    let endless = async { while chunks.send(Ok(Frame::data(Bytes::from(vec![b'x'; 64 << 10])))).await.is_ok() {} };
    timeout(PATIENCE, endless).await.expect("it is cut off");
}
