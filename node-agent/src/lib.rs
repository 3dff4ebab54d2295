//! The agent on a worker node: runs containers, builds images and routes requests as the gateway assigns them.
//!
//! [`run`] is all that the command line calls. `agent.rs` is the loop: read it first.

mod agent;
pub mod build;
mod build_log;
mod clock;
mod connections;
mod desired;
pub mod docker;
mod execute;
#[cfg(test)]
mod fake;
mod files;
mod firewall;
mod garbage;
mod gauge;
mod history;
pub mod labels;
#[cfg(test)]
mod laws;
pub mod machine;
mod metrics;
pub mod nginx;
mod observed;
mod plan;
mod probe;
mod session;
mod snapshot;
mod status;
mod stop;
mod streams;
mod world;

pub use stop::stop_all;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use agent::Agent;
use build::{BuildSettings, Builds};
use build_log::BuildLogs;
use docker::Docker;
use gauge::Gauge;
use machine::{Builder, Router};
use metrics::Metrics;
use nginx::NginxRouter;
use session::{JoinOptions, Session, Voice};

/// How the agent is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the platform, `https://…`.
    pub server_url: Url,
    /// File with the join token; only read until the node has joined.
    pub token_file: PathBuf,
    /// The agent's data folder; made if it is not there.
    pub data_dir: PathBuf,
    /// Docker: `unix:///path` or `tcp://host:port`.
    pub docker_host: String,
    /// Port on which Nginx serves http.
    pub http_port: u16,
    /// Port on which Nginx serves https.
    pub https_port: u16,
    /// The name that the node wishes to have; once it has joined, it keeps the one it got.
    pub node_name: String,
    /// More certificates that builds trust, PEM.
    pub extra_ca_file: Option<PathBuf>,
    /// Networks from which source may be fetched although they are private.
    pub source_networks: Vec<IpNet>,
    /// Whether the firewall is kept in place. Needs root; tests that share a machine leave it to one of them.
    pub firewall: bool,
}

/// Runs the agent until it is told to stop, with an Nginx of its own and builds on this node's Docker.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let parts = |docker: &Arc<Docker>, options: &Options| {
        // Looked for on no path: whoever starts the agent has no say in which program serves the world.
        let nginx = nginx::find_binary(None).context("there is no Nginx on this machine")?;
        let mut settings = BuildSettings::new(options.data_dir.clone());
        settings.extra_ca_file.clone_from(&options.extra_ca_file);
        settings.source_networks.clone_from(&options.source_networks);
        let builds = Builds::new(Arc::clone(docker), settings).context("cannot read what is kept of builds")?;
        Ok((NginxRouter::new(nginx, options.data_dir.join("nginx")), builds))
    };
    run_with(options, parts, shutdown).await
}

/// Runs the agent until it is told to stop, with router and builder of the caller's choice: `parts` makes them once the
/// node has joined. Containers and routes stay when it ends.
pub async fn run_with<R: Router, B: Builder>(
    options: Options,
    parts: impl FnOnce(&Arc<Docker>, &Options) -> anyhow::Result<(R, B)>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    anyhow::ensure!(options.server_url.scheme() == "https", "the server's address must begin with https://");
    files::private_folder(&options.data_dir)
        .with_context(|| format!("cannot use {} as data folder", options.data_dir.display()))?;
    let _own = files::own(&options.data_dir)
        .and_then(|own| files::sweep(&options.data_dir).map(|()| own))
        .with_context(|| format!("cannot use {} as data folder", options.data_dir.display()))?;
    let join = JoinOptions {
        server: &options.server_url,
        token_file: &options.token_file,
        data_dir: &options.data_dir,
        name: &options.node_name,
    };
    let Some(identity) = session::join(&join, &shutdown).await? else { return Ok(()) };
    tracing::info!(node = identity.name, uid = identity.uid, region = identity.region, "this node has joined");
    let pulled = options.data_dir.join("pulled.json");
    let docker = Docker::new(&options.docker_host, &identity.uid)?.remembering(pulled);
    let docker = Arc::new(docker.context("cannot read which images were fetched")?);
    docker.remove_helpers().await.unwrap_or_else(|error| tracing::warn!(%error, "old helpers cannot be removed"));
    let (router, builder) = parts(&docker, &options)?;
    let (router, builder) = (Arc::new(router), Arc::new(builder));
    let build_logs = BuildLogs::new(&options.data_dir).context("cannot keep build logs")?;
    let ports = (options.http_port, options.https_port);
    let machine = (Arc::clone(&docker), Arc::clone(&router), builder);
    let (agent, shown) = Agent::new(&identity.uid, ports, &options.data_dir, machine, build_logs.clone())
        .context("cannot read what is remembered of instances")?;
    let (request_sender, requests) = mpsc::channel(agent::SIGNALS);
    let (heartbeat_sender, heartbeats) = watch::channel(None);
    let state = firewall::State { tried: !options.firewall, trouble: None };
    let (firewall_sender, firewall) = watch::channel(state);
    let gauge = Gauge {
        containers: Arc::clone(&docker),
        router: Arc::clone(&router),
        engine: shown.engine.clone(),
        firewall: firewall.clone(),
        running: shown.running.clone(),
        name: identity.name.clone(),
        server: options.server_url.host_str().unwrap_or_default().to_owned(),
    };
    let metrics = Metrics::new(&shown, firewall.clone()).context("cannot make metrics")?;
    let docker_state = shown.engine.clone();
    let voice = Voice::new(&shown, heartbeats, build_logs);
    let session = Session::new(identity, &options.server_url)?;
    let metrics_socket = options.data_dir.join("metrics.sock");

    // One of them ending, other than on shutdown, is the end of all: a process that half works is worse than a restart.
    let mut parts = JoinSet::new();
    parts.spawn(agent.run(requests, firewall, shutdown.clone()));
    parts.spawn(session.run(voice, request_sender, shutdown.clone()));
    parts.spawn(gauge.run(heartbeat_sender, shutdown.clone()));
    if options.firewall {
        let networks = options.source_networks.clone();
        parts.spawn(firewall::run(networks, docker_state, firewall_sender, shutdown.clone()));
    }
    let stop = shutdown.clone();
    parts.spawn(async move {
        if let Err(error) = metrics.serve(&metrics_socket, stop.clone()).await {
            tracing::warn!(%error, "no metrics are served");
            stop.cancelled().await;
        }
    });
    let mut ended = Ok(());
    while let Some(part) = parts.join_next().await {
        let stopping = shutdown.is_cancelled();
        shutdown.cancel();
        if let Err(error) = part {
            ended = ended.and(Err(anyhow::anyhow!(error).context("a part of the agent ended badly")));
        } else if !stopping {
            ended = ended.and(Err(anyhow::anyhow!("a part of the agent ended")));
        }
    }
    ended
}
