//! Git repositories made of the examples, served over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::{Platform, berth, root};

/// The examples that are deployed from Git, and a text that each answers with in its first version.
pub fn examples() -> [&'static str; 5] {
    ["nodejs", "python", "php", "static", "dockerfile"]
}

/// A folder of bare repositories and the server that hands them out.
pub struct Repositories {
    folder: PathBuf,
    address: SocketAddr,
    _server: Child,
}

impl Repositories {
    /// Starts a server whose repositories the platform's builds can reach.
    pub async fn serve(platform: &Platform) -> anyhow::Result<Self> {
        let folder = platform.folder().join("git");
        std::fs::create_dir_all(&folder)?;
        let mut server = Command::new(berth())
            .args(["git", "serve", "--root"])
            .arg(&folder)
            .args(["--listen", &SocketAddr::new(platform.address(), 0).to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run berth git serve")?;
        let mut lines = BufReader::new(server.stderr.take().context("the server has no standard error")?).lines();
        let line = lines.next_line().await?.context("the Git server ended at once")?;
        let address = line.rsplit_once("http://").context("the Git server did not say where it listens")?.1.parse()?;
        Ok(Self { folder, address, _server: server })
    }

    /// Makes a repository of an example. Returns its address.
    pub async fn create(&self, example: &str) -> anyhow::Result<String> {
        let repository = self.folder.join(format!("{example}.git"));
        make_example_repo(&["create", example, &repository.to_string_lossy()]).await?;
        Ok(self.url(example))
    }

    /// The address of a repository.
    pub fn url(&self, example: &str) -> String {
        format!("http://{}/{example}.git", self.address)
    }

    /// Pushes a commit after which the application answers with this version.
    pub async fn push_version(&self, example: &str, version: u32) -> anyhow::Result<()> {
        let repository = self.folder.join(format!("{example}.git"));
        make_example_repo(&["version", &repository.to_string_lossy(), &version.to_string()]).await.map(drop)
    }

    /// Pushes a commit that does not build.
    pub async fn push_broken(&self, example: &str) -> anyhow::Result<()> {
        let repository = self.folder.join(format!("{example}.git"));
        make_example_repo(&["break", &repository.to_string_lossy()]).await.map(drop)
    }

    /// The example's YAML, with its repository's address.
    pub async fn yaml(&self, example: &str) -> anyhow::Result<String> {
        make_example_repo(&["yaml", example, &self.url(example)]).await
    }
}

async fn make_example_repo(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(root().join("scripts").join("make-example-repo"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run scripts/make-example-repo")?;
    if !output.status.success() {
        bail!("make-example-repo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
