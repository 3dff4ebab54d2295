//! Ending all that an agent left running on this machine, when it is taken out of service. Nothing of it holds data: a
//! later agent brings it back.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};

use crate::docker::Docker;
use crate::machine::Containers;
use crate::nginx::{self, NginxRouter};
use crate::session::Identity;

/// What a container gets between SIGTERM and SIGKILL: the same as when it is replaced.
const PATIENCE: Duration = Duration::from_secs(10);
/// Each waits for its program, so many may wait together; Docker itself ends about ten a second.
const TOGETHER: usize = 16;

/// Ends the Nginx and removes the containers of the agent that had this data folder. The agent must not run.
pub async fn stop_all(data_dir: &Path, docker_host: &str) -> anyhow::Result<()> {
    if let Some(binary) = nginx::find_binary(std::env::var_os("PATH").as_deref()) {
        NginxRouter::new(binary, data_dir.join("nginx")).stop().await;
    }
    // Whoever never joined never ran anything.
    let Some(identity) = Identity::load(data_dir)? else { return Ok(()) };
    let docker = Docker::new(docker_host, &identity.uid)?;
    let containers = docker.containers().await.context("cannot list the containers")?;
    futures::stream::iter(containers)
        .map(|container| {
            let docker = &docker;
            async move {
                docker.stop(&container.id, PATIENCE).await?;
                docker.remove(&container.id).await
            }
        })
        .buffer_unordered(TOGETHER)
        .try_collect::<()>()
        .await
        .context("cannot remove the containers")
}
