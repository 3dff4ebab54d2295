//! Row 17, and the part of row 7 that needs a whole platform: what control plane and agent have in memory when nothing
//! happens.

use std::time::Duration;

use anyhow::Context;
use e2e::{Platform, Program};
use serde_json::json;

use crate::measure::Setting;
use crate::measure::deploy::Deployments;
use crate::process::resident_megabytes;
use crate::row::Figure;

/// Longer than a heartbeat's 30 s, so that everything that runs now and then has run.
const SETTLE: Duration = Duration::from_secs(35);
/// Each repetition is that long: the figures hardly differ.
const REPETITIONS_MAX: u32 = 2;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (mut servers, mut agents, mut agents_with_one) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.repetitions.min(REPETITIONS_MAX) {
        let platform = Platform::start().await?;
        let resident = |program| resident_megabytes(platform.pid(program).context("the program does not run")?);
        tokio::time::sleep(SETTLE).await;
        servers.push(resident(Program::Server)?);
        agents.push(resident(Program::Agent)?);
        let mut deployments = Deployments::new(&platform).await?;
        deployments.create("hello", json!({})).await?;
        deployments.until_served("hello").await?;
        tokio::time::sleep(SETTLE).await;
        agents_with_one.push(resident(Program::Agent)?);
        deployments.delete("hello").await?;
    }
    Ok(vec![
        Figure::at_most("17 control plane resident idle with one node", "MB", servers, 60.0)
            .meaning("goal of the first milestone; the design's is 40 MB"),
        Figure::at_most("17 agent resident idle", "MB", agents, 20.0)
            .meaning("goal of the first milestone; the design's is 15 MB with 50 containers"),
        Figure::at_most("17 agent resident idle with one instance", "MB", agents_with_one, 20.0)
            .meaning("goal of the first milestone; the design's is 15 MB with 50 containers"),
    ])
}
