//! A `berth server` alone, for tests of the API: no Docker, no agent, a folder and a port of its own.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

use crate::{Postgres, berth, free_port, until, within};

/// Where a server keeps its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file in the server's folder.
    Sqlite,
    /// A database of its own in the tests' cluster.
    Postgres,
}

impl Database {
    /// Makes what is needed besides a folder.
    pub(crate) fn make(self) -> anyhow::Result<Option<Postgres>> {
        match self {
            Self::Sqlite => Ok(None),
            Self::Postgres => Postgres::new().map(Some),
        }
    }
}

/// A running server. It ends with this value.
pub struct Server {
    folder: tempfile::TempDir,
    process: Child,
    address: String,
    /// The database that was made for it.
    _made: Option<Postgres>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        drop(self.process.start_kill());
    }
}

impl Server {
    /// Starts one and waits until it is ready.
    pub async fn start(database: Database, options: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-server-").tempdir()?;
        let address = format!("127.0.0.1:{}", free_port());
        let log = std::fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(berth());
        command.args(["server", "--data"]).arg(folder.path().join("data")).args(["--listen", &address]).args(options);
        let made = database.make()?;
        if let Some(made) = &made {
            command.env("BERTH_DATABASE_URL", made.url());
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        let server = Self { folder, process: process.context("cannot run berth server")?, address, _made: made };
        // What it says of itself needs no trust: everything else is asked with the certificate of its kubeconfig.
        let client = reqwest::Client::builder().danger_accept_invalid_certs(true).no_proxy();
        let client = client.timeout(Duration::from_secs(10)).build()?;
        let url = server.url("/readyz");
        let ready = until("the server is ready", within(60), async || {
            let answer = client.get(&url).send().await?;
            if answer.status().is_success() { Ok(()) } else { bail!("{}", answer.text().await?) }
        });
        match ready.await {
            Ok(()) => Ok(server),
            Err(error) => bail!("{error}\n{}", server.log()),
        }
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data").join("admin.kubeconfig")
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        let text = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The bearer token in its kubeconfig.
    pub fn token(&self) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.kubeconfig())?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("token:"));
        Ok(line.context("the kubeconfig has a token")?.trim().trim_matches('"').to_owned())
    }

    /// Tells it to stop and waits until it has.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("it runs")?;
        Command::new("kill").args(["-TERM", "--", &pid.to_string()]).status().await?;
        let status = tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await??;
        if !status.success() {
            bail!("the server ended with {status}\n{}", self.log());
        }
        Ok(())
    }
}
