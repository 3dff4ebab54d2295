//! The server, the agent, or both end without warning, fifty times, at moments that seeds choose: everything still ends
//! where it should, and under constant load no request fails meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{Dice, Load, Platform, Program, until, within};

/// How often something is killed.
const KILLS: u64 = 50;
/// Deployments take one to three seconds: moments within this reach all of their steps.
const LONGEST_MOMENT: Duration = Duration::from_millis(2500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_and_everything_ends_where_it_should() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let outcome = story(&platform).await;
    outcome.with_context(|| platform.log_tails())
}

fn yaml(version: u64, instances: u64) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\nspec:\n  source: {{image: {{reference: \
         'berth/hello:1'}}}}\n  plan: nano\n  instances: {instances}\n  env: [{{name: VERSION, value: '{version}'}}]\n  \
         rollout: {{drain: 1s}}\n"
    )
}

async fn story(platform: &Platform) -> anyhow::Result<()> {
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let namespace = format!("crash-{}", platform.http_port());
    platform.kubectl(&["create", "namespace", &namespace]).await?;
    let first_seed: u64 = std::env::var("BERTH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    let mut load = None;
    for round in 0..KILLS {
        let seed = first_seed + round;
        println!("round {round}: BERTH_SEED={seed}");
        one_round(platform, &namespace, seed).await.with_context(|| format!("with BERTH_SEED={seed}"))?;
        if load.is_none() {
            let application = platform.json(&["application", "web", "-n", &namespace]).await?;
            load = Some(Load::start(platform, application["status"]["url"].as_str().context("no address")?)?);
        }
    }
    let report = load.context("no round was played")?.finish().await;
    println!("{report:?}");
    // The load sends some fifty requests a second, and a round takes a second at least.
    ensure!(report.bad.is_empty() && report.good > KILLS * 10, "requests failed: {report:?}");
    platform.kubectl(&["delete", "-n", &namespace, "applications.berth.dev", "--all", "--timeout=120s"]).await?;
    until("nothing is left in Docker", within(120), async || {
        let containers = platform.containers(&namespace).await?;
        ensure!(containers.is_empty(), "{containers:?}");
        Ok(())
    })
    .await
}

/// One change, one kill in its middle, one restart: then the world is as the YAML says.
async fn one_round(platform: &Platform, namespace: &str, seed: u64) -> anyhow::Result<()> {
    let mut dice = Dice::new(seed);
    let victims = *dice.one_of(&[&[Program::Server][..], &[Program::Agent], &[Program::Server, Program::Agent]]);
    let instances = 1 + dice.below(2);
    platform.kubectl_with(&["apply", "-n", namespace, "-f", "-"], &yaml(seed, instances)).await?;
    tokio::time::sleep(dice.moment(LONGEST_MOMENT)).await;
    for victim in victims {
        platform.kill(*victim).await?;
    }
    platform.up().await?;
    until("the change is carried out", within(90), async || {
        let application = platform.json(&["application", "web", "-n", namespace]).await?;
        let ready = Platform::condition(&application, "Ready").context("no condition yet")?;
        ensure!(
            ready["status"] == "True"
                && application["status"]["observedGeneration"] == application["metadata"]["generation"],
            "not ready: {ready}"
        );
        let url = application["status"]["url"].as_str().context("no address")?;
        let (status, body) = platform.get(url).await?;
        ensure!(status == 200 && body.contains("Hello from Berth"), "{status}: {body}");
        // Each instance is one container, of the present release, and there is no other.
        let release = application["status"]["activeRelease"].clone();
        let all = platform.items(&["instances", "-n", namespace]).await?;
        let present = all.iter().filter(|instance| instance["spec"]["release"] == release).count() as u64;
        ensure!(all.len() as u64 == instances && present == instances, "{} instances, {present} present", all.len());
        let containers = platform.containers(namespace).await?;
        ensure!(containers.len() as u64 == instances, "{instances} instances but {containers:?}");
        Ok(())
    })
    .await
}
