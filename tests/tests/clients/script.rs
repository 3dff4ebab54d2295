//! Running a client's script.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::{Database, Server, root, setting};
use tokio::process::Command;

/// Each takes some seconds; on a machine that builds something else meanwhile, a minute.
const PATIENCE: Duration = Duration::from_mins(4);

/// Runs a script of `tests/clients/python` with a server's kubeconfig.
pub(crate) async fn python(database: Database, script: &str) -> anyhow::Result<()> {
    let file = root().join("tests/clients/python").join(script);
    run(database, &PathBuf::from(setting("BERTH_PYTHON_CLIENTS")).join("bin/python"), &file).await
}

/// Runs a script of `tests/clients/node` with a server's kubeconfig.
pub(crate) async fn node(database: Database, script: &str) -> anyhow::Result<()> {
    run(database, Path::new("node"), &root().join("tests/clients/node").join(script)).await
}

async fn run(database: Database, program: &Path, script: &Path) -> anyhow::Result<()> {
    let server = Server::start(database, &[]).await?;
    let output = Command::new(program)
        .arg(script)
        .arg(server.kubeconfig())
        .env("KUBECONFIG", server.kubeconfig())
        // What clients cache about a server belongs to this one.
        .env("HOME", server.folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .current_dir(server.folder())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.context("the script takes too long")?;
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() || !out.contains("all is well") {
        bail!("{} ended with {}\n{out}{err}\n--- server\n{}", script.display(), output.status, server.log());
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop().await
}
