//! Agents connect, are told what to run, and say what they see.

use http::StatusCode;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use node_protocol::{Down, Hello, Item, RouteObservation, RunState, Up};
use serde_json::{Value, json};

use crate::agent::{Connection, Machine, heartbeat, observed, serving};
use crate::platform::{PATIENCE, Platform};
use crds::instance::InstancePhase;
use crds::{Application, Build, Instance, Node, Plan};

/// An application of a prebuilt image in `acme`, and the node it will be placed on, connected.
async fn deployed(platform: &Platform) -> (Machine, Connection) {
    let plan = json!({ "metadata": { "name": "small" },
        "spec": { "cpu": "100m", "memory": "64Mi", "disk": "128Mi", "pricePerHour": "0.01" } });
    platform.create(&platform.cluster::<Plan>(), plan).await;
    let machine = Machine::joined(platform, "node-a").await;
    let mut connection = machine.connect(platform, None).await;
    assert_eq!(connection.told().await.items.len(), 0, "the whole, of nothing");
    connection.say(&Up::Heartbeat(heartbeat())).await;
    let application = json!({ "metadata": { "name": "web" },
        "spec": { "source": { "image": { "reference": "app:1" } }, "plan": "small", "start": { "port": 8080 } } });
    platform.create(&platform.namespaced::<Application>("acme"), application).await;
    (machine, connection)
}

async fn instance(platform: &Platform, name: &str, what: &str, holds: impl Fn(&Instance) -> bool) -> Instance {
    let api = platform.namespaced::<Instance>("acme");
    platform.until(what, async || api.get_opt(name).await.unwrap().filter(|instance| holds(instance))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_apply_to_serving_and_to_gone() {
    let platform = Platform::new().await;
    let (machine, mut connection) = deployed(&platform).await;
    let task = connection.told_of(|task| task.application == "web").await;
    assert_eq!((task.state, task.image.as_str(), task.port), (RunState::Run, "app:1", Some(8080)));
    let route = connection.has.items.values().find_map(|item| match item {
        Item::Route(route) => Some(route.clone()),
        _ => None,
    });
    let route = route.expect("the route comes with the instance");
    assert_eq!(route.hosts, ["web-acme.apps.example.com"]);

    connection.say(&observed(vec![serving(&task)])).await;
    let live = RouteObservation {
        application_uid: route.application_uid.clone(),
        namespace: "acme".to_owned(),
        application: "web".to_owned(),
        ready: true,
        hosts: route.hosts.clone(),
        error: None,
    };
    let gone = RouteObservation { ready: false, hosts: Vec::new(), ..live.clone() };
    let routes = |route| Up::Observed(node_protocol::Observation { routes: vec![route], ..Default::default() });
    connection.say(&routes(live)).await;
    let applications = platform.namespaced::<Application>("acme");
    let ready = async || {
        let status = applications.get("web").await.unwrap().status?;
        crds::condition::is_true(&status.conditions, "Ready").then_some(status)
    };
    let status = platform.until("the application is ready", ready).await;
    assert_eq!(status.routes["node-a"].hosts, route.hosts);
    let node = platform.cluster::<Node>().get("node-a").await.unwrap().status.unwrap();
    assert_eq!(node.usage.unwrap().cpu.unwrap().to_string(), "110m");
    assert!(!node.last_heartbeat.unwrap().starts_with("2001"), "the server's clock");

    // Told again when it connects anew with what it has: nothing.
    let has = connection.has.clone();
    drop(connection);
    let mut connection = machine.connect(&platform, Some(has.clone())).await;
    connection.is_told_nothing().await;
    assert_eq!(connection.has.revision, has.revision);

    applications.delete("web", &DeleteParams::default()).await.unwrap();
    let stopping = connection.told_of(|task| task.state == RunState::Stop).await;
    assert_eq!(stopping.uid, task.uid);
    let mut stopped = serving(&task);
    (stopped.phase, stopped.ready, stopped.routed) = (InstancePhase::Stopped, false, false);
    connection.say(&observed(vec![stopped])).await;
    connection.say(&routes(gone)).await;
    let gone = async || applications.get_opt("web").await.unwrap().is_none().then_some(());
    platform.until("the application is gone", gone).await;
    while !connection.has.items.is_empty() {
        connection.told().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_writes_only_about_what_it_was_given() {
    let platform = Platform::new().await;
    let (_, mut connection) = deployed(&platform).await;
    let task = connection.told_of(|task| task.application == "web").await;
    let refused = |reason| platform.count("berth_gateway_refused_total", reason);

    let other = Machine::joined(&platform, "node-b").await;
    let mut intruder = other.connect(&platform, None).await;
    intruder.told().await;
    let mut lie = serving(&task);
    lie.message = Some("taken over".to_owned());
    intruder.say(&observed(vec![lie])).await;
    let route = RouteObservation {
        application_uid: task.application_uid.clone(),
        namespace: "acme".to_owned(),
        application: "web".to_owned(),
        ready: true,
        hosts: vec!["stolen.example.com".to_owned()],
        error: None,
    };
    intruder.say(&Up::Observed(node_protocol::Observation { routes: vec![route], ..Default::default() })).await;
    // Heard in order: whatever comes of the above has come before this is answered.
    intruder.is_told_nothing().await;
    assert_eq!((refused("instance"), refused("route")), (1.0, 1.0));

    // Of an object that bears the name by now, but is another.
    let mut earlier = serving(&task);
    earlier.uid = "00000000-0000-0000-0000-000000000000".to_owned();
    connection.say(&observed(vec![earlier])).await;
    connection.is_told_nothing().await;

    let mut starting = serving(&task);
    (starting.phase, starting.ready, starting.routed) = (InstancePhase::Starting, false, false);
    connection.say(&observed(vec![starting])).await;
    let status = instance(&platform, &task.name, "the agent's own word", |instance| {
        instance.status.as_ref().is_some_and(|status| status.phase == InstancePhase::Starting)
    });
    let status = status.await.status.unwrap();
    assert_eq!((status.ready, status.message), (false, None), "the intruder's word never stood there");
    let routes = platform.namespaced::<Application>("acme").get("web").await.unwrap().status.unwrap().routes;
    assert_eq!(routes.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_words_on_one_instance_the_last_stands() {
    let platform = Platform::new().await;
    let (_, mut connection) = deployed(&platform).await;
    let task = connection.told_of(|task| task.application == "web").await;
    for restarts in 1..=500 {
        let mut seen = serving(&task);
        seen.restarts = restarts;
        connection.say(&observed(vec![seen])).await;
    }
    let last = |instance: &Instance| instance.status.as_ref().is_some_and(|status| status.restarts == 500);
    instance(&platform, &task.name, "the last word", last).await;
    let writes = || platform.count("berth_gateway_status_writes_total", "Instance");
    let counted =
        async |least: f64| platform.until("the write is counted", async || (writes() >= least).then(&writes)).await;
    let before = counted(1.0).await;
    assert!(before <= 500.0, "{before}");
    // The same again is no write, so that after it there is one more, and perhaps the last of before.
    for restarts in [500; 20].into_iter().chain([501]) {
        let mut seen = serving(&task);
        seen.restarts = restarts;
        connection.say(&observed(vec![seen])).await;
        connection.is_told_nothing().await;
    }
    let last = |instance: &Instance| instance.status.as_ref().is_some_and(|status| status.restarts == 501);
    instance(&platform, &task.name, "another word", last).await;
    let more = counted(before + 1.0).await - before;
    assert!(more <= 2.0, "{more}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_to_do_is_told_in_messages_of_an_allowed_size() {
    let platform = Platform::new().await;
    let (machine, mut connection) = deployed(&platform).await;
    let env: Vec<Value> =
        (0..15).map(|number| json!({ "name": format!("V{number}"), "value": "x".repeat(32_000) })).collect();
    let creating = async {
        for number in 0..20 {
            let large = json!({ "metadata": { "name": format!("large-{number}") },
                "spec": { "source": { "image": { "reference": "app:1" } }, "plan": "small", "env": env } });
            platform.create(&platform.namespaced::<Application>("acme"), large).await;
        }
    };
    let is_large = |item: &&Item| matches!(item, Item::Instance(task) if task.env.len() == 15);
    // An agent that does not read is taken for a slow one.
    let reading = async {
        while connection.has.items.values().filter(is_large).count() < 20 {
            connection.told().await;
        }
    };
    tokio::join!(creating, reading);
    let mut anew = machine.connect(&platform, None).await;
    let mut messages = 0;
    loop {
        let message = anew.hear().await.expect("the connection holds");
        assert!(serde_json::to_vec(&message).unwrap().len() <= node_protocol::FRAME_BYTES_MAX);
        let Down::Assignment(update) = message else { panic!("{message:?}") };
        messages += 1;
        let more = update.more;
        assert!(anew.has.apply(update));
        if !more {
            break;
        }
    }
    assert!(messages > 1 && serde_json::to_vec(&anew.has.whole()).unwrap().len() > node_protocol::FRAME_BYTES_MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_said_before_its_silence_is_asked_for_again() {
    let platform = Platform::new().await;
    let (_, mut connection) = deployed(&platform).await;
    let task = connection.told_of(|task| task.application == "web").await;
    connection.say(&observed(vec![serving(&task)])).await;
    let is = |wanted: InstancePhase| {
        move |instance: &Instance| instance.status.as_ref().is_some_and(|status| status.phase == wanted)
    };
    instance(&platform, &task.name, "it runs", is(InstancePhase::Running)).await;
    connection.say(&Up::Heartbeat(heartbeat())).await;
    connection.is_told_nothing().await;

    // As the reconciler writes when nothing was heard for a while.
    let instances = platform.namespaced::<Instance>("acme");
    platform.patch_status(&instances, &task.name, json!({ "phase": "Unknown", "ready": false })).await;
    let mut asked = false;
    // The controller's own view follows what was written a moment later.
    let ask = async {
        while !asked {
            connection.say(&Up::Heartbeat(heartbeat())).await;
            // Answers come in order, and to this there always is one.
            connection.say_text(json!({ "type": "dance" }).to_string()).await;
            loop {
                match connection.hear().await {
                    Some(Down::Observe) => asked = true,
                    Some(Down::Unknown { .. }) => break,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.expect("everything is asked for");
    connection.say(&observed(vec![serving(&task)])).await;
    instance(&platform, &task.name, "it runs again", is(InstancePhase::Running)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_node_itself_connects() {
    let platform = Platform::new().await;
    let (a, b) = (Machine::joined(&platform, "node-a").await, Machine::joined(&platform, "node-b").await);
    let good = a.sign(&platform, |_| ());
    for (uid, token) in [
        (&a.uid, b.sign(&platform, |_| ())),
        (&a.uid, b.sign(&platform, |claims| claims.sub.clone_from(&a.uid))),
        (&b.uid, good.clone()),
        (&"unknown".to_owned(), good.clone()),
        (&a.uid, a.sign(&platform, |claims| claims.aud = "berth-api".to_owned())),
        (&a.uid, a.sign(&platform, |claims| claims.exp = claims.iat + 3600)),
        (&a.uid, a.sign(&platform, |claims| (claims.iat, claims.exp) = (claims.iat - 600, claims.iat - 300))),
        (&a.uid, String::new()),
        (&a.uid, "a.b.c".to_owned()),
    ] {
        let refused = Machine::open(&platform, uid, &token).await.err();
        assert_eq!(refused, Some(StatusCode::UNAUTHORIZED), "{uid} {token}");
    }
    assert!(Machine::open(&platform, &a.uid, &good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_cut_off() {
    let platform = Platform::new().await;
    let (a, b) = (Machine::joined(&platform, "node-a").await, Machine::joined(&platform, "node-b").await);
    let (mut to_a, mut to_b) = (a.connect(&platform, None).await, b.connect(&platform, None).await);
    to_a.told().await;
    to_b.told().await;
    let nodes: Api<Node> = platform.cluster();
    platform.patch(&nodes, "node-a", json!({ "spec": { "publicKey": Value::Null } })).await;
    assert!(to_a.hear().await.is_none(), "closed");
    let refused = Machine::open(&platform, &a.uid, &a.sign(&platform, |_| ())).await.err();
    assert_eq!(refused, Some(StatusCode::UNAUTHORIZED));
    to_b.is_told_nothing().await;
    nodes.delete("node-b", &DeleteParams::default()).await.unwrap();
    assert!(to_b.hear().await.is_none(), "closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_connection_of_a_node_takes_over() {
    let platform = Platform::new().await;
    let a = Machine::joined(&platform, "node-a").await;
    let mut first = a.connect(&platform, None).await;
    first.told().await;
    let mut second = a.connect(&platform, Some(first.has.clone())).await;
    assert!(first.hear().await.is_none(), "closed");
    second.is_told_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_lost_its_place_gets_the_whole() {
    let platform = Platform::new().await;
    let (_, mut connection) = deployed(&platform).await;
    connection.told_of(|task| task.application == "web").await;
    let hello = Hello { protocol: 1, revision: Some(3), digest: Some("unlike".to_owned()), ..Hello::default() };
    let before = connection.has.clone();
    connection.say(&Up::Hello(hello)).await;
    match connection.hear().await {
        Some(Down::Assignment(update)) => {
            assert_eq!(update.base, None);
            assert!(update.revision > before.revision);
            assert_eq!(update.upserts.len(), before.items.len());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polling_does_all_that_a_socket_does() {
    let platform = Platform::new().await;
    let (machine, connection) = deployed(&platform).await;
    drop(connection);
    let client = as_agent(&platform, &machine);
    let told = platform
        .until("the poll tells of the instance", async || {
            let (code, answer) = client("GET", "assignment?protocol=1&agentVersion=test".to_owned(), None).await;
            assert_eq!(code, StatusCode::OK, "{answer}");
            let answer: node_protocol::PollAnswer = serde_json::from_value(answer).unwrap();
            let [Down::Assignment(update)] = answer.messages.as_slice() else { panic!("{answer:?}") };
            let mut has = node_protocol::Assignment::default();
            assert!(has.apply(update.clone()));
            has.items.values().any(|item| matches!(item, Item::Instance(_))).then_some(has)
        })
        .await;
    let task =
        told.items.values().find_map(|item| if let Item::Instance(task) = item { Some(task.clone()) } else { None });
    let task = task.unwrap();
    let seen = serde_json::to_value(observed(vec![serving(&task)])).unwrap();
    let posts = json!({ "messages": [seen, { "type": "dance" }, { "type": "buildLog", "build": "gone", "offset": 5, "text": "x" }] });
    let (code, answer) = client("POST", "observed".to_owned(), Some(posts)).await;
    assert_eq!(code, StatusCode::OK, "{answer}");
    assert_eq!(answer["messages"][0]["type"], "unknown");
    assert_eq!(answer["messages"][1], json!({ "type": "logKept", "build": "gone", "bytes": 6 }));
    instance(&platform, &task.name, "the posted word", |instance| {
        instance.status.as_ref().is_some_and(|status| status.ready)
    })
    .await;

    // With what it has, a poll waits for news and gets the difference.
    let query = format!("assignment?protocol=1&agentVersion=test&revision={}&digest={}", told.revision, told.digest());
    let waiting = client("GET", query, None);
    let change = async {
        let spec = json!({ "spec": { "domains": ["shop.example.com"] } });
        platform.patch(&platform.namespaced::<Application>("acme"), "web", spec).await;
    };
    let ((code, answer), ()) = tokio::join!(waiting, change);
    assert_eq!(code, StatusCode::OK);
    let answer: node_protocol::PollAnswer = serde_json::from_value(answer).unwrap();
    let [Down::Assignment(update)] = answer.messages.as_slice() else { panic!("{answer:?}") };
    let mut has = told.clone();
    assert!(has.apply(update.clone()), "{update:?} does not fit {}", told.revision);
    let hosts =
        has.items.values().find_map(|item| if let Item::Route(route) = item { Some(&route.hosts) } else { None });
    assert_eq!(hosts.unwrap(), &["web-acme.apps.example.com", "shop.example.com"]);

    let (code, _) =
        platform.answer(None, "GET", &format!("/api/internal/paas/nodes/{}/assignment", machine.uid), None).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "no hello");
}

/// Asks as a node's agent.
fn as_agent<'a>(
    platform: &'a Platform,
    machine: &'a Machine,
) -> impl AsyncFn(&'static str, String, Option<Value>) -> (StatusCode, Value) + 'a {
    async move |method, path, body| {
        let path = format!("/api/internal/paas/nodes/{}/{path}", machine.uid);
        platform.answer_as(&machine.sign(platform, |_| ()), method, &path, body).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builds_log_is_kept_once_however_often_it_is_sent() {
    let platform = Platform::new().await;
    let machine = Machine::joined(&platform, "node-a").await;
    let other = Machine::joined(&platform, "node-b").await;
    let builds = platform.namespaced::<Build>("acme");
    let build = json!({ "metadata": { "name": "web-b1" },
        "spec": { "application": "web", "source": { "git": { "url": "https://git.example.com/a/b.git" } } } });
    let uid = platform.create(&builds, build).await.uid().unwrap();
    platform.patch_status(&builds, "web-b1", json!({ "node": "node-a", "phase": "Building" })).await;
    let mut connection = machine.connect(&platform, None).await;
    let told = async |connection: &mut Connection| {
        while !connection.has.items.values().any(|item| matches!(item, Item::Build(task) if task.uid == uid)) {
            connection.told().await;
        }
    };
    told(&mut connection).await;
    let log = |offset: u64, text: &str| Up::BuildLog { build: uid.clone(), offset, text: text.to_owned() };
    for (offset, text, kept) in [(0, "one\n", 4), (0, "one\n", 4), (9, "gap", 4), (2, "e\ntwo\n", 8), (8, "", 8)] {
        connection.say(&log(offset, text)).await;
        assert_eq!(connection.hear().await, Some(Down::LogKept { build: uid.clone(), bytes: kept }), "{offset}");
    }
    let mut intruder = other.connect(&platform, None).await;
    intruder.told().await;
    intruder.say(&log(8, "lies\n")).await;
    intruder.is_told_nothing().await;
    assert!(platform.count("berth_gateway_refused_total", "log") > 0.0);

    let path = "/api/paas/builds/acme/web-b1/logs";
    assert_eq!(platform.answer(Some("acme"), "GET", path, None).await, (StatusCode::OK, json!("one\ntwo\n")));
    assert_eq!(platform.answer(Some("evil"), "GET", path, None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(platform.answer(None, "GET", path, None).await.0, StatusCode::UNAUTHORIZED);

    // Who follows gets the rest, and the end when the build has ended. An agent tells the last of the log before that; what
    // comes late nevertheless, as after a connection that broke, is waited for.
    let follow = format!("{path}?follow");
    let reading = platform.answer(Some("acme"), "GET", &follow, None);
    let writing = async {
        connection.say(&log(8, "three\n")).await;
        let ended = json!({ "type": "observed", "builds": [{ "uid": uid, "namespace": "acme", "name": "web-b1",
            "phase": "Failed", "failure": { "reason": "CommandFailed", "message": "npm ended with 1" } }] });
        connection.say_text(ended.to_string()).await;
        connection.say(&log(14, "four\n")).await;
    };
    let (read, ()) = tokio::join!(reading, writing);
    assert_eq!(read, (StatusCode::OK, json!("one\ntwo\nthree\nfour\n")));
    let status = builds.get("web-b1").await.unwrap().status.unwrap();
    assert_eq!((status.phase.is_final(), status.failure.unwrap().reason.as_str()), (true, "CommandFailed"));
}
