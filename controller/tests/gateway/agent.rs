//! An agent that speaks the protocol over a real socket and does only what a test tells it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use node_protocol::{
    Assignment, Claims, Down, Heartbeat, Hello, InstanceObservation, InstanceTask, Item, JoinToken, NodeResources,
    OUTPUT, Observation, PROTOCOL_VERSION, PartState, StreamEnd, TOKEN_AUDIENCE, Up,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::platform::{PATIENCE, Platform};

/// A machine with a key.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) uid: String,
    key: Vec<u8>,
    pub(crate) public_key: String,
}

impl Machine {
    /// One that has not joined.
    pub(crate) fn new(name: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let public_key = STANDARD.encode(pair.public_key().as_ref());
        Self { name: name.to_owned(), uid: String::new(), key: document.as_ref().to_vec(), public_key }
    }

    pub(crate) fn registration(&self, token: &JoinToken) -> Value {
        json!({
            "tokenId": token.id, "tokenSecret": token.secret, "name": self.name, "publicKey": self.public_key,
            "agentVersion": "test",
        })
    }

    /// One that has joined and has said how it is, so that it can be given work.
    pub(crate) async fn joined(platform: &Platform, name: &str) -> Self {
        let mut machine = Self::new(name);
        let token = platform.token(1).await;
        let path = "/api/internal/paas/nodes/register";
        let (code, answer) = platform.answer(None, "POST", path, Some(machine.registration(&token))).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
        answer["uid"].as_str().unwrap().clone_into(&mut machine.uid);
        machine
    }

    /// A token that is good for five minutes, with whatever is changed in it.
    pub(crate) fn sign(&self, platform: &Platform, change: impl FnOnce(&mut Claims)) -> String {
        let now = platform.gateway.clock().now().as_second();
        let mut claims = Claims { sub: self.uid.clone(), aud: TOKEN_AUDIENCE.to_owned(), iat: now, exp: now + 300 };
        change(&mut claims);
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_der(&self.key)).unwrap()
    }

    /// Opens a WebSocket as a node, with a token.
    pub(crate) async fn open(platform: &Platform, uid: &str, token: &str) -> Result<Connection, StatusCode> {
        let address = format!("ws://{}/api/internal/paas/nodes/{uid}/connect", platform.address);
        let mut request = address.into_client_request().unwrap();
        let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Connection { socket, has: Assignment::default() }),
            Err(Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("no connection: {error}"),
        }
    }

    /// Opens a stream that it was asked for.
    pub(crate) async fn stream(&self, platform: &Platform, stream: u64) -> Result<Stream, StatusCode> {
        let token = self.sign(platform, |_| ());
        let address = format!("ws://{}/api/internal/paas/nodes/{}/streams/{stream}", platform.address, self.uid);
        let mut request = address.into_client_request().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Stream(socket)),
            Err(Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("no connection: {error}"),
        }
    }

    /// Connects with what it has.
    pub(crate) async fn connect(&self, platform: &Platform, has: Option<Assignment>) -> Connection {
        let mut connection = Self::open(platform, &self.uid, &self.sign(platform, |_| ())).await.unwrap();
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            agent_version: "test".to_owned(),
            revision: has.as_ref().map(|has| has.revision),
            digest: has.as_ref().map(Assignment::digest),
        };
        connection.has = has.unwrap_or_default();
        connection.say(&Up::Hello(hello)).await;
        connection
    }
}

/// How a machine with room to spare is.
pub(crate) fn heartbeat() -> Heartbeat {
    let well = PartState { healthy: true, message: String::new() };
    Heartbeat {
        at: "2001-01-01T00:00:00Z".to_owned(),
        capacity: NodeResources { cpu_millis: 4_000, memory_bytes: 8 << 30, disk_bytes: 100 << 30 },
        usage: NodeResources { cpu_millis: 101, memory_bytes: 1 << 30, disk_bytes: 1 << 30 },
        agent_version: "test".to_owned(),
        docker: well.clone(),
        ingress: well,
        ..Heartbeat::default()
    }
}

/// What is seen of an instance that serves.
pub(crate) fn serving(task: &InstanceTask) -> InstanceObservation {
    serde_json::from_value(json!({
        "uid": task.uid, "namespace": task.namespace, "name": task.name, "phase": "Running", "ready": true,
        "routed": true, "address": "10.0.0.2:8080", "restarts": 0,
    }))
    .unwrap()
}

pub(crate) fn observed(instances: Vec<InstanceObservation>) -> Up {
    Up::Observed(Observation { instances, ..Observation::default() })
}

/// An open stream.
pub(crate) struct Stream(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Stream {
    /// Says that it is open.
    pub(crate) async fn opened(&mut self) {
        self.say(OUTPUT, b"").await;
    }

    pub(crate) async fn say(&mut self, channel: u8, data: &[u8]) {
        self.0.send(Message::binary([&[channel], data].concat())).await.unwrap();
    }

    pub(crate) async fn end(&mut self, end: &StreamEnd) {
        self.0.send(Message::binary(end.frame())).await.unwrap();
    }

    /// The next frame; `None` when the gateway has ended the stream.
    pub(crate) async fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("the gateway says something in time");
            match message {
                Some(Ok(Message::Binary(frame))) => return Some(frame.to_vec()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}

/// An open WebSocket.
pub(crate) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) has: Assignment,
}

impl Connection {
    pub(crate) async fn say(&mut self, message: &Up) {
        self.say_text(serde_json::to_string(message).unwrap()).await;
    }

    pub(crate) async fn say_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message; `None` when the gateway has closed the connection.
    pub(crate) async fn hear(&mut self) -> Option<Down> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("the gateway says something in time");
            match message {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Takes in the next change of the assignment.
    pub(crate) async fn told(&mut self) -> &Assignment {
        match self.hear().await {
            Some(Down::Assignment(update)) => assert!(self.has.apply(update), "the update does not fit"),
            other => panic!("no assignment: {other:?}"),
        }
        &self.has
    }

    /// Takes in changes until there is an instance as wanted.
    pub(crate) async fn told_of(&mut self, wanted: impl Fn(&InstanceTask) -> bool) -> InstanceTask {
        loop {
            let found = self.has.items.values().find_map(|item| match item {
                Item::Instance(task) if wanted(task) => Some(task.clone()),
                _ => None,
            });
            match found {
                Some(task) => return task,
                None => self.told().await,
            };
        }
    }

    /// Shows that nothing more was on its way: the gateway answers in order.
    pub(crate) async fn is_told_nothing(&mut self) {
        self.say_text(json!({ "type": "dance" }).to_string()).await;
        match self.hear().await {
            Some(Down::Unknown { message }) => assert!(message.starts_with("dance"), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}
