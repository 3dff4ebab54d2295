//! Watches over a WebSocket, as a browser opens them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::sockets::Socket;
use crate::world::{PATIENCE, WIDGETS, widget_named};

type Browser = WebSocketStream<TlsStream<TcpStream>>;

/// Opens a WebSocket with a list of subprotocols and nothing else: a browser can set no header.
async fn open(
    socket: &Socket,
    path: &str,
    protocols: &str,
) -> Result<(Browser, Response<Option<Vec<u8>>>), tungstenite::Error> {
    let request = Request::get(format!("wss://localhost{path}"))
        .header("Host", "localhost")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("Sec-WebSocket-Protocol", protocols)
        .body(())
        .unwrap();
    client_async(request, socket.connect(&["http/1.1"]).await.unwrap()).await
}

fn token(socket: &Socket) -> String {
    format!("base64url.bearer.authorization.k8s.io.{}", URL_SAFE_NO_PAD.encode(&socket.world.token))
}

async fn next(browser: &mut Browser) -> Value {
    match timeout(PATIENCE, browser.next()).await.expect("an event in time").expect("an event").unwrap() {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("not a text frame: {other:?}"),
    }
}

#[tokio::test]
async fn every_event_is_one_text_frame() {
    let socket = Socket::open().await;
    let first = socket.world.widget("a").await;
    socket.world.widget("b").await;
    let path = format!(
        "{WIDGETS}?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
    );
    let (mut browser, answer) =
        open(&socket, &path, &format!("{}, base64.binary.k8s.io", token(&socket))).await.unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "base64.binary.k8s.io", "the token is not sent back");
    assert_eq!(next(&mut browser).await, json!({"type": "ADDED", "object": first}));
    assert_eq!(next(&mut browser).await["object"]["metadata"]["name"], "b");
    assert_eq!(next(&mut browser).await["type"], "BOOKMARK");
    browser.send(Message::Ping("are you there".into())).await.unwrap();
    assert!(matches!(timeout(PATIENCE, browser.next()).await.unwrap().unwrap().unwrap(), Message::Pong(_)));
    let added = socket.world.post(WIDGETS, &widget_named("c")).await.expect(201);
    assert_eq!(next(&mut browser).await, json!({"type": "ADDED", "object": added}));
    let open = r#"apiserver_longrunning_requests{resource="widgets.example.dev"} "#;
    assert!(socket.world.get("/metrics").await.text.contains(&format!("{open}1")));
    browser.close(None).await.unwrap();
    crate::world::eventually("the watch ends", async || {
        socket.world.get("/metrics").await.text.contains(&format!("{open}0"))
    })
    .await;
}

#[tokio::test]
async fn a_watch_of_a_browser_ends_with_a_close_frame() {
    let socket = Socket::open().await;
    let path = format!("{WIDGETS}?watch=true&timeoutSeconds=1");
    let (mut browser, _) = open(&socket, &path, &format!("{}, x", token(&socket))).await.unwrap();
    let end = timeout(PATIENCE, browser.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(end, Message::Close(_)), "{end:?}");
    let (mut browser, _) =
        open(&socket, &format!("{WIDGETS}?watch=true"), &format!("{}, x", token(&socket))).await.unwrap();
    socket.shutdown.cancel();
    let end = timeout(PATIENCE, browser.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(end, Message::Close(_)), "{end:?}");
}

#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let socket = Socket::open().await;
    let path = format!("{WIDGETS}?watch=true");
    let wrong = format!("base64url.bearer.authorization.k8s.io.{}, x", URL_SAFE_NO_PAD.encode("wrong"));
    let alone = token(&socket);
    for protocols in [wrong.as_str(), alone.as_str(), "x"] {
        match open(&socket, &path, protocols).await {
            Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 401, "{protocols}"),
            other => panic!("{protocols}: {other:?}"),
        }
    }
    // The errors of a watch that begins too late come in the stream, as everywhere.
    match open(&socket, &format!("{path}&labelSelector=!!"), &format!("{}, x", token(&socket))).await {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 400),
        other => panic!("{other:?}"),
    }
}
