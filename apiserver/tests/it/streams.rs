//! The ways into running programs, with a real `kubectl` and programs of the test's own.

use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use apiserver::error::Error;
use apiserver::streams::{CLOSED, END, ERRORS, Exec, INPUT, Log, OUTPUT, Open, Pipe, SIZE, Streams, frame};
use axum::body::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::kubectl::Kubectl;
use crate::world::{PATIENCE, World, widget_named};

/// Programs in memory.
#[derive(Default)]
struct Programs {
    /// Lets a followed log go on.
    more: Notify,
    /// What was unpacked by `tar`.
    unpacked: Mutex<Vec<u8>>,
    /// What was asked of logs.
    logs: Mutex<Vec<Log>>,
}

/// A program's own end of its pipe.
struct Inside {
    input: mpsc::Receiver<Bytes>,
    output: mpsc::Sender<Bytes>,
}

impl Inside {
    async fn say(&self, channel: u8, data: &[u8]) {
        // Whoever has gone hears nothing.
        drop(self.output.send(frame(channel, data)).await);
    }

    async fn end(&self, end: Value) {
        self.say(END, end.to_string().as_bytes()).await;
    }

    /// The next input; `None` when there is no more.
    async fn read(&mut self) -> Option<Bytes> {
        while let Some(frame) = self.input.recv().await {
            match (frame[0], &frame[1..]) {
                (INPUT, _) => return Some(frame.slice(1..)),
                (CLOSED, [INPUT]) => return None,
                _ => {}
            }
        }
        None
    }
}

const BIG_FRAMES: usize = 500;

impl Programs {
    async fn log(&self, inside: Inside, log: Log) {
        self.logs.lock().unwrap().push(log.clone());
        if log.tail_lines == Some(77) {
            for _ in 0..BIG_FRAMES {
                inside.say(OUTPUT, &vec![b'x'; 32 << 10]).await;
            }
            return inside.end(json!({})).await;
        }
        inside.say(OUTPUT, b"one\n").await;
        inside.say(ERRORS, b"t\xffo\n").await;
        if log.follow {
            self.more.notified().await;
            inside.say(OUTPUT, b"three\n").await;
        }
        inside.end(json!({})).await;
    }

    async fn exec(&self, mut inside: Inside, exec: Exec) {
        let command: Vec<&str> = exec.command.iter().map(String::as_str).collect();
        match command.as_slice() {
            ["cat"] => {
                while let Some(data) = inside.read().await {
                    inside.say(OUTPUT, &data).await;
                }
                inside.end(json!({"exitCode": 0})).await;
            }
            ["fail"] => {
                inside.say(ERRORS, b"it is no use\n").await;
                inside.end(json!({"exitCode": 3})).await;
            }
            ["size"] => {
                while let Some(frame) = inside.input.recv().await {
                    if frame[0] == SIZE {
                        let size: Value = serde_json::from_slice(&frame[1..]).unwrap();
                        let text = format!("{}x{}\r\n", size["Width"], size["Height"]);
                        inside.say(OUTPUT, text.as_bytes()).await;
                        break;
                    }
                }
                inside.end(json!({"exitCode": 0})).await;
            }
            ["tar", "cf", "-", _] => {
                let content = vec![b'y'; 300_000];
                let mut header = tar::Header::new_gnu();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                let mut archive = tar::Builder::new(Vec::new());
                archive.append_data(&mut header, "srv/data.bin", content.as_slice()).unwrap();
                for piece in archive.into_inner().unwrap().chunks(10_000) {
                    inside.say(OUTPUT, piece).await;
                }
                inside.end(json!({"exitCode": 0})).await;
            }
            ["tar", "-xmf", "-", ..] => {
                let mut all = Vec::new();
                while let Some(data) = inside.read().await {
                    all.extend_from_slice(&data);
                }
                *self.unpacked.lock().unwrap() = all;
                inside.end(json!({"exitCode": 0})).await;
            }
            other => {
                inside.say(OUTPUT, format!("exec: {other:?}: executable file not found\n").as_bytes()).await;
                inside.end(json!({"exitCode": 127})).await;
            }
        }
    }
}

async fn forward(mut inside: Inside, port: u16) {
    let (mut reading, mut writing) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let output = inside.output.clone();
    let outward = async move {
        let mut buffer = vec![0; 20_000];
        loop {
            match reading.read(&mut buffer).await {
                Ok(0) | Err(_) => break drop(output.send(frame(CLOSED, &[OUTPUT])).await),
                Ok(length) => drop(output.send(frame(OUTPUT, &buffer[..length])).await),
            }
        }
    };
    let inward = async {
        while let Some(data) = inside.read().await {
            writing.write_all(&data).await.unwrap();
        }
        drop(writing.shutdown().await);
    };
    tokio::join!(outward, inward);
    inside.end(json!({})).await;
}

struct Connector(Arc<Programs>);

impl Streams for Connector {
    fn open<'a>(&'a self, object: &'a Value, what: Open) -> BoxFuture<'a, Result<Pipe, Error>> {
        let programs = Arc::clone(&self.0);
        async move {
            assert_eq!(object["kind"], "Widget", "the stored object");
            let (to, input) = mpsc::channel(4);
            let (output, from) = mpsc::channel(4);
            let inside = Inside { input, output };
            match what {
                Open::Log(log) if log.previous => {
                    return Err(Error::bad_request("it has not been started before"));
                }
                Open::Log(log) => drop(tokio_spawn(async move { programs.log(inside, log).await })),
                Open::Exec(exec) if exec.command == ["nowhere"] => {
                    return Err(Error::unavailable("its node is not connected"));
                }
                Open::Exec(exec) => drop(tokio_spawn(async move { programs.exec(inside, exec).await })),
                Open::Attach { .. } => drop(tokio_spawn(async move {
                    inside.say(OUTPUT, b"attached\n").await;
                    inside.end(json!({})).await;
                })),
                Open::Forward { port: 1 } => return Err(Error::bad_request("connection refused")),
                Open::Forward { port } => drop(tokio_spawn(forward(inside, port))),
            }
            Ok(Pipe { to, from })
        }
        .boxed()
    }
}

fn tokio_spawn(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    apiserver::task::spawn("program", task)
}

async fn kubectl() -> (Kubectl, Arc<Programs>) {
    let programs = Arc::new(Programs::default());
    let connector = Arc::new(Connector(Arc::clone(&programs)));
    let kubectl = Kubectl::on(World::with(|builder| builder.streams(connector)).await).await;
    kubectl.world.widget("web").await;
    (kubectl, programs)
}

/// Runs kubectl with standard input.
async fn with_input(kubectl: &Kubectl, line: &str, input: &[u8]) -> Output {
    let mut child =
        kubectl.command(line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = async move {
        stdin.write_all(&input).await.unwrap();
        drop(stdin);
    };
    let (output, ()) = tokio::join!(tokio::time::timeout(PATIENCE, child.wait_with_output()), writing);
    output.unwrap().unwrap()
}

/// A server that sends back what it gets.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(tokio_spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            drop(tokio_spawn(async move {
                let (mut reading, mut writing) = connection.split();
                drop(tokio::io::copy(&mut reading, &mut writing).await);
                drop(writing.shutdown().await);
            }));
        }
    }));
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_is_listed_watched_selected_and_not_written() {
    let (kubectl, _) = kubectl().await;
    let table = kubectl.run("get pods -o wide").await;
    assert!(table.starts_with("NAME") && table.contains("STATUS") && table.contains("1/1"), "{table}");
    assert_eq!(kubectl.run("get pods --field-selector spec.nodeName=red -o name").await, "pod/web\n");
    assert_eq!(kubectl.run("get pods -A --field-selector spec.nodeName=green -o name").await, "");
    assert_eq!(kubectl.run("get pods --field-selector status.phase!=Running -o name").await, "");
    assert_eq!(kubectl.run("get pods --field-selector status.phase=Running -o name").await, "pod/web\n");
    assert_eq!(
        kubectl.run("get widget web -o jsonpath={.metadata.uid}").await,
        kubectl.run("get pod web -o jsonpath={.metadata.uid}").await
    );
    let refused = kubectl.refused("label pod web a=b").await;
    assert!(refused.contains("pods are a view of widgets.example.dev") && refused.contains("patch"), "{refused}");
    let world = &kubectl.world;
    let answer = world.post("/api/v1/namespaces/default/pods", &json!({"metadata": {"name": "x"}})).await;
    assert_eq!(answer.expect(405)["reason"], "MethodNotAllowed");
    let mut lines = world.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dgreen", &[]).await;
    world.merge("/apis/example.dev/v1/namespaces/default/widgets/web", &json!({"spec": {"colour": "green"}})).await;
    let line = lines.next().await.unwrap();
    assert_eq!((&line["type"], &line["object"]["kind"]), (&json!("ADDED"), &json!("Pod")), "{line}");
    assert!(kubectl.run("explain pods").await.contains("KIND:       Pod"));
    kubectl.run("wait pod/web --for=condition=Ready --timeout=20s").await;
    kubectl.run("delete pod web --timeout=20s").await;
    assert!(kubectl.refused("get widget web").await.contains("not found"), "the stored object went with its view");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_the_bytes_that_were_written() {
    let (kubectl, programs) = kubectl().await;
    let output = kubectl.output("logs web").await;
    assert_eq!(output.stdout, b"one\nt\xffo\n");
    assert_eq!(kubectl.run("logs web --limit-bytes=5 --tail=9 --since=1m").await, "one\nt");
    let asked = programs.logs.lock().unwrap().last().cloned().unwrap();
    assert_eq!((asked.tail_lines, asked.since_seconds, asked.follow), (Some(9), Some(60), false));
    assert!(kubectl.refused("logs web -p").await.contains("it has not been started before"));
    assert!(kubectl.refused("logs web -c other").await.contains("container other is not valid for pod web"));
    assert!(kubectl.refused("logs none").await.contains("not found"));

    let mut child = kubectl.command("logs -f web").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
    let mut line = async || tokio::time::timeout(PATIENCE, lines.next_segment()).await.unwrap().unwrap();
    assert_eq!((line().await, line().await), (Some(b"one".to_vec()), Some(b"t\xffo".to_vec())));
    programs.more.notify_one();
    assert_eq!((line().await, line().await), (Some(b"three".to_vec()), None));
    assert!(child.wait().await.unwrap().success());

    // A reader that begins late gets every byte: what it does not take waits.
    let mut child = kubectl.command("logs web --tail=77").stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stdout.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest.len() + 1, BIG_FRAMES * (32 << 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_are_run_and_copied_through() {
    let (kubectl, programs) = kubectl().await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
    let output = with_input(&kubectl, "exec -i web -- cat", &input).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == input, "{} bytes came back of {}", output.stdout.len(), input.len());

    let output = kubectl.output("exec web -- fail").await;
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is no use"));
    let output = kubectl.output("exec web -- missing").await;
    assert_eq!(output.status.code(), Some(127));
    assert!(kubectl.refused("exec web -- nowhere").await.contains("its node is not connected"));
    assert!(kubectl.refused("exec web -c other -- cat").await.contains("container other"));
    assert_eq!(kubectl.run("attach web").await, "attached\n");

    // `script` gives kubectl a terminal of its own, and kubectl tells its size.
    let mut command = tokio::process::Command::new("script");
    let line = format!("stty cols 91 rows 33; {} exec -it web -- size", kubectl.program().display());
    command.args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null());
    command.env("KUBECONFIG", kubectl.path().join("config")).env("HOME", kubectl.path());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("91x33"), "{shown}");

    kubectl.run("cp web:/srv/data.bin got.bin").await;
    assert_eq!(std::fs::read(kubectl.path().join("got.bin")).unwrap(), vec![b'y'; 300_000]);
    std::fs::write(kubectl.path().join("sent.bin"), vec![b'z'; 200_000]).unwrap();
    kubectl.run("cp sent.bin web:/srv/sent.bin").await;
    let unpacked = programs.unpacked.lock().unwrap().clone();
    let mut archive = tar::Archive::new(unpacked.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.path().unwrap().to_str(), entry.size()), (Some("sent.bin"), 200_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_connections_are_forwarded_at_once() {
    let (kubectl, _) = kubectl().await;
    let port = echo().await;
    let mut child = kubectl
        .command(&format!("port-forward pod/web :{port} :1 --address 127.0.0.1"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut local = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
        port.unwrap_or_else(|| panic!("{line}")).parse::<u16>().unwrap()
    };
    let (good, bad) = (local().await, local().await);
    let exchange = async |seed: u8| {
        let data: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[0].wrapping_mul(3) ^ seed).collect();
        let mut connection = TcpStream::connect(("127.0.0.1", good)).await.unwrap();
        let (mut reading, mut writing) = connection.split();
        let mut back = Vec::new();
        let (sent, got) = tokio::join!(
            async {
                writing.write_all(&data).await?;
                writing.shutdown().await
            },
            reading.read_to_end(&mut back)
        );
        sent.unwrap();
        got.unwrap();
        assert!(back == data, "{} bytes came back of {}", back.len(), data.len());
    };
    // One that takes nothing does not hold the others up.
    let idle = TcpStream::connect(("127.0.0.1", good)).await.unwrap();
    let all = futures::future::join_all((0..6).map(exchange));
    tokio::time::timeout(PATIENCE, all).await.expect("all connections are served");
    drop(idle);
    exchange(9).await;

    let mut refused = TcpStream::connect(("127.0.0.1", bad)).await.unwrap();
    drop(refused.write_all(b"hello").await);
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = async {
        while let Some(line) = errors.next_line().await.unwrap() {
            if line.contains("error forwarding port 1: connection refused") {
                return;
            }
        }
        panic!("kubectl was not told");
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_clients_forward_over_plain_channels() {
    let (kubectl, _) = kubectl().await;
    let port = echo().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = kubectl.world.server.router();
    drop(tokio_spawn(async move { axum::serve(listener, router).await.unwrap() }));
    let open = async |path: &str, protocols: &str| {
        let mut request =
            format!("ws://{address}/api/v1/namespaces/default/pods/web/{path}").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {}", kubectl.world.token).parse().unwrap());
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        tokio_tungstenite::connect_async(request).await
    };
    let (mut socket, response) =
        open(&format!("portforward?ports={port}"), "v5.channel.k8s.io, v4.channel.k8s.io").await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
    let mut next = async || {
        loop {
            match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(data) => return data.to_vec(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let [low, high] = port.to_le_bytes();
    assert_eq!((next().await, next().await), (vec![0, low, high], vec![1, low, high]));
    socket.send(Message::binary(b"\0hello".to_vec())).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_data(), b"\0hello".as_slice());

    for (path, protocols) in [
        ("portforward", "v4.channel.k8s.io"),
        ("portforward?ports=0", "v4.channel.k8s.io"),
        ("exec?command=cat&stdout=1", "v9.channel.k8s.io"),
        ("exec?stdout=1", "v5.channel.k8s.io"),
    ] {
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = open(path, protocols).await else {
            panic!("{path} {protocols} was let through")
        };
        assert_eq!(response.status(), 400, "{path} {protocols}");
    }
    // An old client is told what to do.
    let spdy = ["Upgrade: SPDY/3.1", "Connection: Upgrade"];
    let answer =
        kubectl.world.send("POST", "/api/v1/namespaces/default/pods/web/exec?command=cat&stdout=1", &spdy, "").await;
    assert!(answer.expect(400)["message"].as_str().unwrap().contains("use kubectl 1.30 or newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_shown_by_top() {
    let (kubectl, _) = kubectl().await;
    kubectl.world.post(crate::world::WIDGETS, &widget_named("idle")).await.expect(201);
    let used = json!({"status": {"replicas": 250}});
    kubectl.world.merge(&format!("{}/web/status", crate::world::WIDGETS), &used).await.expect(200);
    let top = kubectl.run("top pods").await;
    let rows: Vec<Vec<&str>> = top.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["NAME", "CPU(cores)", "MEMORY(bytes)"], ["web", "250m", "64Mi"]], "{top}");
    let list = kubectl.world.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(list["items"][0]["timestamp"].is_string(), "{list}");
    kubectl.world.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods/idle").await.expect(404);
    let discovered = kubectl.world.get("/api/v1").await.expect(200);
    let verbs = |name: &str| {
        let resources = discovered["resources"].as_array().unwrap();
        resources.iter().find(|row| row["name"] == name).map(|row| row["verbs"].clone())
    };
    assert_eq!(verbs("pods"), Some(json!(["delete", "get", "list", "watch"])));
    assert_eq!(verbs("pods/exec"), Some(json!(["create", "get"])));
    assert_eq!(verbs("pods/log"), Some(json!(["get"])));
}
