//! The six examples, from YAML to a served page, to a new version, to nothing left.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use e2e::{Load, Platform, Repositories, examples, root, until, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_yaml_to_pages_to_a_new_version_to_nothing_left() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let outcome = story(&platform).await;
    outcome.inspect_err(|_| platform.show_logs())
}

async fn story(platform: &Platform) -> anyhow::Result<()> {
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let namespace = &*format!("shop-{}", platform.http_port());
    let repositories = Repositories::serve(platform).await?;
    platform.kubectl(&["create", "namespace", namespace]).await?;

    // All six are applied and build in turn.
    for example in examples() {
        repositories.create(example).await?;
        let yaml = repositories.yaml(example).await?;
        platform.kubectl_with(&["apply", "-n", namespace, "-f", "-"], &yaml).await?;
    }
    let image = root().join("examples/image/app.yaml");
    platform.kubectl(&["apply", "-n", namespace, "-f", &image.to_string_lossy()]).await?;
    platform
        .kubectl(&[
            "wait",
            "-n",
            namespace,
            "--for=condition=Ready",
            "applications.berth.dev",
            "--all",
            "--timeout=900s",
        ])
        .await
        .context("the examples do not become ready")?;
    let urls = urls(platform, namespace).await?;
    ensure!(urls.len() == 6, "six applications have an address: {urls:?}");
    for (name, url) in &urls {
        serves(platform, name, url, expected(name, 1)).await?;
    }

    // A commit is pushed to each, under load: the new version appears and no request fails.
    let loads =
        urls.iter().map(|(name, url)| Ok((name, Load::start(platform, url)?))).collect::<anyhow::Result<Vec<_>>>()?;
    for example in examples() {
        repositories.push_version(example, 2).await?;
    }
    for example in examples() {
        serves(platform, example, &urls[example], expected(example, 2)).await?;
    }
    for (name, load) in loads {
        let report = load.finish().await;
        ensure!(report.bad.is_empty(), "{name}: requests failed while its version changed: {report:?}");
        ensure!(report.good > 50, "{name}: there was no load to speak of: {report:?}");
    }

    // A build that fails changes nothing of what runs, and says why.
    repositories.push_broken("nodejs").await?;
    until("the broken build is told", within(300), async || {
        let application = platform.json(&["application", "nodejs", "-n", namespace]).await?;
        let built = Platform::condition(&application, "BuildSucceeded").context("no condition yet")?;
        ensure!(built["status"] == "False", "the build has not failed yet: {built}");
        ensure!(built["message"].as_str().is_some_and(|message| message.len() > 10), "no reason is given: {built}");
        ensure!(Platform::condition(&application, "Ready").is_some_and(|ready| ready["status"] == "True"), "not ready");
        Ok(())
    })
    .await?;
    serves(platform, "nodejs", &urls["nodejs"], expected("nodejs", 2)).await?;

    // What is deleted leaves nothing.
    platform
        .kubectl(&["delete", "-n", namespace, "applications.berth.dev", "--all", "--timeout=300s"])
        .await
        .context("the applications do not go")?;
    for kind in ["builds", "releases", "instances"] {
        until("no record is left", within(60), async || {
            let left = platform.items(&[kind, "-n", namespace]).await?;
            ensure!(left.is_empty(), "{} {kind} are left", left.len());
            Ok(())
        })
        .await?;
    }
    until("nothing is left in Docker", within(120), async || {
        let traces = platform.traces(namespace).await?;
        ensure!(traces.is_empty(), "{traces:?}");
        Ok(())
    })
    .await?;
    for url in urls.values() {
        let (status, _) = platform.get(url).await?;
        ensure!(status == 404, "{url} still answers, with {status}");
    }
    Ok(())
}

async fn urls(platform: &Platform, namespace: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let applications = platform.items(&["applications", "-n", namespace]).await?;
    Ok(applications.iter().map(|app| (text(&app["metadata"]["name"]), text(&app["status"]["url"]))).collect())
}

fn expected(name: &str, version: u32) -> String {
    if name == "image" { "Hello from Berth (image)".to_owned() } else { format!("version {version}") }
}

async fn serves(platform: &Platform, name: &str, url: &str, text: String) -> anyhow::Result<()> {
    until(&format!("{name} answers with {text:?}"), within(900), async || {
        let (status, body) = platform.get(url).await?;
        ensure!(status == 200 && body.contains(&text), "{url} answers {status}: {body}");
        Ok(())
    })
    .await
}
