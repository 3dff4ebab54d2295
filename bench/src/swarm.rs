//! Docker's Swarm mode, on a daemon of its own: Swarm excludes live-restore, and must not touch the daemon of others.
//!
//! The daemon gets a network namespace of its own, so that its firewall rules are not those of the machine; a pair of
//! interfaces leads into it. Everything goes with the namespace and the folder.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use crate::docker::Docker;

/// The two ends of the way into the namespace, of a range that is used between routers and not by customers.
const OUTSIDE: &str = "100.127.255.253/30";
const INSIDE: &str = "100.127.255.254/30";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);
/// Removing a service takes about as long as its container takes to end.
const REMOVE_SECONDS_MAX: u64 = 60;

/// A Swarm of one node.
pub(crate) struct Swarm {
    docker: Docker,
    network: String,
    // Short: the path of a unix socket has at most 107 bytes.
    run: TempDir,
    data: TempDir,
    image: String,
}

impl Swarm {
    /// Starts one that has this image of another daemon.
    pub(crate) async fn start(folder: &Path, from: &Docker, image: &str) -> anyhow::Result<Self> {
        let run = tempfile::Builder::new().prefix("berth-bench-").tempdir_in("/run")?;
        let data = tempfile::Builder::new().prefix("swarm-").tempdir_in(folder)?;
        let network = format!("berth-bench-{}", std::process::id());
        let docker = Docker::at_socket(&run.path().join("docker.sock"));
        let mut swarm = Self { docker, network, run, data, image: String::new() };
        match swarm.prepare(from, image).await {
            Ok(()) => Ok(swarm),
            Err(error) => {
                let ended = swarm.stop().await;
                Err(error.context(ended.err().map_or_else(String::new, |error| format!("{error:#}"))))
            }
        }
    }

    async fn prepare(&mut self, from: &Docker, image: &str) -> anyhow::Result<()> {
        let network = self.network.as_str();
        let interface = format!("bb{}", std::process::id());
        ip(&["netns", "add", network]).await?;
        ip(&["link", "add", &interface, "type", "veth", "peer", "name", "outside", "netns", network]).await?;
        ip(&["address", "add", OUTSIDE, "dev", &interface]).await?;
        ip(&["link", "set", &interface, "up"]).await?;
        ip(&["-n", network, "address", "add", INSIDE, "dev", "outside"]).await?;
        ip(&["-n", network, "link", "set", "outside", "up"]).await?;
        ip(&["-n", network, "link", "set", "lo", "up"]).await?;
        self.daemon("start").await?;

        from.copy_image(image, &self.docker).await?;
        // By its id, because Swarm asks the registry for anything else each time.
        self.image = self.docker.image_id(image).await?;
        let listen = format!("{ADDRESS}:2377");
        let advertise = ADDRESS.to_string();
        let init = json!({"ListenAddr": listen, "AdvertiseAddr": advertise, "ForceNewCluster": false});
        self.docker.post("/swarm/init", &init).await.context("Swarm could not be started")?;
        Ok(())
    }

    async fn daemon(&self, command: &str) -> anyhow::Result<()> {
        let run = self.run.path();
        let script = e2e::root().join("scripts").join("dockerd");
        let namespace = format!("--net=/run/netns/{}", self.network);
        let files = [
            ("--socket", run.join("docker.sock")),
            ("--exec-root", run.join("exec")),
            ("--pidfile", run.join("docker.pid")),
            ("--data-root", self.data.path().join("docker")),
            ("--log", self.data.path().join("docker.log")),
        ];
        let mut arguments: Vec<&OsStr> = vec![namespace.as_ref(), "--".as_ref(), script.as_os_str(), command.as_ref()];
        for (option, file) in &files {
            arguments.extend([option.as_ref(), file.as_os_str()]);
        }
        arguments.push("--no-live-restore".as_ref());
        run_program("nsenter", &arguments).await
    }

    /// `service create` of one replica whose port is published on the node itself. The service's id and where it will answer.
    pub(crate) async fn create(&self, name: &str, port: u16) -> anyhow::Result<(String, SocketAddr)> {
        let service = json!({
            "Name": name,
            "TaskTemplate": {"ContainerSpec": {"Image": self.image}},
            "Mode": {"Replicated": {"Replicas": 1}},
            "EndpointSpec": {"Mode": "dnsrr", "Ports": [
                {"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": port, "PublishMode": "host"},
            ]},
        });
        let created = self.docker.post("/services/create", &service).await?;
        let id = created["ID"].as_str().context("a service has an id")?.to_owned();
        Ok((id, SocketAddr::from((ADDRESS, port))))
    }

    /// Removes a service and waits until its container is gone.
    pub(crate) async fn remove(&self, id: &str) -> anyhow::Result<()> {
        self.docker.delete(&format!("/services/{id}")).await?;
        let deadline = Instant::now() + Duration::from_secs(REMOVE_SECONDS_MAX);
        loop {
            let left = self.docker.get("/containers/json?all=1").await?;
            if left.as_array().is_some_and(Vec::is_empty) {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "the service's container stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Why a service does not answer, from its tasks.
    pub(crate) async fn explain(&self, id: &str) -> String {
        let tasks = self.docker.get("/tasks").await.unwrap_or_default();
        let of_service = tasks.as_array().into_iter().flatten().filter(|task| task["ServiceID"] == id);
        let status = |task: &Value| {
            format!("{}: {} {}", task["Status"]["State"], task["Status"]["Message"], task["Status"]["Err"])
        };
        of_service.map(status).collect::<Vec<_>>().join("; ")
    }

    /// Ends the daemon and takes everything away.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let daemon = self.daemon("stop").await;
        // What the daemon left mounted would keep the folders from being removed.
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let ours = [self.run.path().to_string_lossy(), self.data.path().to_string_lossy()];
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for mount in mounted.filter(|mount| ours.iter().any(|folder| mount.starts_with(folder.as_ref()))) {
            run_program("umount", &["--lazy".as_ref(), "--".as_ref(), mount.as_ref()]).await?;
        }
        // Its interfaces go with it, and so do their other ends.
        let network = ip(&["netns", "delete", &self.network]).await;
        self.run.close()?;
        self.data.close()?;
        daemon.and(network)
    }
}

async fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run_program("ip", &arguments.iter().map(OsStr::new).collect::<Vec<_>>()).await
}

async fn run_program(program: &str, arguments: &[&OsStr]) -> anyhow::Result<()> {
    let output =
        Command::new(program).args(arguments).output().await.with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let arguments: Vec<_> = arguments.iter().map(|argument| argument.to_string_lossy()).collect();
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
