//! What runs beside the API in one process: the reconcilers, the gateway for agents, and the routes under `/api/paas`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use apiserver::pki::Pki;
use apiserver::{Identity, Server};
use axum::Router;
use controller::clock::Clock;
use controller::gateway::Gateway;
use controller::series::Series;
use controller::{Controller, web};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the administrator chose.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) platform_domain: String,
    pub(crate) http_port: u16,
    pub(crate) source_networks: Vec<IpNet>,
}

/// Whether the reconcilers have seen everything once: until then `/readyz` says no.
#[derive(Clone)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn new(ready: bool) -> Self {
        Self(Arc::new(AtomicBool::new(ready)))
    }

    pub(crate) fn check(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let ready = Arc::clone(&self.0);
        move || if ready.load(Ordering::Acquire) { Ok(()) } else { Err("the caches are being filled".to_owned()) }
    }
}

/// The running parts.
pub(crate) struct Parts {
    /// What is served beside the API.
    pub(crate) routes: Router,
    /// Where agents connect.
    pub(crate) gateway: Gateway,
    /// Ends after the shutdown, when everything in progress is finished.
    pub(crate) ended: JoinHandle<anyhow::Result<()>>,
}

/// Makes the namespace of Berth's own Secrets before anybody else can.
pub(crate) async fn ensure_system_namespace(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta { name: Some(crds::SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    match namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => created.map(drop).context("cannot make the system's namespace"),
    }
}

/// Starts them. They see the API as any other client does, without the network between.
pub(crate) async fn start(
    server: &Server,
    series: Series,
    pki: &Pki,
    settings: Settings,
    ready: &Readiness,
    registry: &prometheus::Registry,
    shutdown: &CancellationToken,
) -> anyhow::Result<Parts> {
    let Settings { platform_domain, http_port, source_networks } = settings;
    let client = Client::new(server.local(Identity::system("controller")), "default");
    ensure_system_namespace(&client).await?;
    let options = controller::Options {
        settings: controller::Settings { platform_domain, public_port: (http_port != 80).then_some(http_port) },
        clock: Clock::system(),
        registry: registry.clone(),
        source_networks,
    };
    let controller = Controller::new(client, options).context("cannot put the controller together")?;
    let gateway =
        Gateway::new(&controller, series, &pki.ca_pem, registry).context("cannot put the gateway together")?;

    let asking = server.clone();
    let client_for: web::ClientFor = Arc::new(move |extensions| {
        let identity = extensions.get::<Identity>().filter(|identity| !identity.is_anonymous())?;
        Some(Client::new(asking.local(identity.clone()), "default"))
    });
    let routes = gateway.router().merge(server.protect(web::router(&gateway, client_for)));

    let world = controller.world();
    let (ready, filling) = (ready.clone(), shutdown.clone());
    apiserver::task::spawn("readiness", async move {
        if filling.run_until_cancelled(world.filled()).await.is_some() {
            ready.0.store(true, Ordering::Release);
        }
    });
    let (shutdown, running) = (shutdown.clone(), gateway.clone());
    let ended = apiserver::task::spawn("parts", async move {
        tokio::join!(controller.run(shutdown.clone()), running.run(shutdown.clone()));
        Ok(())
    });
    Ok(Parts { routes, gateway, ended })
}
