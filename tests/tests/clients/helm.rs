//! helm: a chart with an application in it, from its installation to its end, with a mistake on the way.

use anyhow::{Context, ensure};
use e2e::{Database, Server, Tool, root};
use serde_json::Value;

/// What is waited for takes a second; what cannot come must be seen as that, and not be cut off by the test's own limit.
const WAIT: &str = "--wait --timeout 120s";
const SHOWN: &str = "get app/web -o jsonpath={.spec.instances}{.metadata.labels.app}";
const SETTINGS: &str = "get configmap/web-settings -o jsonpath={.data}";

pub(crate) async fn story(database: Database) -> anyhow::Result<()> {
    let server = Server::start(database, &[]).await?;
    told(&server).await.with_context(|| format!("--- server\n{}", server.log()))?;
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop().await
}

async fn told(server: &Server) -> anyhow::Result<()> {
    let (helm, kubectl) = (server.helm(), server.kubectl());
    kubectl.run(&format!("apply -f {}", root().join("manifests").display())).await?;
    let chart = root().join("tests/clients/chart");
    let with_chart = |command: &str, options: &str| format!("{command} web {} {options}", chart.display());

    let installed = ["STATUS: deployed", "The shop web has 1 instances."];
    helm.says(&with_chart("install", WAIT), &installed).await?;
    kubectl.prints(SHOWN, "1shop").await?;
    kubectl.prints(SETTINGS, r#"{"extra":"yes","greeting":"hello"}"#).await?;
    kubectl.prints("get secret/web-password -o jsonpath={.data.password}", "Zm9yLXRlc3RzLW9ubHk=").await?;
    helm.refuses(&with_chart("install", WAIT), &["cannot reuse a name that is still in use"]).await?;

    helm.says(&with_chart("upgrade", &format!("{WAIT} --set instances=2,extra=false")), &["REVISION: 2"]).await?;
    kubectl.prints(SHOWN, "2shop").await?;
    kubectl.prints(SETTINGS, r#"{"greeting":"hello"}"#).await?;
    // Waiting has ended since it is as asked for, and not since nothing was known of it yet.
    let stopped =
        "get app/web -o jsonpath={.status.observedGeneration}{.status.conditions[?(@.type==\"Ready\")].reason}";
    kubectl.prints(stopped, "2Stopped").await?;

    // What the schema refuses, and what a rule refuses, changes nothing.
    for (mistake, named) in [
        ("instances=-1", "spec.instances: Invalid value: -1"),
        ("instances=7,surge=0,greeting=half", "maxSurge and maxUnavailable must not both be 0"),
    ] {
        helm.refuses(&with_chart("upgrade", &format!("{WAIT} --set {mistake}")), &["UPGRADE FAILED", named]).await?;
        kubectl.prints(SHOWN, "2shop").await?;
    }
    ensure!(states(&helm).await? == ["superseded", "deployed", "failed", "failed"]);
    // One that undoes itself takes back what it has changed before it failed.
    helm.refuses(&with_chart("upgrade", &format!("{WAIT} --rollback-on-failure --set surge=0,greeting=half")), &[])
        .await?;
    kubectl.prints(SETTINGS, r#"{"greeting":"hello"}"#).await?;

    helm.run(&format!("rollback web 1 {WAIT}")).await?;
    kubectl.prints(SHOWN, "1shop").await?;
    kubectl.prints(SETTINGS, r#"{"extra":"yes","greeting":"hello"}"#).await?;
    let states = states(&helm).await?;
    ensure!(states.last().is_some_and(|last| last == "deployed"), "{states:?}");
    helm.says("get manifest web", &["kind: Application", "running: false"]).await?;
    helm.says("status web", &["STATUS: deployed"]).await?;
    helm.says("list", &["web default", "shop-0.1.0"]).await?;

    helm.says(&format!("uninstall web {WAIT}"), &["uninstalled"]).await?;
    kubectl.prints("get app,secrets -o name", "").await?;
    kubectl.refuses("get configmap web-settings", &["(NotFound)"]).await
}

/// The state of each revision, oldest first.
async fn states(helm: &Tool) -> anyhow::Result<Vec<String>> {
    let history: Value = serde_json::from_str(&helm.run("history web -o json").await?)?;
    let revisions = history.as_array().context("a history is a list")?;
    Ok(revisions.iter().filter_map(|revision| Some(revision["status"].as_str()?.to_owned())).collect())
}
