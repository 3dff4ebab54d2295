//! schemathesis: requests made from the OpenAPI document, sensible ones and nonsense.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use e2e::{Database, Server, root, setting};
use tokio::process::Command;

/// Requests an operation, of which there are some hundred and twenty; more would take minutes.
const EXAMPLES: &str = "6";
/// The same requests at each run, so that a failure can be seen again.
const SEED: &str = "20261125";
const PATIENCE: Duration = Duration::from_secs(560);

#[tokio::test]
async fn no_request_made_from_the_openapi_makes_the_server_fail() -> anyhow::Result<()> {
    let server = Server::start(Database::Sqlite, &[]).await?;
    for document in ["apis/berth.dev/v1alpha1", "api/v1"] {
        let output = Command::new(PathBuf::from(setting("BERTH_PYTHON_CLIENTS")).join("bin/st"))
            .arg("run")
            .arg(server.url(&format!("/openapi/v3/{document}")))
            .args(["--header", &format!("Authorization: Bearer {}", server.token()?)])
            .args(["--tls-verify", "false"])
            .args(["--checks", "not_a_server_error"])
            .args(["--phases", "fuzzing"])
            .args(["--max-examples", EXAMPLES, "--seed", SEED])
            .args(["--suppress-health-check", "all"])
            .args(["--request-timeout", "30"])
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .env("PYTHONPATH", root().join("tests/clients/python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", server.folder())
            .current_dir(server.folder())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await.context("schemathesis takes too long")??;
        let out = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("{document}: {}\n{out}{}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        // A run that tested nothing must not pass.
        assert!(out.contains("Fuzzing") && out.contains(" passed"), "{out}");
    }
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    server.stop().await
}
