//! A whole platform whose objects are in PostgreSQL: a deployment, and what Kubernetes' clients do inside of it.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};
use e2e::{Database, Platform, root, setting, until, within};
use tokio::process::Command;

/// An image with a shell and a server that writes a line for each request.
const YAML: &str = "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec:\n  \
    source: {image: {reference: 'berth/python:3.11'}}\n  plan: nano\n  instances: 1\n  \
    start: {command: 'python3 -u -m http.server 8080 --directory /etc', port: 8080}\n  rollout: {drain: 1s}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_postgres_runs_and_is_reached_by_every_client() -> anyhow::Result<()> {
    let platform = Platform::start_on(Database::Postgres).await?;
    let outcome = story(&platform).await;
    outcome.inspect_err(|_| platform.show_logs())
}

async fn story(platform: &Platform) -> anyhow::Result<()> {
    ensure!(!platform.folder().join("data/server/berth.sqlite").exists(), "it keeps its objects in a file");
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let namespace = &*format!("kept-{}", platform.http_port());
    platform.kubectl(&["create", "namespace", namespace]).await?;
    platform.kubectl_with(&["apply", "-n", namespace, "-f", "-"], YAML).await?;
    platform.kubectl(&["wait", "-n", namespace, "--for=condition=Ready", "application/web", "--timeout=120s"]).await?;
    let url = platform.kubectl(&["get", "app", "web", "-n", namespace, "-o", "jsonpath={.status.url}"]).await?;
    until("the page", within(60), async || {
        let (status, body) = platform.get(&format!("{url}/debian_version?seen=by-nginx")).await?;
        ensure!(status == 200, "{status} {body}");
        Ok(())
    })
    .await?;
    let pods = platform.items(&["pods", "-n", namespace, "-l", "berth.dev/application=web"]).await?;
    ensure!(pods.len() == 1, "{pods:?}");
    let pod = pods[0]["metadata"]["name"].as_str().context("a pod has a name")?;
    until("the request is in the log", within(60), async || {
        let log = platform.kubectl(&["logs", "-n", namespace, pod]).await?;
        ensure!(log.contains("seen=by-nginx"), "{log}");
        Ok(())
    })
    .await?;
    let echoed = platform.kubectl_with(&["exec", "-i", "-n", namespace, pod, "--", "cat"], "to and fro").await?;
    ensure!(echoed == "to and fro", "{echoed}");

    let python = PathBuf::from(setting("BERTH_PYTHON_CLIENTS")).join("bin/python");
    run(platform, Command::new(python).arg(root().join("tests/clients/python/streams.py")), namespace, pod).await?;
    run(platform, Command::new("node").arg(root().join("tests/clients/node/streams.mjs")), namespace, pod).await?;

    crate::kube_rs::story(platform, namespace, pod).await?;

    platform.kubectl(&["delete", "-n", namespace, "application", "web", "--timeout=120s"]).await?;
    let left = platform.items(&["pods", "-n", namespace]).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Runs a client's script against a pod.
async fn run(platform: &Platform, command: &mut Command, namespace: &str, pod: &str) -> anyhow::Result<()> {
    let output = command
        .args([&*platform.kubeconfig().to_string_lossy(), namespace, pod])
        .env("HOME", platform.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(within(180), output).await.context("the script takes too long")??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && text.contains("all is well"), "{text}");
    Ok(())
}
