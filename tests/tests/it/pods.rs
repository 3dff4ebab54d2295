//! Kubernetes' own tools on what Berth runs: logs, programs beside it, files, ports, and what it uses.

use std::process::Stdio;

use anyhow::{Context, ensure};
use e2e::{Platform, setting, until, within};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_into_what_runs() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let outcome = story(&platform).await;
    outcome.inspect_err(|_| platform.show_logs())
}

/// An image with a shell, `tar`, and a server that writes a line for each request.
const YAML: &str = "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec:\n  \
    source: {image: {reference: 'berth/python:3.11'}}\n  plan: nano\n  instances: 1\n  \
    start: {command: 'python3 -u -m http.server 8080 --directory /etc', port: 8080}\n  rollout: {drain: 1s}\n";

async fn story(platform: &Platform) -> anyhow::Result<()> {
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let namespace = &*format!("pods-{}", platform.http_port());
    platform.kubectl(&["create", "namespace", namespace]).await?;
    platform.kubectl_with(&["apply", "-n", namespace, "-f", "-"], YAML).await?;
    platform.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "application/web", "--timeout=120s"]).await?;
    platform.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "pod", "--all", "--timeout=60s"]).await?;
    let pods = platform.items(&["pods", "-n", namespace, "-l", "berth.dev/application=web"]).await?;
    ensure!(pods.len() == 1, "{pods:?}");
    let pod = pods[0]["metadata"]["name"].as_str().context("a pod has a name")?;
    let table = platform.kubectl(&["get", "pods", "-n", namespace]).await?;
    ensure!(table.contains("Running") && table.contains("1/1"), "{table}");
    let nodes = platform.kubectl(&["get", "nodes"]).await?;
    ensure!(nodes.contains("Ready") && nodes.contains("worker"), "{nodes}");
    platform.kubectl(&["describe", "pod", pod, "-n", namespace]).await?;

    // A log is followed while requests come in through a forwarded port.
    let mut log = spawn(platform, &["logs", "-f", "-n", namespace, pod, "--tail=1"])?;
    let mut lines = BufReader::new(log.stdout.take().context("kubectl writes")?).lines();
    // Once it shows what is there already, it follows.
    tokio::time::timeout(within(60), lines.next_line()).await.context("no log comes")??;
    let (mut forward, port) = forwards(platform, namespace, pod).await?;
    let answers = futures::future::try_join_all((0..4).map(|_| get(port, "/debian_version?seen=by-the-log"))).await?;
    ensure!(answers.iter().all(|answer| answer.starts_with("HTTP/1.0 200")), "{answers:?}");
    let seen = async {
        let mut count = 0;
        while count < answers.len() {
            let line = lines.next_line().await?.context("the log ended")?;
            count += usize::from(line.contains("seen=by-the-log"));
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(within(60), seen).await.context("the log does not come")??;
    log.kill().await?;
    attaches(platform, namespace, pod, port).await?;
    forward.kill().await?;
    reaches_by_service(platform, namespace).await?;
    reads_logs(platform, namespace, pod).await?;

    // Programs: with input and an exit code, and in a terminal.
    let echoed = platform.kubectl_with(&["exec", "-i", "-n", namespace, pod, "--", "cat"], "to and fro").await?;
    ensure!(echoed == "to and fro", "{echoed}");
    let ended = platform.try_kubectl(&["exec", "-n", namespace, pod, "--", "bash", "-c", "exit 7"], "").await?;
    ensure!(ended.status.code() == Some(7), "{ended:?}");
    let line = format!(
        "{} --kubeconfig {} exec -it -n {namespace} {pod} -- bash -c 'test -t 0 && echo in a terminal'",
        setting("BERTH_KUBECTL"),
        platform.kubeconfig().display()
    );
    let shown = Command::new("script").args(["-q", "-e", "-c", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let shown = tokio::time::timeout(within(60), shown).await??;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(text.contains("in a terminal"), "{text}");

    // Files, both ways.
    let (sent, back) = (platform.folder().join("sent"), platform.folder().join("back"));
    let content: Vec<u8> = (0..2_000_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    tokio::fs::write(&sent, &content).await?;
    let there = format!("{namespace}/{pod}:/tmp/there");
    platform.kubectl(&["cp", &sent.to_string_lossy(), &there]).await?;
    platform.kubectl(&["cp", &there, &back.to_string_lossy()]).await?;
    ensure!(tokio::fs::read(&back).await? == content, "the file came back changed");

    // What it uses comes with a heartbeat, every half a minute.
    until("top shows the pod", within(90), async || {
        let top = platform.kubectl(&["top", "pods", "-n", namespace]).await?;
        ensure!(top.contains(pod) && top.contains("Mi"), "{top}");
        Ok(())
    })
    .await?;
    let top = platform.kubectl(&["top", "nodes"]).await?;
    ensure!(top.lines().count() == 2 && top.contains('%'), "{top}");

    // Who deletes a Pod gets another.
    platform.kubectl(&["delete", "pod", pod, "-n", namespace, "--timeout=60s"]).await?;
    until("another pod is there", within(60), async || {
        let pods = platform.items(&["pods", "-n", namespace, "--field-selector", "status.phase=Running"]).await?;
        ensure!(pods.len() == 1 && pods[0]["metadata"]["name"] != pod, "{pods:?}");
        Ok(())
    })
    .await?;
    platform.kubectl(&["delete", "-n", namespace, "application", "web", "--timeout=120s"]).await?;
    Ok(())
}

/// A port of this machine that leads to the server of a Pod, or of one that a Service selects, while kubectl runs.
async fn forwards(platform: &Platform, namespace: &str, target: &str) -> anyhow::Result<(Child, u16)> {
    let mut forward = spawn(platform, &["port-forward", "-n", namespace, target, ":8080", "--address", "127.0.0.1"])?;
    // It says so of each connection, and ends where nobody could read it: its output stays open.
    let mut said = BufReader::new(forward.stdout.as_mut().context("kubectl writes")?).lines();
    let line = tokio::time::timeout(within(60), said.next_line()).await??.context("kubectl forwards")?;
    let port = line
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .with_context(|| format!("not as expected: {line}"))?;
    Ok((forward, port))
}

/// kubectl finds the Pods of an Application by the Service that it is.
async fn reaches_by_service(platform: &Platform, namespace: &str) -> anyhow::Result<()> {
    let (mut forward, port) = forwards(platform, namespace, "svc/web").await?;
    let answer = get(port, "/debian_version?seen=by-service").await?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    until("the log of the service", within(60), async || {
        let log = platform.kubectl(&["logs", "-n", namespace, "svc/web"]).await?;
        ensure!(log.contains("seen=by-service"), "{log}");
        Ok(())
    })
    .await?;
    forward.kill().await?;
    // Behind the Service stands what the Pod says of itself.
    let pods = platform.items(&["pods", "-n", namespace, "-l", "berth.dev/application=web"]).await?;
    let address = pods[0]["status"]["podIP"].as_str().context("a running Pod has an address")?;
    let endpoint = format!("{address}:8080");
    let slices = platform.items(&["endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=web"]).await?;
    ensure!(slices.len() == 1 && slices[0]["endpoints"][0]["conditions"]["ready"] == true, "{slices:?}");
    let described = platform.kubectl(&["describe", "svc", "web", "-n", namespace]).await?;
    ensure!(described.contains(&endpoint), "no {endpoint}: {described}");
    let others = platform.items(&["endpointslices", "-n", namespace, "-l", "kubernetes.io/service-name=other"]).await?;
    ensure!(others.is_empty(), "{others:?}");
    Ok(())
}

/// `attach` shows what is written from now on, so requests come until it has shown one.
async fn attaches(platform: &Platform, namespace: &str, pod: &str, port: u16) -> anyhow::Result<()> {
    let mut attached = platform.tool().command(["attach", "-n", namespace, pod]).spawn()?;
    // The server writes what it does to its standard error, which comes as kubectl's.
    let mut lines = BufReader::new(attached.stderr.take().context("kubectl writes")?).lines();
    let shown = async {
        while let Some(line) = lines.next_line().await? {
            ensure!(!line.contains("seen=by-the-log"), "it shows what was written before: {line}");
            if line.contains("seen=by-attach") {
                return Ok(());
            }
        }
        anyhow::bail!("attach ended")
    };
    let asked = until("attach shows a request", within(60), async || {
        get(port, "/debian_version?seen=by-attach").await?;
        anyhow::bail!("not yet")
    });
    tokio::select! { shown = shown => shown?, asked = asked => asked? }
    Ok(attached.kill().await?)
}

/// Parts of a log, and the log of the container's last life.
async fn reads_logs(platform: &Platform, namespace: &str, pod: &str) -> anyhow::Result<()> {
    let logs = async |options: &[&str]| platform.kubectl(&[&["logs", "-n", namespace, pod], options].concat()).await;
    let all = logs(&[]).await?;
    ensure!(all.contains("seen=by-the-log") && all.contains("seen=by-attach"), "{all}");
    let last = logs(&["--tail=1"]).await?;
    ensure!(last.lines().count() == 1 && all.lines().last() == last.lines().next(), "{last:?} of {all}");
    ensure!(logs(&["--since=1h"]).await? == all);
    until("what was written is older than a second", within(60), async || {
        let new = logs(&["--since=1s"]).await?;
        ensure!(!new.contains("seen=by-"), "{new}");
        Ok(())
    })
    .await?;
    // The server ends as if somebody had pressed Ctrl-C, and is started again.
    platform.kubectl(&["exec", "-n", namespace, pod, "--", "bash", "-c", "kill -INT 1"]).await?;
    until("the log of its last life", within(60), async || {
        let last = logs(&["-p"]).await?;
        ensure!(last.contains("seen=by-the-log") && last.contains("Keyboard interrupt"), "{last}");
        let now = logs(&[]).await?;
        ensure!(now.matches("Serving HTTP").count() == 2 && !last.contains("exiting.\nServing HTTP"), "{now}");
        Ok(())
    })
    .await?;
    let restarts = "-o=jsonpath={.status.containerStatuses[0].restartCount}";
    until("the restart is counted", within(60), async || {
        let count = platform.kubectl(&["get", "pod", "-n", namespace, pod, restarts]).await?;
        ensure!(count == "1", "{count}");
        Ok(())
    })
    .await?;
    platform.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "pod", pod, "--timeout=60s"]).await?;
    Ok(())
}

fn spawn(platform: &Platform, arguments: &[&str]) -> anyhow::Result<Child> {
    // What it complains about is of no interest, and nobody would read it.
    platform.tool().command(arguments).stderr(Stdio::null()).spawn().context("cannot run kubectl")
}

async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(within(60), connection.read_to_string(&mut answer)).await??;
    Ok(answer)
}
