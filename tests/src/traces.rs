//! What a project leaves on the machine: after a deletion there must be none of it.

use anyhow::Context;
use tokio::process::Command;

use crate::{Platform, setting};

impl Platform {
    /// Everything in Docker that bears the project's label, as `kind name` lines.
    pub async fn traces(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let filter = format!("label=dev.berth.namespace={namespace}");
        let mut found = Vec::new();
        for (kind, arguments) in [
            ("container", &["ps", "-a", "--format", "{{.Names}}"][..]),
            ("network", &["network", "ls", "--format", "{{.Name}}"]),
            ("volume", &["volume", "ls", "--format", "{{.Name}}"]),
            ("image", &["images", "--format", "{{.Repository}}:{{.Tag}}"]),
        ] {
            let output = docker(arguments, &filter).await?;
            found.extend(output.lines().map(|line| format!("{kind} {line}")));
        }
        Ok(found)
    }

    /// The containers of a project, by name.
    pub async fn containers(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let filter = format!("label=dev.berth.namespace={namespace}");
        Ok(docker(&["ps", "-a", "--format", "{{.Names}}"], &filter).await?.lines().map(str::to_owned).collect())
    }
}

async fn docker(arguments: &[&str], filter: &str) -> anyhow::Result<String> {
    let output = Command::new("docker")
        .args(["--host", &setting("BERTH_DOCKER_HOST")])
        .args(arguments)
        .args(["--filter", filter])
        .output()
        .await
        .context("cannot run docker")?;
    anyhow::ensure!(output.status.success(), "docker: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
