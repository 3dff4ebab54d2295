//! What only the leader serves: the agents' gateway and everything that asks it. The other servers lead requests for it
//! to the leader, so that agents and people may come to any of them.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use apiserver::auth::{AUTHENTICATED, ClientCertificate};
use apiserver::clock::Clock;
use apiserver::{Identity, pki};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, Uri, header};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::ServiceExt;

use super::streams::ThroughTheGateway;

/// Where these requests go.
const PATHS: [&str; 2] = ["/api/paas/", "/api/internal/paas/"];
/// What an instance's Pod has that only its node can answer.
const STREAMS: [&str; 4] = ["log", "exec", "attach", "portforward"];
/// Marks a request that was led here: it is never led on, whatever two servers think of each other.
const LED: &str = "berth-led-by";
/// How long connecting to the leader may take: it is on the same network.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// The way to what the leader serves. Clones are the same.
#[derive(Clone)]
pub(crate) struct Office(Arc<Inner>);

struct Inner {
    /// What is served here, while this server leads.
    routes: RwLock<Option<Router>>,
    leader: watch::Receiver<Option<String>>,
    streams: Arc<ThroughTheGateway>,
    /// For callers without a certificate: with one for all, later connections are resumed.
    tls: TlsConnector,
    /// The authority by which the leader is recognised, and by which it recognises callers.
    roots: Arc<RootCertStore>,
    /// The authority's folder.
    pki: PathBuf,
    clock: Clock,
}

impl Office {
    /// `leader` is where the leader is reached; `pki` is the folder of the authority that all servers share, `ca_pem` its
    /// certificate.
    pub(crate) fn new(
        leader: watch::Receiver<Option<String>>,
        pki: PathBuf,
        ca_pem: &str,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).context("the authority's certificate")?)?;
        let roots = Arc::new(roots);
        let config = rustls::ClientConfig::builder().with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self(Arc::new(Inner { routes: RwLock::default(), leader, streams: Arc::default(), tls, roots, pki, clock })))
    }

    /// Serves these from now on, or nothing.
    pub(crate) fn occupy(&self, routes: Option<Router>) {
        *self.0.routes.write().unwrap_or_else(PoisonError::into_inner) = routes;
    }

    /// The way to the programs on nodes, while this server leads.
    pub(crate) fn streams(&self) -> Arc<ThroughTheGateway> {
        Arc::clone(&self.0.streams)
    }

    /// Puts itself before a server's own routes.
    pub(crate) fn before(&self, routes: Router) -> Router {
        // As a fallback, so that a request comes here before a route has left the parts of its path on it: those would be
        // counted among the parts of the route that it is led to.
        let own = Router::new().fallback_service(routes);
        own.layer(axum::middleware::from_fn_with_state(self.clone(), direct))
    }

    fn routes(&self) -> Option<Router> {
        self.0.routes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// TLS to the leader, as whom the caller's certificate names. That one stays with its connection: the authority makes
    /// another one for the same name, whose key is nowhere but here.
    fn tls(&self, shown: Option<&ClientCertificate>) -> anyhow::Result<TlsConnector> {
        let Some(ClientCertificate { identity, .. }) = shown.filter(|shown| shown.is_valid_at(self.0.clock.now()))
        else {
            return Ok(self.0.tls.clone());
        };
        let issued = pki::client::issue(&self.0.pki, &identity.user, organisations(identity).next(), 1, &self.0.clock)?;
        let chain = vec![CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes())?;
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(Arc::clone(&self.0.roots))
            .with_client_auth_cert(chain, key)?;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    /// Asks the leader, and joins the two connections if it becomes one of another protocol.
    async fn lead(&self, mut request: Request) -> anyhow::Result<Response> {
        let shown = request.extensions().get::<ClientCertificate>();
        if shown.is_some_and(|shown| organisations(&shown.identity).count() > 1) {
            return Ok(refuse_several_organisations());
        }
        let tls = self.tls(shown)?;
        let leader = self.0.leader.borrow().clone().context("no server leads at the moment")?;
        let leader: Uri = leader.parse().context("the leader's address")?;
        let host = leader.host().context("the leader's address has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = leader.port_u16().unwrap_or(443);
        let connecting = async {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            let stream = tls.connect(ServerName::try_from(host.clone())?, stream).await?;
            anyhow::Ok(http1::handshake(TokioIo::new(stream)).await?)
        };
        let (mut sender, connection) =
            timeout(CONNECT_MAX, connecting).await.context("the leader does not answer")??;
        apiserver::task::spawn("led", async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to the leader ended");
            }
        });
        let below = request.extensions_mut().remove::<OnUpgrade>();
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse::<Uri>()?;
        *request.uri_mut() = path;
        *request.version_mut() = http::Version::HTTP_11;
        let authority = leader.authority().context("the leader's address")?.as_str();
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(authority)?);
        request.headers_mut().insert(LED, HeaderValue::from_static("berth"));
        let mut response = sender.send_request(request).await?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(below) = below
        {
            let above = hyper::upgrade::on(&mut response);
            apiserver::task::spawn("led-upgrade", async move {
                let (Ok(below), Ok(above)) = tokio::join!(below, above) else { return };
                let (mut below, mut above) = (TokioIo::new(below), TokioIo::new(above));
                if let Err(error) = tokio::io::copy_bidirectional(&mut below, &mut above).await {
                    tracing::debug!(%error, "a led connection ended");
                }
            });
        }
        Ok(response.map(Body::new))
    }
}

/// Serves what the leader serves, here or by asking it; everything else is the server's own.
async fn direct(State(office): State<Office>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // Signing in works on every server.
    let own = PATHS.iter().any(|start| path.starts_with(start)) && !path.starts_with(apiserver::accounts::PATHS);
    if !own && !asks_a_node(path) {
        return next.run(request).await;
    }
    match office.routes() {
        Some(routes) if own => routes.oneshot(request).await.into_response(),
        Some(_) => next.run(request).await,
        None if request.headers().contains_key(LED) => unavailable("this server does not lead any more"),
        None => match office.lead(request).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "the leader could not be asked");
                unavailable("no server leads at the moment; one will within seconds")
            }
        },
    }
}

/// The groups that a certificate itself says.
fn organisations(identity: &Identity) -> impl Iterator<Item = &str> {
    identity.groups.iter().map(String::as_str).filter(|group| *group != AUTHENTICATED)
}

/// The library makes certificates of one organisation only, and half of somebody's groups would be somebody else.
fn refuse_several_organisations() -> Response {
    let message = "a certificate with several organisations cannot be passed on to the server that leads: use a token, or ask \
        that server (the Lease berth-leader in berth-system says which)";
    apiserver::error::Error::bad_request(message).into_response()
}

/// Whether a path is one that only a node can answer, through the gateway.
fn asks_a_node(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match &*parts {
        ["api", "v1", "namespaces", _, "pods", _, stream] => STREAMS.contains(stream),
        ["apis", "metrics.k8s.io", ..] => true,
        _ => false,
    }
}

fn unavailable(message: &str) -> Response {
    apiserver::error::Error::unavailable(message).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_leader_serves_sees_its_own_path_only_and_all_else_stays() {
        use axum::extract::Path;
        use axum::routing::any;

        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let pki = pki::load_or_create(folder.path(), &[], &clock).unwrap();
        let (leader, led) = watch::channel(None);
        let office = Office::new(led, folder.path().to_owned(), &pki.ca_pem, clock).unwrap();
        let own =
            Router::new().route("/api/{*path}", any(|Path(path): Path<String>| async move { format!("own {path}") }));
        let routes = office.before(own);
        let ask = async |path: &str| {
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            let status = response.status();
            let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let (status, _) = ask("/api/paas/nodes/a").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "nobody leads");
        assert_eq!(ask("/api/v1/nodes").await, (StatusCode::OK, "own v1/nodes".to_owned()));
        assert_eq!(ask("/api/paas/v1/sessions").await, (StatusCode::OK, "own paas/v1/sessions".to_owned()));
        let node = any(|Path(name): Path<String>| async move { format!("the node {name}") });
        office.occupy(Some(Router::new().route("/api/paas/nodes/{name}", node)));
        assert_eq!(ask("/api/paas/nodes/a").await, (StatusCode::OK, "the node a".to_owned()));
        office.occupy(None);
        // Nobody listens there.
        leader.send_replace(Some("https://127.0.0.1:1".to_owned()));
        assert_eq!(ask("/api/paas/nodes/a").await.0, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn what_asks_a_node_goes_to_the_leader() {
        for path in [
            "/api/v1/namespaces/a/pods/x/log",
            "/api/v1/namespaces/a/pods/x/exec",
            "/apis/metrics.k8s.io/v1beta1/nodes",
        ] {
            assert!(asks_a_node(path), "{path}");
        }
        for path in
            ["/api/v1/namespaces/a/pods/x", "/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/configmaps/x/log", "/"]
        {
            assert!(!asks_a_node(path), "{path}");
        }
    }
}
