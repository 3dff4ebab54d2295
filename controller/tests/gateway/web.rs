//! What people do under `/api/paas`, each as themselves.

use futures::StreamExt;
use http::StatusCode;
use kube::ResourceExt;
use kube::api::ListParams;
use node_protocol::{Down, ERRORS, JoinToken, OUTPUT, OpenStream, StreamEnd, StreamPurpose, Up};
use serde_json::{Value, json};

use crate::agent::{Connection, Machine, heartbeat};
use crate::platform::Platform;
use crds::{Application, Instance, Plan};

async fn application(platform: &Platform) {
    let plan = json!({ "metadata": { "name": "small" },
        "spec": { "cpu": "100m", "memory": "64Mi", "disk": "128Mi", "pricePerHour": "0.01" } });
    platform.create(&platform.cluster::<Plan>(), plan).await;
    let application = json!({ "metadata": { "name": "web" },
        "spec": { "source": { "image": { "reference": "app:1" } }, "plan": "small", "instances": 2,
            "start": { "port": 8080 } } });
    platform.create(&platform.namespaced::<Application>("acme"), application).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_change_the_application_and_return_it() {
    let platform = Platform::new().await;
    application(&platform).await;
    let act = async |user: Option<&str>, verb: &str, body: Option<Value>| {
        platform.answer(user, "POST", &format!("/api/paas/applications/acme/web/{verb}"), body).await
    };
    let (code, changed) = act(Some("acme"), "stop", None).await;
    assert_eq!((code, &changed["spec"]["running"]), (StatusCode::OK, &json!(false)), "{changed}");
    assert_eq!(act(Some("acme"), "start", None).await.1["spec"]["running"], true);
    assert_eq!(act(Some("acme"), "scale", Some(json!({ "instances": 3 }))).await.1["spec"]["instances"], 3);
    for verb in ["deploy", "restart"] {
        let annotation = format!("berth.dev/{verb}");
        let first = act(Some("acme"), verb, None).await.1["metadata"]["annotations"][&annotation].clone();
        let second = act(Some("acme"), verb, None).await.1["metadata"]["annotations"][&annotation].clone();
        assert!(first.is_string() && first != second, "{first} {second}");
    }
    for (body, expected) in [
        (json!({ "instances": -1 }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "instances": "2" }), StatusCode::BAD_REQUEST),
        (json!({}), StatusCode::BAD_REQUEST),
    ] {
        let (code, answer) = act(Some("acme"), "scale", Some(body)).await;
        assert_eq!((code, answer["kind"].as_str()), (expected, Some("Status")), "{answer}");
    }
    let (code, _) = act(Some("acme"), "rollback", Some(json!({ "release": "web-none" }))).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
    let releases = platform.namespaced::<crds::Release>("acme");
    let release = platform
        .until("there is a release", async || {
            releases.list(&ListParams::default()).await.unwrap().items.into_iter().next()
        })
        .await
        .name_any();
    let (code, changed) = act(Some("acme"), "rollback", Some(json!({ "release": release }))).await;
    assert_eq!((code, changed["spec"]["release"].as_str()), (StatusCode::OK, Some(release.as_str())));
    for verb in ["stop", "deploy", "scale", "rollback"] {
        let body = match verb {
            "scale" => Some(json!({ "instances": 1 })),
            "rollback" => Some(json!({ "release": null })),
            _ => None,
        };
        assert_eq!(act(Some("evil"), verb, body.clone()).await.0, StatusCode::NOT_FOUND, "{verb}");
        assert_eq!(act(None, verb, body).await.0, StatusCode::UNAUTHORIZED, "{verb}");
    }
    let missing = platform.answer(Some("acme"), "POST", "/api/paas/applications/acme/none/stop", None).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_make_tokens_and_nobody_else() {
    let platform = Platform::new().await;
    let path = "/api/paas/nodes/tokens";
    let wanted = json!({ "region": "eu-1", "ttlSeconds": 600, "uses": 2 });
    for (user, expected) in [(Some("acme"), StatusCode::FORBIDDEN), (None, StatusCode::UNAUTHORIZED)] {
        assert_eq!(platform.answer(user, "POST", path, Some(wanted.clone())).await.0, expected);
        assert_eq!(platform.answer(user, "GET", path, None).await.0, expected);
    }
    let (code, made) = platform.answer(Some("root"), "POST", path, Some(wanted)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    let token = JoinToken::decode(made["token"].as_str().unwrap()).unwrap();
    assert_eq!(token.ca_sha256, platform.gateway.ca_sha256());
    let (_, listed) = platform.answer(Some("root"), "GET", path, None).await;
    assert_eq!(listed["items"][0]["id"], json!(token.id));
    assert_eq!((&listed["items"][0]["region"], &listed["items"][0]["uses"]), (&json!("eu-1"), &json!(2)));
    assert!(!listed.to_string().contains(&token.secret));
    let machine = Machine::new("node-a");
    let register = "/api/internal/paas/nodes/register";
    assert_eq!(platform.answer(None, "POST", register, Some(machine.registration(&token))).await.0, StatusCode::OK);
    let one = format!("{path}/{}", token.id);
    assert_eq!(platform.answer(Some("acme"), "DELETE", &one, None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(platform.answer(Some("root"), "DELETE", &one, None).await.0, StatusCode::NO_CONTENT);
    let late = Machine::new("node-b").registration(&token);
    assert_eq!(platform.answer(None, "POST", register, Some(late)).await.0, StatusCode::FORBIDDEN);
}

/// The stream that the gateway asks for next.
async fn asked(connection: &mut Connection) -> OpenStream {
    loop {
        match connection.hear().await {
            Some(Down::OpenStream(open)) => return open,
            Some(Down::Assignment(update)) => assert!(connection.has.apply(update)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_nodes_line_by_line() {
    let platform = Platform::new().await;
    let machine = Machine::joined(&platform, "node-a").await;
    let mut connection = machine.connect(&platform, None).await;
    connection.say(&Up::Heartbeat(heartbeat())).await;
    application(&platform).await;
    let two = |connection: &Connection| connection.has.items.len() == 3;
    while !two(&connection) {
        connection.told().await;
    }
    let instances: Vec<Instance> =
        platform.namespaced::<Instance>("acme").list(&ListParams::default()).await.unwrap().items;
    let name_of = |uid: &str| {
        instances.iter().find(|instance| instance.uid().as_deref() == Some(uid)).map(ResourceExt::name_any).unwrap()
    };
    let path = "/api/paas/applications/acme/web/logs";
    let wanted = |open: &OpenStream| match &open.purpose {
        StreamPurpose::Log(wanted) => wanted.clone(),
        other => panic!("{other:?}"),
    };
    let answering = async {
        let (one, two) = (asked(&mut connection).await, asked(&mut connection).await);
        let log = wanted(&one);
        assert_eq!((log.tail_lines, log.since_seconds, log.follow, log.timestamps), (Some(5), Some(600), false, true));
        let mut streams = Vec::new();
        for open in [&one, &two] {
            let mut stream = machine.stream(&platform, open.stream).await.unwrap();
            stream.opened().await;
            streams.push(stream);
        }
        for (stream, channel, text) in
            [(0, OUTPUT, &b"hel"[..]), (1, ERRORS, b"b1\nb\xc3"), (0, OUTPUT, b"lo\n"), (1, OUTPUT, b"\xa9\nb4\n")]
        {
            streams[stream].say(channel, text).await;
        }
        streams[0].end(&StreamEnd::default()).await;
        streams[1].end(&StreamEnd::because("the container is gone")).await;
        (name_of(&one.instance), name_of(&two.instance))
    };
    let query = format!("{path}?tail=5&since=10m&timestamps=true");
    let ((code, text), (one, two)) = tokio::join!(platform.answer(Some("acme"), "GET", &query, None), answering);
    assert_eq!(code, StatusCode::OK);
    let lines = |name: &str| {
        let prefix = format!("[{name}] ");
        text.as_str()
            .unwrap()
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&one), ["hello"]);
    assert_eq!(lines(&two), ["b1", "bé", "b4", "--- the log ends here: the container is gone"]);

    // Who goes away is noticed, and the agent's stream ended.
    let follow = format!("{path}?follow&instance={one}");
    let opening = async {
        let open = asked(&mut connection).await;
        assert!(wanted(&open).follow);
        let mut stream = machine.stream(&platform, open.stream).await.unwrap();
        stream.opened().await;
        stream.say(OUTPUT, b"now\n").await;
        (open.stream, stream)
    };
    let (response, (number, mut stream)) = tokio::join!(platform.ask(Some("acme"), "GET", &follow, None), opening);
    let mut body = response.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "now\n");
    let again = machine.stream(&platform, number).await.err();
    assert_eq!(again, Some(StatusCode::NOT_FOUND), "a stream is opened once");
    drop(body);
    assert_eq!(stream.hear().await, None, "the stream has ended");

    // What cannot be opened is a plain answer.
    let refusing = async {
        let open = asked(&mut connection).await;
        let mut stream = machine.stream(&platform, open.stream).await.unwrap();
        stream.end(&StreamEnd::because("the instance has no container on this node")).await;
    };
    let query = format!("{path}?instance={one}");
    let ((code, answer), ()) = tokio::join!(platform.answer(Some("acme"), "GET", &query, None), refusing);
    assert_eq!(
        (code, &answer["message"]),
        (StatusCode::BAD_REQUEST, &json!("the instance has no container on this node"))
    );

    for (user, query, expected) in [
        (Some("evil"), "", StatusCode::NOT_FOUND),
        (None, "", StatusCode::UNAUTHORIZED),
        (Some("acme"), "?instance=none", StatusCode::NOT_FOUND),
        (Some("acme"), "?since=yesterday", StatusCode::BAD_REQUEST),
        (Some("acme"), "?tail=-1", StatusCode::BAD_REQUEST),
    ] {
        let (code, answer) = platform.answer(user, "GET", &format!("{path}{query}"), None).await;
        assert_eq!(code, expected, "{query} {answer}");
    }
    // One that goes away after it was asked is not waited for.
    let leaving = async {
        asked(&mut connection).await;
        drop(connection);
    };
    let asking = platform.answer(Some("acme"), "GET", &query, None);
    let ((code, answer), ()) = tokio::join!(asking, leaving);
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("not connected"), "{answer}");
    let offline = async || {
        let (code, answer) = platform.answer(Some("acme"), "GET", path, None).await;
        (code == StatusCode::SERVICE_UNAVAILABLE).then_some(answer)
    };
    let answer = platform.until("the node is noticed to be gone", offline).await;
    assert!(answer["message"].as_str().unwrap().contains("not connected"), "{answer}");
}
