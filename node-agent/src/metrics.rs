//! Figures about the agent itself, in Prometheus' text format, on a unix socket in its data folder: no port to guard.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_protocol::{Observation, PartState};
use prometheus::{Encoder, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::{Held, Shown};
use crate::firewall;

/// How long whoever asks may take.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// The figures, and what they are taken from.
pub(crate) struct Metrics {
    registry: Registry,
    instances: IntGaugeVec,
    routes: IntGauge,
    builds: IntGauge,
    docker: IntGauge,
    firewall: IntGauge,
    revision: IntGauge,
    observation: watch::Receiver<Arc<Observation>>,
    engine: watch::Receiver<PartState>,
    held: watch::Receiver<Held>,
    walls: watch::Receiver<firewall::State>,
}

impl Metrics {
    /// Figures about what the agent shows.
    pub(crate) fn new(shown: &Shown, walls: watch::Receiver<firewall::State>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let instances =
            IntGaugeVec::new(Opts::new("berth_agent_instances", "Assigned instances by phase"), &["phase"])?;
        registry.register(Box::new(instances.clone()))?;
        Ok(Self {
            instances,
            routes: gauge("berth_agent_routes_ready", "Routes that are live as assigned")?,
            builds: gauge("berth_agent_builds", "Builds that are known")?,
            docker: gauge("berth_agent_docker_healthy", "1 if Docker answers")?,
            firewall: gauge("berth_agent_firewall_in_place", "1 if projects are kept apart by the firewall")?,
            revision: gauge("berth_agent_revision", "Revision of the accepted assignment")?,
            registry,
            observation: shown.observation.clone(),
            engine: shown.engine.clone(),
            held: shown.held.clone(),
            walls,
        })
    }

    /// Answers whoever asks, one after the other, until it is told to stop.
    pub(crate) async fn serve(self, socket: &Path, shutdown: CancellationToken) -> std::io::Result<()> {
        crate::files::remove(socket)?;
        let listener = UnixListener::bind(socket)?;
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            let (connection, _) = accepted?;
            match tokio::time::timeout(ASK_WITHIN, self.answer(connection)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "figures were not taken"),
                Err(_) => tracing::debug!("figures were asked for too slowly"),
            }
        }
        crate::files::remove(socket)
    }

    async fn answer(&self, mut connection: UnixStream) -> std::io::Result<()> {
        // Whatever is asked, there is one answer.
        let mut request = [0; 1024];
        let asked = connection.read(&mut request).await?;
        tracing::trace!(asked, "figures");
        let body = self.text().map_err(std::io::Error::other)?;
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        connection.write_all(head.as_bytes()).await?;
        connection.write_all(&body).await?;
        connection.shutdown().await
    }

    fn text(&self) -> prometheus::Result<Vec<u8>> {
        let observation = Arc::clone(&self.observation.borrow());
        self.instances.reset();
        for instance in &observation.instances {
            self.instances.with_label_values(&[format!("{:?}", instance.phase).as_str()]).inc();
        }
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.routes.set(count(observation.routes.iter().filter(|route| route.ready).count()));
        self.builds.set(count(observation.builds.len()));
        self.docker.set(i64::from(self.engine.borrow().healthy));
        self.firewall.set(i64::from(self.walls.borrow().trouble.is_none()));
        self.revision.set(self.held.borrow().revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(0));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
