//! `berth server`, the release program, in its own process and its own folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use bytes::Bytes;
use e2e::free_port;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::http::{Connection, Tls};
use crate::load::Client;
use crate::process::Process;

/// Where the objects of a benchmark are.
pub(crate) const PATH: &str = "/api/v1/namespaces/bench/configmaps";
/// What the server itself puts beside them into every namespace.
pub(crate) const OWN: &str = "kube-root-ca.crt";
const START_SECONDS_MAX: u64 = 120;
/// How often a starting server is asked.
const POLL: Duration = Duration::from_millis(1);

/// Who may speak to a server, and how.
#[derive(Clone)]
pub(crate) struct Access {
    tls: Tls,
    token: String,
}

impl Access {
    /// Reads a kubeconfig with one cluster and one user, as Berth writes it.
    pub(crate) fn read(kubeconfig: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(kubeconfig).with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        let config: Value = serde_saphyr::from_str(&text).context("the kubeconfig is no YAML")?;
        let field = |pointer: &str| {
            config.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no {pointer} in the kubeconfig"))
        };
        let address = field("/clusters/0/cluster/server")?.trim_start_matches("https://").parse()?;
        let authority = field("/clusters/0/cluster/certificate-authority-data")?;
        let authority = base64::engine::general_purpose::STANDARD.decode(authority.trim())?;
        Ok(Self { tls: Tls::new(address, &authority)?, token: field("/users/0/user/token")?.to_owned() })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        self.tls.connect(Some(&self.token)).await
    }

    pub(crate) async fn connections(&self, count: usize) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(self.connect().await?);
        }
        Ok(connections)
    }

    /// Clients, each with a connection of its own, that create one object after the other.
    pub(crate) async fn creators(&self, count: usize) -> anyhow::Result<Vec<Creator>> {
        Ok(self.connections(count).await?.into_iter().map(|connection| Creator { connection }).collect())
    }
}

/// A running server.
pub(crate) struct Server {
    process: Process,
    pub(crate) access: Access,
    /// From its start until `/readyz` said ok.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts one on a folder, which may hold what an earlier one left, and waits until it is ready.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(program, folder, None).await
    }

    /// The same, with the store in that database.
    pub(crate) async fn start_on(program: &Path, folder: &Path, database: Option<&str>) -> anyhow::Result<Self> {
        let data: PathBuf = folder.join("data");
        std::fs::create_dir_all(folder)?;
        let kubeconfig = data.join("admin.kubeconfig");
        // An old one names the old port.
        if kubeconfig.exists() {
            std::fs::rename(&kubeconfig, folder.join("old.kubeconfig"))?;
        }
        let listen = SocketAddr::from(([127, 0, 0, 1], free_port())).to_string();
        let data = data.to_string_lossy().into_owned();
        let arguments = ["server", "--data", &data, "--listen", &listen, "--log", "warn"];
        let stored = database.map(|url| ["--database-url", url]);
        let arguments = arguments.into_iter().chain(stored.into_iter().flatten());
        let started = Instant::now();
        let mut process = Process::start(program, arguments, &folder.join("server.log"))?;
        let deadline = started + Duration::from_secs(START_SECONDS_MAX);
        let access = loop {
            process.check()?;
            match ready(&kubeconfig).await {
                Ok(access) => break access,
                Err(error) if Instant::now() > deadline => return Err(error.context("the server is not ready")),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        };
        Ok(Self { process, access, start: started.elapsed() })
    }

    /// Starts one on an empty folder, with the namespace of the benchmark.
    pub(crate) async fn fresh(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        Self::fresh_on(program, folder, None).await
    }

    /// The same, with the store in that database.
    pub(crate) async fn fresh_on(program: &Path, folder: &Path, database: Option<&str>) -> anyhow::Result<Self> {
        let server = Self::start_on(program, folder, database).await?;
        create_namespace(&mut server.access.connect().await?, "bench").await?;
        Ok(server)
    }

    pub(crate) fn resident_megabytes(&self) -> anyhow::Result<f64> {
        self.process.resident_megabytes()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

async fn ready(kubeconfig: &Path) -> anyhow::Result<Access> {
    let access = Access::read(kubeconfig)?;
    access.connect().await?.get("/readyz").await?;
    Ok(access)
}

pub(crate) async fn create_namespace(connection: &mut Connection, name: &str) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    connection.post("/api/v1/namespaces", serde_json::to_vec(&namespace)?).await.map(drop)
}

/// Creates objects with ever new names.
pub(crate) struct Creator {
    connection: Connection,
}

impl Client for Creator {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        self.connection.post(PATH, object(number)).await.map(drop)
    }
}

/// What an object's text is filled up with to 1 KiB as a whole.
const FILLING: [u8; OBJECT_BYTES] = [b'x'; OBJECT_BYTES];
const OBJECT_BYTES: usize = 1024;

/// An object of 1 KiB: what Berth is sent, and what etcd is given to keep.
pub(crate) fn object(number: u64) -> Bytes {
    let before = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"o{number}","labels":{{"app":"bench"}}}},"data":{{"text":""#
    );
    let mut bytes = before.into_bytes();
    let filling = OBJECT_BYTES - bytes.len() - 3;
    bytes.extend_from_slice(&FILLING[..filling]);
    bytes.extend_from_slice(br#""}}"#);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_is_one_kibibyte_of_json() {
        for number in [0, 7, 149_999, u64::from(u32::MAX)] {
            let bytes = object(number);
            assert_eq!(bytes.len(), 1024);
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["metadata"]["name"], format!("o{number}"));
        }
    }
}
