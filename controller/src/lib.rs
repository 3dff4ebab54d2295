//! The controller: it closes the distance between what customers want and what is observed.
//!
//! Reconcilers, one folder a kind, know only [`kube::Client`]: in the embedded mode it speaks to Berth's own API server
//! in the same process, otherwise to any Kubernetes API server with the definitions of `crds/`. Each is a pure plan and
//! a shared driver (`reconcile.rs`, `driver.rs`); all look at one [`World`].

pub mod application;
pub mod build;
pub mod catalogue;
pub mod clock;
mod credentials;
mod driver;
mod error;
mod events;
mod execute;
pub mod gateway;
mod hub;
pub mod instance;
mod metrics;
pub mod node;
pub mod plan;
mod queue;
pub mod reconcile;
pub mod release;
pub mod runtime;
pub mod scheduler;
pub mod series;
#[cfg(test)]
mod simulation;
pub mod source;
pub mod step;
pub mod task;
pub mod user;
pub mod views;
pub mod web;
pub mod world;

use std::sync::Arc;
use std::time::Duration;

use crds::{Application, Build, Instance, Node, Plan, Release, Runtime, User};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use prometheus::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::hub::{Hub, Queues};
use crate::metrics::Metrics;
pub use crate::world::World;

/// Everything is looked at again this often, though nothing should need it.
const RESYNC: Duration = Duration::from_mins(10);

/// What a controller is told from outside.
pub struct Options {
    /// What it needs to know of the platform.
    pub settings: Settings,
    /// Where the time comes from.
    pub clock: Clock,
    /// Where metrics go.
    pub registry: Registry,
    /// Networks that customers' Git sources may be on although they are private: the operator's own forge, for
    /// example. Loopback, private and link-local addresses are refused otherwise.
    pub source_networks: Vec<IpNet>,
}

/// What reconcilers need to know of the platform.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The domain under which every application has a name of its own, such as `apps.example.com`.
    pub platform_domain: String,
    /// The port by which people reach the nodes' Nginx, where it is not 80.
    pub public_port: Option<u16>,
}

impl Settings {
    /// The host name that is an application's own.
    pub fn host(&self, namespace: &str, application: &str) -> String {
        format!("{}.{}", crds::names::slug(namespace, application), self.platform_domain)
    }

    /// The address at which an application is served.
    pub fn url(&self, namespace: &str, application: &str) -> String {
        let host = self.host(namespace, application);
        match self.public_port.filter(|port| *port != 80) {
            Some(port) => format!("http://{host}:{port}"),
            None => format!("http://{host}"),
        }
    }
}

/// A controller that was put together and does not run yet.
pub struct Controller {
    hub: Arc<Hub>,
    publisher: events::Publisher,
    source_networks: Vec<IpNet>,
}

impl Controller {
    /// Puts a controller together. Fails if its metrics are registered already.
    pub fn new(client: Client, options: Options) -> Result<Self, prometheus::Error> {
        let Options { settings, clock, registry, source_networks } = options;
        let metrics = Metrics::register(&registry)?;
        let (events, publisher) = events::channel(client.clone(), metrics.clone());
        let hub = Hub {
            client,
            world: Arc::new(World::default()),
            settings,
            clock,
            queues: Queues::default(),
            events,
            metrics,
        };
        Ok(Self { hub: Arc::new(hub), publisher, source_networks })
    }

    /// What it knows; empty until it runs.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.hub.world)
    }

    /// What its parts share, for those that run beside it.
    pub(crate) fn hub(&self) -> Arc<Hub> {
        Arc::clone(&self.hub)
    }

    /// Watches, decides and acts until `shutdown`. Steps that have begun are finished.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { hub, publisher, source_networks } = self;
        let mut parts = JoinSet::new();
        let feeds = &mut parts;
        feed::<Plan>(feeds, &hub, &shutdown);
        feed::<Runtime>(feeds, &hub, &shutdown);
        feed::<Node>(feeds, &hub, &shutdown);
        feed::<Application>(feeds, &hub, &shutdown);
        feed::<Build>(feeds, &hub, &shutdown);
        feed::<Release>(feeds, &hub, &shutdown);
        feed::<Instance>(feeds, &hub, &shutdown);
        feed::<User>(feeds, &hub, &shutdown);
        feed::<Secret>(feeds, &hub, &shutdown);
        feed::<Namespace>(feeds, &hub, &shutdown);
        // What is missing may only not have been heard of yet: nobody acts before the world is filled.
        tokio::select! {
            () = hub.world.filled() => {}
            () = shutdown.cancelled() => return,
        }
        tracing::info!(
            applications = hub.world.applications.len(),
            nodes = hub.world.nodes.len(),
            "the world is known"
        );
        hub.look_at_everything();
        parts.spawn(driver::run::<Plan>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Runtime>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Node>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Application>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Build>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Release>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<Instance>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(driver::run::<User>(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(scheduler::run(Arc::clone(&hub), shutdown.clone()));
        parts.spawn(source::run(Arc::clone(&hub), source_networks, shutdown.clone()));
        parts.spawn(publisher.run(shutdown.clone()));
        parts.spawn(resync(Arc::clone(&hub), shutdown.clone()));
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                // Every part catches what its objects do wrong; one that ends is a defect, and the process that
                // notices `shutdown` can start anew.
                tracing::error!(%error, "a part of the controller ended");
                shutdown.cancel();
            }
        }
    }
}

fn feed<K: hub::Reacts>(parts: &mut JoinSet<()>, hub: &Arc<Hub>, shutdown: &CancellationToken) {
    parts.spawn(world::feed::<K>(hub.client.clone(), Arc::clone(hub), shutdown.clone()));
}

async fn resync(hub: Arc<Hub>, shutdown: CancellationToken) {
    while shutdown.run_until_cancelled(tokio::time::sleep(RESYNC)).await.is_some() {
        hub.look_at_everything();
    }
}

/// Puts a controller together and runs it until `shutdown`.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), prometheus::Error> {
    Controller::new(client, options)?.run(shutdown).await;
    Ok(())
}
