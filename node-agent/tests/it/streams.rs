//! Streams to real containers: logs, programs with and without a terminal, connections to ports.

use node_protocol::{CLOSED, ExecWanted, INPUT, InstanceTask, Item, LogWanted, SIZE, StreamEnd, StreamPurpose};

use super::node::Node;

async fn running(node: &Node, task: &InstanceTask) {
    node.gateway.assign(&[Item::Instance(task.clone())]);
    let runs = |heard: &super::gateway::Heard| heard.instances.get(&task.uid).is_some_and(|one| one.address.is_some());
    node.gateway.until("it runs", runs).await;
}

fn exec(command: &[&str], stdin: bool, tty: bool) -> StreamPurpose {
    let command = command.iter().map(|&argument| argument.to_owned()).collect();
    StreamPurpose::Exec(ExecWanted { command, stdin, stdout: true, stderr: !tty, tty })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_run_beside_an_instance_as_its_own_user() {
    let mut node = Node::start().await;
    let task = node.debian("web-1", &["/bin/sleep", "600"]);
    running(&node, &task).await;
    let open = async |purpose| node.gateway.open(&task.uid, purpose).await;

    let mut listing = open(exec(&["/bin/ls", "/nothing-here"], false, false)).await;
    assert_eq!(listing.end().await.exit_code, Some(2));
    assert!(listing.output.is_empty() && String::from_utf8_lossy(&listing.errors).contains("nothing-here"));

    // Both directions at once, more than any buffer on the way holds, to the last byte.
    let mut cat = open(exec(&["/bin/cat"], true, false)).await;
    let data: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let mut sent = 0;
    for piece in data.chunks(30_000) {
        cat.say(INPUT, piece).await;
        sent += piece.len();
        let far_behind = sent.saturating_sub(200_000);
        assert_eq!(cat.until(|cat| cat.output.len() >= far_behind).await, None);
    }
    cat.say(CLOSED, &[INPUT]).await;
    assert_eq!(cat.end().await, StreamEnd { exit_code: Some(0), error: None });
    assert!(cat.output == data, "{} bytes came back of {}", cat.output.len(), data.len());

    let mut terminal = open(exec(&["/bin/bash"], true, true)).await;
    terminal.say(SIZE, br#"{"Width":93,"Height":31}"#).await;
    terminal.say(INPUT, b"shopt -s checkwinsize; /bin/true; echo $COLUMNS columns\n").await;
    let wide = |stream: &super::gateway::Stream| String::from_utf8_lossy(&stream.output).contains("93 columns");
    assert_eq!(terminal.until(wide).await, None);
    terminal.say(INPUT, b"exit 5\n").await;
    assert_eq!(terminal.end().await.exit_code, Some(5));

    let mut missing = open(exec(&["/no/such/program"], false, false)).await;
    assert!(matches!(missing.end().await, StreamEnd { exit_code: Some(126 | 127), .. }));
    let mut user = open(exec(&["/bin/cat", "/proc/self/status"], false, false)).await;
    assert_eq!(user.end().await.exit_code, Some(0));
    let status = String::from_utf8_lossy(&user.output).into_owned();
    assert!(status.contains("CapEff:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");

    let mut stranger = node.gateway.open("no-such-uid", exec(&["/bin/true"], false, false)).await;
    assert!(stranger.end().await.error.unwrap().contains("no container"));
    node.clear(&[task]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_without_loss_and_ports_are_reached() {
    let mut node = Node::start().await;
    let task = node.instance("web-1");
    running(&node, &task).await;
    // It has an address before its program listens.
    let listens = |heard: &super::gateway::Heard| heard.instances.get(&task.uid).is_some_and(|one| one.ready);
    node.gateway.until("it listens", listens).await;
    let mut refused = node.gateway.open(&task.uid, StreamPurpose::Forward { port: 9 }).await;
    assert!(refused.end().await.error.unwrap().contains("failed to connect"));

    let request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = node.gateway.open(&task.uid, StreamPurpose::Forward { port: 8080 }).await;
        stream.say(INPUT, request).await;
        streams.push(stream);
    }
    for mut stream in streams {
        let answered = |stream: &super::gateway::Stream| String::from_utf8_lossy(&stream.output).contains("I am web-1");
        assert_eq!(stream.until(answered).await, None);
        stream.say(CLOSED, &[INPUT]).await;
        assert_eq!(stream.end().await, StreamEnd::default());
    }

    let loud = node.debian("loud-1", &["/usr/bin/seq", "-f", "line %.0f", "1", "60000"]);
    node.gateway.assign(&[Item::Instance(task.clone()), Item::Instance(loud.clone())]);
    node.gateway
        .until("it has spoken", |heard| heard.instances.get(&loud.uid).is_some_and(|one| one.last_exit.is_some()))
        .await;
    let mut log = node.gateway.open(&loud.uid, StreamPurpose::Log(LogWanted::default())).await;
    log.until(|log| log.output.len() > 10).await;
    // The reader rests while the agent has megabytes to say.
    log.end().await;
    let text = String::from_utf8(log.output).unwrap();
    assert!(text.starts_with("line 1\n") && text.contains("\nline 60000\n"), "{} bytes", text.len());
    let last = LogWanted { tail_lines: Some(2), ..LogWanted::default() };
    let mut tail = node.gateway.open(&loud.uid, StreamPurpose::Log(last)).await;
    tail.end().await;
    assert_eq!(String::from_utf8_lossy(&tail.output).lines().count(), 2);
    node.clear(&[task, loud]).await;
}
