//! A Docker daemon, spoken to directly: the peer of a deployment, and what a deployment is measured above.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::http::Connection;

/// The version of the API that every Docker since 20.10 speaks.
const API: &str = "/v1.41";

/// Where a daemon listens.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    socket: PathBuf,
}

impl Docker {
    /// The daemon at `unix:PATH` or `unix://PATH`.
    pub(crate) fn at(host: &str) -> anyhow::Result<Self> {
        let path = host.strip_prefix("unix://").or_else(|| host.strip_prefix("unix:"));
        Ok(Self { socket: path.with_context(|| format!("{host} is no unix socket"))?.into() })
    }

    pub(crate) fn at_socket(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    async fn connection(&self) -> anyhow::Result<Connection> {
        Connection::unix(&self.socket).await
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.connection().await?.get(&format!("{API}{path}")).await?;
        serde_json::from_slice(&answer).with_context(|| format!("{path}: no JSON"))
    }

    /// Posts a body; an empty answer is `null`.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.connection().await?.post(&format!("{API}{path}"), serde_json::to_vec(body)?).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).with_context(|| format!("{path}: no JSON"))
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.connection().await?.good(Method::DELETE, &format!("{API}{path}"), Bytes::new()).await.map(drop)
    }

    pub(crate) async fn version(&self) -> anyhow::Result<String> {
        let version = self.get("/version").await?;
        Ok(format!("Docker {}", version["Version"].as_str().context("Docker has no version")?))
    }

    /// The id of an image, `None` if it is not there.
    pub(crate) async fn image_id(&self, image: &str) -> anyhow::Result<String> {
        let found = self.get(&format!("/images/{image}/json")).await;
        let found = found.with_context(|| format!("{image} is not there: run images/build {image}"))?;
        Ok(found["Id"].as_str().context("an image has an id")?.to_owned())
    }

    /// Copies an image to another daemon.
    pub(crate) async fn copy_image(&self, image: &str, to: &Self) -> anyhow::Result<()> {
        let archive = self.connection().await?.get(&format!("{API}/images/{image}/get")).await?;
        let mut connection = to.connection().await?;
        let path = format!("{API}/images/load?quiet=1");
        let answer = connection.send(Method::POST, &path, archive, Some("application/x-tar")).await?;
        anyhow::ensure!(answer.status().is_success(), "the image could not be loaded: {}", answer.status());
        crate::http::count_bytes(answer.into_body()).await?;
        Ok(())
    }

    /// Creates and starts a container of an image on the default bridge. Its id and its address.
    pub(crate) async fn run(&self, name: &str, image: &str) -> anyhow::Result<(String, IpAddr)> {
        let created = self.post(&format!("/containers/create?name={name}"), &json!({"Image": image})).await?;
        let id = created["Id"].as_str().context("a container has an id")?.to_owned();
        self.connection().await?.post(&format!("{API}/containers/{id}/start"), Bytes::new()).await?;
        let container = self.get(&format!("/containers/{id}/json")).await?;
        let address = container["NetworkSettings"]["IPAddress"].as_str().context("the container has no address")?;
        Ok((id, address.parse().context("the container's address")?))
    }

    pub(crate) async fn remove(&self, id: &str) -> anyhow::Result<()> {
        self.delete(&format!("/containers/{id}?force=1")).await
    }
}

/// Whether a page is served at an address right now.
pub(crate) async fn answers(address: SocketAddr) -> bool {
    let asked = async {
        let mut connection = Connection::tcp(address, "localhost").await?;
        connection.get("/").await
    };
    asked.await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(Docker::at("unix:///run/d.sock").unwrap().socket, Path::new("/run/d.sock"));
        assert_eq!(Docker::at("unix:/run/d.sock").unwrap().socket, Path::new("/run/d.sock"));
        assert!(Docker::at("tcp://127.0.0.1:2375").is_err());
    }
}
