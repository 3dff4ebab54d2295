//! The agent on real Docker, with a gateway of the test's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod engine;
mod firewall;
mod gateway;
mod node;
mod streams;

use std::time::Duration;

use crds::instance::InstancePhase;
use node_protocol::{InstanceTask, Item, LogWanted, RunState, StreamEnd, StreamPurpose};

use node::{Node, docker, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_runs_answers_is_routed_and_goes() {
    let mut node = Node::start().await;
    let task = node.instance("web-1");
    let revision = node.gateway.assign(&[Item::Instance(task.clone()), node.route()]);
    let heard = node.gateway.until("the instance is routed", |heard| {
        heard.instances.get(&task.uid).is_some_and(|one| one.ready && one.routed)
            && heard.routes.values().any(|route| route.ready)
            && heard.applied == Some(revision)
    });
    let heard = heard.await;
    let seen = &heard.instances[&task.uid];
    assert_eq!((seen.phase, seen.restarts), (InstancePhase::Running, 0));
    let address = seen.address.clone().unwrap();
    assert!(address.ends_with(":8080"), "{address}");
    assert_eq!(get(&address).await.trim(), "I am web-1");
    let site = node.table.all().last().unwrap().sites.values().next().unwrap().clone();
    assert_eq!(site.backends, [address.parse().unwrap()]);

    node.gateway.until("a heartbeat comes", |heard| heard.heartbeats.iter().any(|beat| beat.docker.healthy)).await;
    let mut log = node.gateway.open(&task.uid, StreamPurpose::Log(LogWanted::default())).await;
    assert_eq!(log.end().await, StreamEnd::default());
    node.clear(&[task]).await;
    node.stop_agent().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_hardened() {
    let mut node = Node::start().await;
    let task = node.instance("web-1");
    node.gateway.assign(&[Item::Instance(task.clone())]);
    let heard =
        node.gateway.until("it runs", |heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready)).await;
    let id = heard.instances[&task.uid].container_id.clone().unwrap();
    let inspected: serde_json::Value = serde_json::from_str(&docker(&["inspect", &id]).unwrap()).unwrap();
    let host = &inspected[0]["HostConfig"];
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]));
    assert_eq!(host["SecurityOpt"], serde_json::json!(["no-new-privileges:true"]));
    assert_eq!((host["Memory"].as_u64(), host["MemorySwap"].as_u64()), (Some(32 << 20), Some(32 << 20)));
    assert_eq!(host["NanoCpus"].as_u64(), Some(200_000_000));
    assert_eq!(host["PidsLimit"].as_u64(), Some(256));
    assert_eq!(host["Privileged"].as_bool(), Some(false));
    assert_eq!(host["RestartPolicy"]["Name"].as_str(), Some("no"));
    assert_eq!(host["LogConfig"]["Config"]["max-size"].as_str(), Some("10m"));
    assert!(host["PortBindings"].as_object().is_none_or(serde_json::Map::is_empty));
    assert!(host["Binds"].is_null());
    assert_eq!(inspected[0]["Config"]["Labels"]["dev.berth.uid"].as_str(), Some(task.uid.as_str()));
    let env = inspected[0]["Config"]["Env"].to_string();
    assert!(
        env.contains("PORT=8080") && env.contains("BERTH_APPLICATION=hello") && env.contains("BERTH_INSTANCE=web-1")
    );
    node.clear(&[task]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_container_is_started_again() {
    let mut node = Node::start().await;
    let task = node.instance("web-1");
    node.gateway.assign(&[Item::Instance(task.clone())]);
    let heard =
        node.gateway.until("it runs", |heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready)).await;
    let id = heard.instances[&task.uid].container_id.clone().unwrap();
    docker(&["kill", &id]).unwrap();
    let heard = node
        .gateway
        .until("it runs again", |heard| {
            heard.instances.get(&task.uid).is_some_and(|one| one.ready && one.restarts == 1)
        })
        .await;
    let seen = &heard.instances[&task.uid];
    assert_eq!(seen.container_id.as_ref(), Some(&id));
    assert_eq!(seen.last_exit.as_ref().map(|exit| exit.code), Some(137));
    node.clear(&[task]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_keeps_ending_is_given_up_with_its_last_words() {
    let mut node = Node::start().await;
    let task = node.debian("web-1", &["/bin/ls", "/no-such-folder"]);
    node.gateway.assign(&[Item::Instance(task.clone())]);
    let failed =
        |heard: &gateway::Heard| heard.instances.get(&task.uid).is_some_and(|one| one.phase == InstancePhase::Failed);
    let heard = node.gateway.until("it is given up", failed).await;
    let seen = &heard.instances[&task.uid];
    assert_eq!((seen.reason.as_deref(), seen.restarts), (Some("CrashLoop"), 3));
    let exit = seen.last_exit.clone().unwrap();
    assert_eq!(exit.code, 2);
    assert!(exit.log.unwrap().contains("no-such-folder"));
    // And it stays given up, also for the next agent.
    node.kill_agent().await;
    node.start_agent();
    let hellos = heard.hellos.len();
    let heard =
        node.gateway.until("the next agent says so", |heard| heard.hellos.len() > hellos && failed(heard)).await;
    assert_eq!(heard.instances[&task.uid].restarts, 3);
    node.clear(&[task]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_says_why() {
    let mut node = Node::start().await;
    let mut absent = node.instance("absent-1");
    absent.image = "127.0.0.1:1/no/such:1".to_owned();
    let mut closed = node.debian("closed-1", &["/bin/sleep", "600"]);
    closed.health.grace_milliseconds = 1000;
    closed.port = Some(9999);
    let broken = node.debian("broken-1", &["/no/such/program"]);
    let tasks = [absent, closed, broken];
    node.gateway.assign(&tasks.clone().map(Item::Instance));
    for (task, reason, words) in [
        (&tasks[0], "ImageNotFound", "127.0.0.1:1"),
        (&tasks[1], "PortClosed", "9999"),
        (&tasks[2], "StartFailed", "127"),
    ] {
        let heard = node
            .gateway
            .until(reason, |heard| {
                heard.instances.get(&task.uid).is_some_and(|one| one.reason.as_deref() == Some(reason))
            })
            .await;
        let seen = &heard.instances[&task.uid];
        assert_eq!(seen.phase, InstancePhase::Failed);
        assert!(seen.message.as_ref().is_some_and(|message| message.contains(words)), "{:?}", seen.message);
    }
    node.clear(&tasks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_leaves_the_routes_before_it_is_stopped() {
    let mut node = Node::start().await;
    // It drains for as long as it has a connection, whatever the machine does meanwhile.
    let old = InstanceTask { drain_milliseconds: 60_000, ..node.instance("web-1") };
    let new = node.instance("web-2");
    node.gateway.assign(&[Item::Instance(old.clone()), node.route()]);
    let heard =
        node.gateway.until("one is routed", |heard| heard.instances.get(&old.uid).is_some_and(|one| one.routed)).await;
    let id = heard.instances[&old.uid].container_id.clone().unwrap();
    node.gateway.assign(&[Item::Instance(old.clone()), Item::Instance(new.clone()), node.route()]);
    let both = |heard: &gateway::Heard| {
        [&old, &new].iter().all(|task| heard.instances.get(&task.uid).is_some_and(|one| one.routed))
    };
    let heard = node.gateway.until("both are routed", both).await;
    let (old_address, new_address) =
        (heard.instances[&old.uid].address.clone().unwrap(), heard.instances[&new.uid].address.clone().unwrap());
    let mut ending = old.clone();
    ending.state = RunState::Stop;
    // A request in flight, or one that Nginx keeps open: the instance may not go yet.
    let open = tokio::net::TcpStream::connect(&old_address).await.unwrap();
    node.gateway.assign(&[Item::Instance(ending), Item::Instance(new.clone()), node.route()]);
    node.gateway
        .until("it drains", |heard| {
            heard.instances.get(&old.uid).is_some_and(|one| one.phase == InstancePhase::Draining && !one.routed)
        })
        .await;
    let site = node.table.all().last().unwrap().sites.values().next().unwrap().clone();
    assert_eq!(site.backends, [new_address.parse().unwrap()]);
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", &id]).unwrap(), "true");
    drop(open);
    node.gateway
        .until("it is stopped", |heard| {
            heard.instances.get(&old.uid).is_some_and(|one| one.phase == InstancePhase::Stopped)
        })
        .await;
    assert!(docker(&["inspect", &id]).is_err());
    node.clear(&[new]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_agent_goes_on_with_the_same_container_and_without_a_gateway() {
    let mut node = Node::start().await;
    let task = node.instance("web-1");
    node.gateway.assign(&[Item::Instance(task.clone())]);
    node.gateway.until("it runs", |heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready)).await;
    let before = node.containers();
    for round in 0..3 {
        node.kill_agent().await;
        let hellos = node.gateway.heard().hellos.len();
        node.start_agent();
        let heard = node
            .gateway
            .until("it is adopted", |heard| {
                heard.hellos.len() > hellos && heard.instances.get(&task.uid).is_some_and(|one| one.ready)
            })
            .await;
        // It knew what it had, so the gateway needed to send nothing.
        assert_eq!(heard.hellos.last().unwrap().revision, Some(1), "round {round}");
    }
    assert_eq!(node.containers(), before);
    assert_eq!(node.gateway.registrations(), 1);

    // A machine that comes back has its containers gone or stopped, and no gateway yet.
    node.kill_agent().await;
    node.gateway.refuse_sockets();
    docker(&["rm", "--force", &before[0]]).unwrap();
    node.start_agent();
    eventually("the container is back", || {
        node.containers().first().is_some_and(|id| {
            docker(&["inspect", "--format", "{{.State.Running}}", id]).is_ok_and(|running| running == "true")
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_websocket_the_same_is_said_by_polling() {
    let mut node = Node::start().await;
    node.gateway.until("it said hello", |heard| !heard.hellos.is_empty()).await;
    node.gateway.refuse_sockets();
    let task = node.instance("web-1");
    node.gateway.assign(&[Item::Instance(task.clone())]);
    node.gateway.until("it runs", |heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready)).await;
    node.clear(&[task]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vanished_is_kept_a_while_and_then_removed_and_strangers_stay() {
    let node = Node::start().await;
    // Bears the labels of a project, but no node's: somebody else's.
    let stranger =
        docker(&["run", "--detach", "--label", &format!("dev.berth.namespace={}", node.namespace), "berth/hello:1"])
            .unwrap();
    let task = node.instance("web-1");
    node.gateway.assign(&[Item::Instance(task.clone())]);
    node.gateway.until("it runs", |heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready)).await;
    let began = tokio::time::Instant::now();
    node.gateway.assign(&[]);
    eventually("it is gone", || node.containers().is_empty()).await;
    assert!(began.elapsed() > Duration::from_secs(29), "it went after {:?}", began.elapsed());
    eventually("its network is gone", || node.networks().is_empty()).await;
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", &stranger]).unwrap(), "true");
    docker(&["rm", "--force", &stranger]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_with_another_fingerprint_is_not_joined() {
    let (mut node, other) = (Node::start().await, gateway::Gateway::start("other").await);
    node.gateway.until("it said hello", |heard| !heard.hellos.is_empty()).await;
    node.kill_agent().await;
    let mut options = node.options();
    options.data_dir = options.data_dir.with_file_name("second");
    options.server_url = format!("https://{}", other.address).parse().unwrap();
    let table = node.table.clone();
    let error = node_agent::run_with::<node::Table, node::NoBuilds>(
        options,
        |_, _| Ok((table, node::NoBuilds)),
        tokio_util::sync::CancellationToken::new(),
    )
    .await
    .unwrap_err();
    assert!(format!("{error:#}").contains("fingerprint"), "{error:#}");
    assert_eq!(other.registrations(), 0);
}
