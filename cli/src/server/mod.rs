//! `berth server`: store, API, reconcilers and the agents' gateway in one process.

mod accounts;
mod admin;
mod authority;
mod backup;
mod database;
mod election;
pub(crate) mod keys;
mod kinds;
mod logging;
mod measures;
mod migrate;
mod office;
mod parts;
mod roles;
mod stopping;
mod streams;
mod term;
pub(crate) mod user;
mod views;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use apiserver::clock::Clock;
use apiserver::store::{Settings, Store};
use apiserver::{Identity, Kinds, Server, file, pki};
use controller::series::Series;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::database::Database;
use self::election::Candidate;
use self::keys::{Keys, Source};
use self::office::Office;
use self::term::Work;
use crate::args;
use crate::failure::{Exit, fail};
use crate::signals;

pub(crate) use backup::backup;
pub(crate) use logging::start as start_logging;
pub(crate) use migrate::migrate;

pub(crate) async fn run(options: args::Server) -> anyhow::Result<()> {
    let args::Server {
        data,
        listen,
        database_url,
        advertise,
        platform_domain,
        http_port,
        mut host,
        source_network,
        log,
        oidc,
        master_key,
        limits,
    } = options;
    start_logging(&log)?;
    if !crds::names::is_host(&platform_domain) {
        return Err(fail(
            Exit::Usage,
            format!("--platform-domain {platform_domain:?} is no domain such as apps.example.com"),
        ));
    }
    private_folder(&data).with_context(|| format!("cannot make {} a folder of this user alone", data.display()))?;
    let told = signals::shutdown()?;
    let shutdown = stopping::after(&told, limits.shutdown_delay());
    let clock = Clock::system();
    let registry = prometheus::Registry::new();

    let database = Database::parse(database_url.as_deref(), &data)?;
    let settings = Settings { clock: clock.clone(), registry: registry.clone(), ..Settings::default() };
    let Kept { kinds, store, keys, series } =
        Box::pin(open(&database, settings, Source::choose(&master_key, &data))).await?;
    if database.is_shared() {
        authority::share(&store, &kinds, &data.join("pki"), &clock).await?;
    }
    let advertised = advertise.as_ref().and_then(url::Url::host_str);
    host.extend(advertised.map(|host| host.trim_matches(['[', ']']).to_owned()));
    let pki = pki::load_or_create(&data.join("pki"), &names_of(listen, host), &clock).context("cannot prepare TLS")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let listen = listener.local_addr()?;

    let settings = parts::Settings { platform_domain, http_port, source_networks: source_network };
    // Of several servers those that do not lead serve the API without reconcilers.
    let ready = parts::Readiness::new(database.is_shared());
    let (current, following) = (store.clone(), store.clone());
    // The server that leads makes them before the definitions.
    let defaults = apiserver::definitions::are_published(&store, &kinds);
    let (leader, led) = watch::channel(None);
    let office = Office::new(led, data.join("pki"), &pki.ca_pem, clock.clone())?;
    let provider = accounts::provider(&oidc, &clock)?;
    let mut builder = Server::builder(store.clone(), kinds, clock.clone(), registry.clone());
    if let Some(provider) = provider {
        builder = builder.authenticator(provider);
    }
    let server = builder
        .shutdown(shutdown.clone())
        .readiness("controllers", ready.check())
        .readiness("defaults", move || {
            defaults().then_some(()).ok_or_else(|| "the first namespaces and roles are being made".to_owned())
        })
        .readiness("database", move || current.staleness().map_or(Ok(()), Err))
        .readiness("catching-up", move || following.lag().map_or(Ok(()), Err))
        .roles(roles::all())
        .accounts(accounts::settings())
        // The authority's key, the passwords of people and who leads are in it.
        .namespace(crds::SYSTEM_NAMESPACE)
        .ca(pki.ca_pem.as_str())
        .readiness("shutdown", stopping::check(&told))
        .limits(limits.of_callers())
        .evaluator(Arc::new(measures::Applications))
        .streams(office.streams())
        .build()
        .context("cannot put the server together")?;
    admin::write_kubeconfig(&data, &server_url(listen), &pki.ca_pem, &store.tokens()).await?;

    let tls = pki.server_config()?;
    let own = server.router().merge(server.protect(keys.router(&server, &store)));
    let routes = office.before(own);
    let work = Work::new(server.clone(), store.clone(), series.clone(), pki, settings, ready, office, &registry)?;
    apiserver::task::spawn("keys", keys.follow(store.clone(), shutdown.clone()));
    let leading = if database.is_shared() {
        if advertise.is_none() && listen.ip().is_unspecified() {
            tracing::warn!("without --advertise the other servers look for this one on their own machine");
        }
        let address = advertise.map_or_else(|| server_url(listen), |url| url.as_str().trim_end_matches('/').to_owned());
        let client = Client::new(server.local(Identity::system("election")), "default");
        parts::ensure_system_namespace(&client).await?;
        let candidate = Candidate::new(client, address, leader);
        apiserver::task::spawn("election", candidate.run(shutdown.clone(), move |term| work.begin(term)))
    } else {
        apiserver::task::spawn("lead", work.lead(shutdown.clone()))
    };
    // What ends before it is told to cannot be done without.
    let (ending, ended) = (shutdown.clone(), shutdown.clone());
    let leading = apiserver::task::spawn("leading", async move {
        let result = leading.await;
        ending.cancel();
        result
    });
    tracing::info!(address = %listen, "the API is served");
    let served = apiserver::serve_with(listener, tls, routes, ended, limits.of_connections()).await;
    // However serving ended, everything else ends with it.
    shutdown.cancel();
    leading.await.context("the controller stopped badly")?.context("the controller stopped badly")??;
    series.close().await;
    store.close().await.context("cannot close the store")?;
    tracing::info!("stopped");
    served.context("the listener failed")
}

/// What a server keeps, and the kinds of it.
struct Kept {
    kinds: Kinds,
    store: Store,
    keys: Keys,
    series: Series,
}

/// Opens all that is kept, side by side where one does not need the other.
async fn open(database: &Database, settings: Settings, source: Source) -> anyhow::Result<Kept> {
    // The kinds' schemas take as long as the database's tables.
    let kinds = tokio::task::spawn_blocking(kinds::registered);
    let (opened, kinds) = tokio::join!(database.open(), kinds);
    let (opened, kinds) = (opened?, kinds.context("the kinds cannot be made")??);
    let store = opened.store(kinds.tables(), settings, source);
    let ((store, keys), series) = tokio::try_join!(store, database.series())?;
    Ok(Kept { kinds, store, keys, series })
}

/// Makes a folder that nobody else can look into: the store holds Secrets.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    file::make_folder(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// What clients may call this server.
fn names_of(listen: SocketAddr, more: Vec<String>) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if !listen.ip().is_unspecified() {
        names.push(listen.ip().to_string());
    }
    names.extend(more);
    names.sort();
    names.dedup();
    names
}

/// The address for the kubeconfig: a server that listens on all addresses is reached at the loopback one.
fn server_url(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        format!("https://127.0.0.1:{}", listen.port())
    } else {
        format!("https://{listen}")
    }
}
