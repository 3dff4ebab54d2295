//! A gateway for tests: says what it is told to say, and remembers what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use node_protocol::{
    Assignment, BuildObservation, Claims, Down, END, Heartbeat, Hello, InstanceObservation, Item, JoinToken,
    OpenStream, Poll, PollAnswer, Registration, RegistrationAnswer, RouteObservation, StreamEnd, StreamPurpose,
    TOKEN_AUDIENCE, Up,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// What was heard, put together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) hellos: Vec<Hello>,
    pub(crate) applied: Option<u64>,
    pub(crate) instances: BTreeMap<String, InstanceObservation>,
    pub(crate) builds: BTreeMap<String, BuildObservation>,
    pub(crate) routes: BTreeMap<String, RouteObservation>,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) unknown: Vec<String>,
}

impl Heard {
    fn hear(&mut self, up: Up) {
        match up {
            Up::Hello(hello) => self.hellos.push(hello),
            Up::Applied { revision } => self.applied = Some(revision),
            Up::Observed(seen) => {
                if seen.full {
                    self.instances.clear();
                    self.routes.clear();
                    self.builds.clear();
                }
                self.instances.extend(seen.instances.into_iter().map(|one| (one.uid.clone(), one)));
                self.builds.extend(seen.builds.into_iter().map(|one| (one.uid.clone(), one)));
                self.routes.extend(seen.routes.into_iter().map(|one| (one.application_uid.clone(), one)));
            }
            Up::Heartbeat(heartbeat) => self.heartbeats.push(heartbeat),
            Up::BuildLog { .. } => {}
            Up::Unknown { message } => self.unknown.push(message),
        }
    }
}

struct Inner {
    uid: String,
    secret: String,
    ca_pem: String,
    key: Mutex<Option<String>>,
    assignment: watch::Sender<Assignment>,
    heard: watch::Sender<Heard>,
    says: Mutex<Vec<mpsc::Sender<Down>>>,
    registrations: AtomicUsize,
    opened: AtomicUsize,
    streams: Mutex<BTreeMap<u64, oneshot::Sender<WebSocket>>>,
    no_sockets: AtomicBool,
}

/// A stream that the agent has opened.
pub(crate) struct Stream {
    socket: WebSocket,
    /// What came so far.
    pub(crate) output: Vec<u8>,
    pub(crate) errors: Vec<u8>,
}

impl Stream {
    pub(crate) async fn say(&mut self, channel: u8, data: &[u8]) {
        self.socket.send(Message::binary([&[channel], data].concat())).await.unwrap();
    }

    /// Hears frames until one is as wanted: `(channel, data)`, the data of channels 1 and 2 gathered.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Self) -> bool) -> Option<StreamEnd> {
        while !wanted(self) {
            let message = tokio::time::timeout(Duration::from_secs(30), self.socket.recv()).await.unwrap();
            let Some(Ok(message)) = message else { panic!("the stream ended without a word") };
            let Message::Binary(frame) = message else { continue };
            match frame[0] {
                1 => self.output.extend_from_slice(&frame[1..]),
                2 => self.errors.extend_from_slice(&frame[1..]),
                END => return Some(serde_json::from_slice(&frame[1..]).unwrap()),
                _ => {}
            }
        }
        None
    }

    /// Hears it to its end.
    pub(crate) async fn end(&mut self) -> StreamEnd {
        self.until(|_| false).await.unwrap()
    }
}

/// A gateway.
pub(crate) struct Gateway {
    inner: Arc<Inner>,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    _server: JoinSet<()>,
}

impl Gateway {
    /// Starts one, for a node with this uid.
    pub(crate) async fn start(uid: &str) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&params, &ca_key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let inner = Arc::new(Inner {
            uid: uid.to_owned(),
            secret: "5e".repeat(32),
            ca_pem: ca.pem(),
            key: Mutex::default(),
            assignment: watch::Sender::new(Assignment::default()),
            heard: watch::Sender::default(),
            says: Mutex::default(),
            registrations: AtomicUsize::new(0),
            opened: AtomicUsize::new(1),
            streams: Mutex::default(),
            no_sockets: AtomicBool::new(false),
        });
        let token = JoinToken {
            id: "t1".to_owned(),
            secret: inner.secret.clone(),
            ca_sha256: hex::encode(digest::digest(&digest::SHA256, ca.der())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, tokio_rustls::TlsAcceptor::from(Arc::new(tls)), router(Arc::clone(&inner))));
        Self { inner, address, token: token.encode(), _server: server }
    }

    /// Assigns these items, and no others.
    pub(crate) fn assign(&self, items: &[Item]) -> u64 {
        let mut revision = 0;
        self.inner.assignment.send_modify(|assignment| {
            assignment.revision += 1;
            revision = assignment.revision;
            assignment.items = items.iter().map(|item| (item.key(), item.clone())).collect();
        });
        revision
    }

    /// Says something on all connections.
    pub(crate) async fn say(&self, down: Down) {
        let says = self.inner.says.lock().unwrap().clone();
        for say in says {
            // A connection that has ended hears nothing.
            drop(say.send(down.clone()).await);
        }
    }

    /// Opens a stream, and waits for the agent's.
    pub(crate) async fn open(&self, instance: &str, purpose: StreamPurpose) -> Stream {
        let number = self.inner.opened.fetch_add(1, Ordering::SeqCst) as u64;
        let (arrived, arrives) = oneshot::channel();
        self.inner.streams.lock().unwrap().insert(number, arrived);
        self.say(Down::OpenStream(OpenStream { stream: number, instance: instance.to_owned(), purpose })).await;
        let socket = tokio::time::timeout(Duration::from_secs(30), arrives).await.unwrap().unwrap();
        Stream { socket, output: Vec::new(), errors: Vec::new() }
    }

    /// From now on upgrades are refused, and open connections closed.
    pub(crate) fn refuse_sockets(&self) {
        self.inner.no_sockets.store(true, Ordering::SeqCst);
        self.inner.says.lock().unwrap().clear();
    }

    pub(crate) fn registrations(&self) -> usize {
        self.inner.registrations.load(Ordering::SeqCst)
    }

    /// Waits until what was heard is as wanted. A minute is generous on a busy machine.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.inner.heard.subscribe();
        let waited = tokio::time::timeout(Duration::from_mins(1), heard.wait_for(|heard| wanted(heard))).await;
        if let Ok(Ok(heard)) = waited {
            return heard.clone();
        }
        let heard = self.inner.heard.borrow();
        panic!("{what} did not come about: {:#?} {:#?}", heard.instances, heard.routes)
    }

    pub(crate) fn heard(&self) -> Heard {
        self.inner.heard.borrow().clone()
    }
}

async fn serve(listener: TcpListener, tls: tokio_rustls::TlsAcceptor, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, router) = (tls.clone(), router.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            let service = hyper_util::service::TowerToHyperService::new(router);
            let builder = hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
            let io = hyper_util::rt::TokioIo::new(stream);
            // An agent that is killed breaks its connection off.
            drop(builder.serve_connection_with_upgrades(io, service).await);
        });
    }
}

fn router(inner: Arc<Inner>) -> Router {
    let nodes = "/api/internal/paas/nodes";
    Router::new()
        .route("/api/internal/paas/ca", get(async |State(inner): State<Arc<Inner>>| inner.ca_pem.clone()))
        .route(&format!("{nodes}/register"), post(register))
        .route(&format!("{nodes}/{{uid}}/connect"), get(connect))
        .route(&format!("{nodes}/{{uid}}/streams/{{stream}}"), get(stream))
        .route(&format!("{nodes}/{{uid}}/assignment"), get(assignment))
        .route(&format!("{nodes}/{{uid}}/observed"), post(observed))
        .with_state(inner)
}

async fn register(State(inner): State<Arc<Inner>>, Json(asked): Json<Registration>) -> Response {
    let mut key = inner.key.lock().unwrap();
    let again = key.as_ref() == Some(&asked.public_key);
    if asked.token_secret != inner.secret || (key.is_some() && !again) {
        return (StatusCode::FORBIDDEN, "the token was used already").into_response();
    }
    *key = Some(asked.public_key);
    inner.registrations.fetch_add(1, Ordering::SeqCst);
    Json(RegistrationAnswer { name: asked.name, uid: inner.uid.clone(), region: "test".to_owned() }).into_response()
}

/// Whether this is the node that registered.
fn recognised(inner: &Inner, uid: &str, headers: &HeaderMap) -> bool {
    let Some(key) = inner.key.lock().unwrap().clone() else { return false };
    let Some(token) = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
    else {
        return false;
    };
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[TOKEN_AUDIENCE]);
    let key = DecodingKey::from_ed_der(&STANDARD.decode(key).unwrap());
    uid == inner.uid
        && jsonwebtoken::decode::<Claims>(token, &key, &validation).is_ok_and(|token| token.claims.sub == inner.uid)
}

async fn connect(
    State(inner): State<Arc<Inner>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    if !recognised(&inner, &uid, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if inner.no_sockets.load(Ordering::SeqCst) {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    upgrade.on_upgrade(move |socket| talk(inner, socket))
}

async fn stream(
    State(inner): State<Arc<Inner>>,
    Path((uid, stream)): Path<(String, u64)>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(arrived) = inner.streams.lock().unwrap().remove(&stream).filter(|_| recognised(&inner, &uid, &headers))
    else {
        return StatusCode::NOT_FOUND.into_response();
    };
    upgrade.on_upgrade(async move |socket| drop(arrived.send(socket)))
}

async fn talk(inner: Arc<Inner>, socket: WebSocket) {
    let (mut sink, mut stream) = socket.split();
    let (say, mut says) = mpsc::channel::<Down>(16);
    inner.says.lock().unwrap().push(say);
    let mut assignments = inner.assignment.subscribe();
    let mut sent: Option<Assignment> = None;
    loop {
        let mut down = None;
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let up: Up = serde_json::from_str(&text).unwrap();
                    if let Up::Hello(hello) = &up {
                        let now = assignments.borrow_and_update().clone();
                        if hello.digest.as_ref() != Some(&now.digest()) {
                            down = Some(Down::Assignment(now.whole()));
                        }
                        sent = Some(now);
                    }
                    inner.heard.send_modify(|heard| heard.hear(up));
                }
                Some(Ok(_)) => {}
                _ => return,
            },
            _ = assignments.changed() => {
                let now = assignments.borrow_and_update().clone();
                if let Some(before) = &sent {
                    down = Some(Down::Assignment(now.since(before)));
                    sent = Some(now);
                }
            }
            said = says.recv() => match said {
                Some(said) => down = Some(said),
                None => return,
            },
        }
        if let Some(down) = down
            && sink.send(Message::text(serde_json::to_string(&down).unwrap())).await.is_err()
        {
            return;
        }
    }
}

async fn assignment(
    State(inner): State<Arc<Inner>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Query(hello): Query<Hello>,
) -> Response {
    if !recognised(&inner, &uid, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut assignments = inner.assignment.subscribe();
    let differs = |now: &Assignment| hello.digest.as_ref() != Some(&now.digest());
    // Shorter than the real one's 25 s: a WebSocket is tried again after each.
    let found = tokio::time::timeout(Duration::from_secs(5), assignments.wait_for(differs)).await;
    let messages = match found {
        Ok(Ok(now)) => vec![Down::Assignment(now.whole())],
        _ => Vec::new(),
    };
    Json(PollAnswer { messages }).into_response()
}

async fn observed(
    State(inner): State<Arc<Inner>>,
    Path(uid): Path<String>,
    headers: HeaderMap,
    Json(poll): Json<Poll>,
) -> Response {
    if !recognised(&inner, &uid, &headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    inner.heard.send_modify(|heard| poll.messages.into_iter().for_each(|up| heard.hear(up)));
    Json(PollAnswer::default()).into_response()
}
