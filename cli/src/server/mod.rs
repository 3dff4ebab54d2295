//! `berth server`: store, API, reconcilers and the agents' gateway in one process.

mod admin;
mod kinds;
mod logging;
mod parts;
mod roles;
pub(crate) mod user;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use apiserver::clock::Clock;
use apiserver::store::{Settings, Sqlite, Store};
use apiserver::{Server, pki};
use tokio::net::TcpListener;

use crate::args;
use crate::failure::{Exit, fail};
use crate::signals;

pub(crate) use logging::start as start_logging;

pub(crate) async fn run(options: args::Server) -> anyhow::Result<()> {
    let args::Server { data, listen, database_url, platform_domain, http_port, host, source_network, log } = options;
    start_logging(&log)?;
    if !crds::names::is_host(&platform_domain) {
        return Err(fail(
            Exit::Usage,
            format!("--platform-domain {platform_domain:?} is no domain such as apps.example.com"),
        ));
    }
    private_folder(&data).with_context(|| format!("cannot make {} a folder of this user alone", data.display()))?;
    let shutdown = signals::shutdown()?;
    let clock = Clock::system();
    let registry = prometheus::Registry::new();

    let kinds = kinds::registered()?;
    let file = database_file(database_url.as_deref(), &data)?;
    let settings = Settings { clock: clock.clone(), registry: registry.clone(), ..Settings::default() };
    let store =
        Store::open(Sqlite::open(&file).await?, kinds.tables(), settings).await.context("cannot open the store")?;
    let pki = pki::load_or_create(&data.join("pki"), &names_of(listen, host), &clock).context("cannot prepare TLS")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let listen = listener.local_addr()?;

    let settings = parts::Settings { platform_domain, http_port, source_networks: source_network };
    let ready = parts::Readiness::default();
    let server = Server::builder(store.clone(), kinds, clock.clone(), registry.clone())
        .shutdown(shutdown.clone())
        .readiness("controllers", ready.check())
        .roles(roles::all())
        .ca(pki.ca_pem.as_str())
        .build()
        .context("cannot put the server together")?;
    admin::write_kubeconfig(&data, &server_url(listen), &pki.ca_pem, &store.tokens()).await?;

    let running = server.clone();
    let upkeep = apiserver::task::spawn("upkeep", async move { running.run().await });
    let parts = parts::start(&server, &data, &pki, settings, &ready, &registry, &shutdown).await?;
    tracing::info!(address = %listen, "the API is served");
    let served =
        apiserver::serve(listener, pki.server_config()?, server.router().merge(parts.routes), shutdown.clone()).await;
    // However serving ended, everything else ends with it.
    shutdown.cancel();
    parts.ended.await.context("the controller stopped badly")??;
    upkeep.await.context("the upkeep stopped badly")??;
    store.close().await.context("cannot close the store")?;
    tracing::info!("stopped");
    served.context("the listener failed")
}

/// Makes a folder that nobody else can look into: the store holds Secrets.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// The database's file, from the option or beside everything else.
fn database_file(url: Option<&str>, data: &Path) -> anyhow::Result<PathBuf> {
    match url {
        None => Ok(data.join("berth.sqlite")),
        Some(url) => match url.strip_prefix("sqlite:") {
            Some(path) if !path.trim_start_matches('/').is_empty() => {
                Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path)))
            }
            _ if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Err(fail(Exit::Usage, "--database-url: PostgreSQL is not supported by this version; use sqlite:PATH"))
            }
            // The rest of the address may hold a password.
            _ => Err(fail(Exit::Usage, "--database-url must be sqlite:PATH")),
        },
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases() {
        let file = |url| database_file(url, Path::new("/data")).ok();
        assert_eq!(file(None), Some(PathBuf::from("/data/berth.sqlite")));
        assert_eq!(file(Some("sqlite:/x/y.sqlite")), Some(PathBuf::from("/x/y.sqlite")));
        assert_eq!(file(Some("sqlite:///x/y.sqlite")), Some(PathBuf::from("/x/y.sqlite")));
        assert_eq!(file(Some("sqlite:")), None);
        let error = database_file(Some("mysql://me:hunter2@host/db"), Path::new("/data")).unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
