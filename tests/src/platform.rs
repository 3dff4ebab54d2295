//! One Berth, started with `berth up` in a folder of its own and ended with `berth down`.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::{Database, Postgres, berth, free_ports, setting};

/// The programs that make up a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The control plane.
    Server,
    /// The node's agent.
    Agent,
}

/// A running Berth.
pub struct Platform {
    folder: tempfile::TempDir,
    api: SocketAddr,
    http: u16,
    https: u16,
    address: IpAddr,
    /// The database that was made for it. It goes after the programs have ended.
    database: Option<Postgres>,
}

impl Platform {
    /// Starts one, with this machine as its node.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(Database::Sqlite).await
    }

    /// Starts one that keeps its objects in a database.
    pub async fn start_on(database: Database) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("berth-test-").tempdir()?;
        let ports = free_ports(3);
        let platform = Self {
            folder,
            api: SocketAddr::from(([127, 0, 0, 1], ports[0])),
            http: ports[1],
            https: ports[2],
            address: own_address(),
            database: database.make()?,
        };
        platform.up().await?;
        Ok(platform)
    }

    /// Runs `berth up`: starts whatever does not run.
    pub async fn up(&self) -> anyhow::Result<()> {
        let mut command = Command::new(berth());
        if let Some(database) = &self.database {
            command.env("BERTH_DATABASE_URL", database.url());
        }
        let output = command
            .args(["up", "--data"])
            .arg(self.data())
            .args(["--listen", &self.api.to_string()])
            .args(["--http-port", &self.http.to_string(), "--https-port", &self.https.to_string()])
            .args(["--platform-domain", "apps.example.test"])
            .args(["--docker-host", &setting("BERTH_DOCKER_HOST")])
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run berth up")?;
        if !output.status.success() {
            self.show_logs();
            bail!("berth up failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Ends a program as a crash would: SIGKILL, no warning.
    pub async fn kill(&self, program: Program) -> anyhow::Result<()> {
        let Some(pid) = self.pid(program) else { return Ok(()) };
        Command::new("kill").args(["-KILL", "--", &pid.to_string()]).status().await?;
        Ok(())
    }

    /// The process id of a program, as `berth up` wrote it down.
    pub fn pid(&self, program: Program) -> Option<u64> {
        let name = match program {
            Program::Server => "server",
            Program::Agent => "agent",
        };
        let text = std::fs::read(self.data().join("run").join(format!("{name}.json"))).ok()?;
        serde_json::from_slice::<Value>(&text).ok()?["pid"].as_u64()
    }

    /// Runs a command of `berth` against it.
    pub async fn berth(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let command = Command::new(berth())
            .args(arguments)
            .env("BERTH_KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        Ok(command.await?)
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("server").join("admin.kubeconfig")
    }

    /// The port on which applications are served.
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// The address by which containers reach servers of this test.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// A client to which a host name leads to this platform's Nginx, whatever the DNS says.
    pub fn client(&self, host: &str) -> anyhow::Result<reqwest::Client> {
        let nginx = SocketAddr::from(([127, 0, 0, 1], self.http));
        Ok(reqwest::Client::builder().resolve(host, nginx).no_proxy().timeout(Duration::from_secs(30)).build()?)
    }

    /// Gets a page of an application by its address. Status and body.
    pub async fn get(&self, url: &str) -> anyhow::Result<(u16, String)> {
        let url = reqwest::Url::parse(url)?;
        let host = url.host_str().context("an address has a host")?.to_owned();
        let answer = self.client(&host)?.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Prints the ends of both logs: for a test that fails, before it says why.
    pub fn show_logs(&self) {
        for name in ["server", "agent"] {
            let text = std::fs::read(self.data().join("log").join(format!("{name}.log"))).unwrap_or_default();
            let start = text.len().saturating_sub(6000);
            eprintln!("\n--- {name}\n{}", String::from_utf8_lossy(&text[start..]));
        }
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        let ended =
            std::process::Command::new(berth()).args(["down", "--data"]).arg(self.data()).stdin(Stdio::null()).output();
        // Panicking in a drop would hide why the test failed; the message is enough to find a leak.
        match ended {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("berth down failed: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("cannot run berth down: {error}"),
        }
    }
}

/// The address of the way out, or of Docker's own bridge where there is none.
fn own_address() -> IpAddr {
    let outward = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.connect(("198.51.100.1", 9))?;
        Ok(socket.local_addr()?.ip())
    };
    outward().unwrap_or_else(|_| IpAddr::from([172, 17, 0, 1]))
}
