//! Where agents connect: what a node should run goes down, what it sees comes up.
//!
//! The pure parts are [`assign`] (what a node is to run), [`link`] (what it must be told, given what it has) and
//! [`report`] (which status fields its words become). A connection holds nothing that a restart needs: an agent says
//! what it has, and gets the difference or the whole.

pub mod assign;
mod connect;
pub mod error;
mod identity;
mod inbound;
pub mod index;
pub mod link;
mod metrics;
mod peer;
mod poll;
mod register;
pub mod report;
mod streams;
pub mod tokens;
mod writer;

pub use metrics::Metrics;
pub use streams::Pipe;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use kube::{Client, ResourceExt};
use node_protocol::FRAME_BYTES_MAX;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Controller;
use crate::clock::Clock;
use crate::hub::Hub;
use crate::series::Series;

use self::error::Refused;
use self::index::{Index, Objects};
use self::peer::Peer;
use self::register::Throttle;

/// Changes that come together are answered together. Two milliseconds are nothing beside a container's start.
const DEBOUNCE: Duration = Duration::from_millis(2);
/// How often logs of builds that are gone are cleared away.
const CLEAR_EVERY: Duration = Duration::from_mins(5);

/// The gateway; clones are the same one.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    hub: Arc<Hub>,
    series: Series,
    ca_pem: String,
    ca_sha256: String,
    metrics: Metrics,
    index: watch::Sender<Option<Arc<Index>>>,
    peers: Mutex<BTreeMap<String, Arc<Peer>>>,
    throttle: Throttle,
    joining: tokio::sync::Mutex<()>,
    stopping: CancellationToken,
}

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given as the platform's CA is no certificate in PEM.
    #[error("the CA is no certificate in PEM")]
    Ca,
    /// A metric of this name exists already.
    #[error("the gateway's metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

impl Gateway {
    /// A gateway beside a controller, whose world it shares. `ca_pem` is the certificate by which agents know the
    /// platform. It serves once [`Gateway::run`] runs.
    pub fn new(
        controller: &Controller,
        series: Series,
        ca_pem: &str,
        registry: &prometheus::Registry,
    ) -> Result<Self, Error> {
        let gateway = Self::beside(controller.hub(), series, ca_pem)?;
        gateway.0.metrics.register(registry)?;
        Ok(gateway)
    }

    fn beside(hub: Arc<Hub>, series: Series, ca_pem: &str) -> Result<Self, Error> {
        Ok(Self(Arc::new(Shared {
            hub,
            series,
            ca_sha256: fingerprint(ca_pem).ok_or(Error::Ca)?,
            ca_pem: ca_pem.to_owned(),
            metrics: Metrics::new(),
            index: watch::Sender::new(None),
            peers: Mutex::new(BTreeMap::new()),
            throttle: Throttle::new(),
            joining: tokio::sync::Mutex::new(()),
            stopping: CancellationToken::new(),
        })))
    }

    /// Keeps what agents are told up to date until `shutdown`, which closes all connections.
    pub async fn run(&self, shutdown: CancellationToken) {
        let world = Arc::clone(&self.hub().world);
        let mut changed = world.changed();
        let mut clear = tokio::time::interval(CLEAR_EVERY);
        clear.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            changed.borrow_and_update();
            let began = Instant::now();
            if let Some(objects) = Objects::of(&world) {
                let index = Index::new(objects, &self.hub().settings.platform_domain);
                self.0.index.send_replace(Some(Arc::new(index)));
                self.end_untrusted();
            }
            // A large world is arranged less often, so that this takes a fifth of a processor at most.
            let rest = DEBOUNCE.max(began.elapsed() * 4);
            let earliest = Instant::now() + rest;
            let more = loop {
                tokio::select! {
                    changed = changed.changed() => break changed.is_ok(),
                    _ = clear.tick() => self.clear_logs().await,
                    () = shutdown.cancelled() => break false,
                }
            };
            if !more {
                break;
            }
            tokio::time::sleep_until(earliest.max(Instant::now() + DEBOUNCE / 2)).await;
        }
        self.0.stopping.cancel();
        for peer in std::mem::take(&mut *self.peers()).into_values() {
            peer.ended().cancel();
        }
    }

    /// What agents ask, to be served beside the API on the same address.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api/internal/paas/ca", get(ca))
            .route("/api/internal/paas/nodes/register", post(register::register))
            .route("/api/internal/paas/nodes/{uid}/connect", get(connect::connect))
            .route("/api/internal/paas/nodes/{uid}/streams/{stream}", get(streams::accept))
            .route("/api/internal/paas/nodes/{uid}/assignment", get(poll::assignment))
            .route("/api/internal/paas/nodes/{uid}/observed", post(poll::observed))
            .layer(DefaultBodyLimit::max(FRAME_BYTES_MAX))
            .with_state(self.clone())
    }

    /// SHA-256 of the CA's certificate, as join tokens carry it.
    pub fn ca_sha256(&self) -> &str {
        &self.0.ca_sha256
    }

    /// The logs that are kept.
    pub fn series(&self) -> &Series {
        &self.0.series
    }

    /// The clock by which tokens and heartbeats are judged.
    pub fn clock(&self) -> &Clock {
        &self.0.hub.clock
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn client(&self) -> &Client {
        &self.0.hub.client
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    fn index(&self) -> Option<Arc<Index>> {
        self.0.index.borrow().clone()
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Peer>>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer that a request comes from, by its token.
    fn recognise(&self, uid: &str, headers: &HeaderMap) -> Result<Arc<Peer>, Refused> {
        if self.index().is_none() || self.stopping().is_cancelled() {
            return Err(Refused::unavailable("the gateway does not know the world yet"));
        }
        let denied = |error: identity::Error| {
            self.metrics().refused("identity");
            tracing::warn!(node = uid, reason = %error, "an agent was not recognised");
            Refused::unauthorized("the token does not prove that this is the node")
        };
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or_else(|| denied(identity::Error::Missing))?;
        let index = self.index();
        let node = index.as_ref().and_then(|index| index.node(uid)).map(|node| node.name_any());
        // One that has only just registered is in the world before it is in the index.
        let node = match node {
            Some(name) => self.hub().world.nodes.get(&crate::world::Key::cluster(name)),
            None => self.hub().world.nodes.all().into_iter().find(|node| node.uid().as_deref() == Some(uid)),
        };
        let node = node.filter(|node| node.uid().as_deref() == Some(uid));
        identity::verify(token, uid, node.as_deref(), self.clock().now()).map_err(denied)?;
        let node = node.ok_or_else(|| denied(identity::Error::Revoked))?;
        let key = node.spec.public_key.clone().unwrap_or_default();
        Ok(self.peer(uid, &node.name_any(), &key))
    }

    /// The peer of a node, made when it is first heard of.
    fn peer(&self, uid: &str, name: &str, key: &str) -> Arc<Peer> {
        let mut peers = self.peers();
        if let Some(peer) = peers.get(uid) {
            if peer.key() == key {
                return Arc::clone(peer);
            }
            peer.ended().cancel();
        }
        let peer = Arc::new(Peer::new(uid, name, key));
        peers.insert(uid.to_owned(), Arc::clone(&peer));
        let (hub, metrics, writer) = (Arc::clone(&self.0.hub), self.0.metrics.clone(), Arc::clone(&peer));
        // It ends with the peer, which ends with the node or the gateway.
        drop(crate::task::spawn("gateway-writer", async move {
            writer.writer().run(&hub, &metrics, writer.ended()).await;
        }));
        peer
    }

    /// Ends what belongs to nodes that are gone or have another key.
    fn end_untrusted(&self) {
        let peers: Vec<Arc<Peer>> = self.peers().values().map(Arc::clone).collect();
        for peer in peers {
            if self.still_trusted(&peer).is_none() {
                tracing::info!(node = peer.name(), "a node is gone or its key was revoked");
                peer.ended().cancel();
                self.peers().retain(|_, present| !Arc::ptr_eq(present, &peer));
            }
        }
    }

    fn note_connections(&self) {
        let connected = self.peers().values().filter(|peer| peer.is_connected()).count();
        self.metrics().connected(connected);
    }

    fn news(&self) -> News {
        News(self.0.index.subscribe())
    }

    async fn clear_logs(&self) {
        let cleared = self.series().clear_build_logs(|| {
            // Read after the logs were listed: a log that is younger than the index is not in the list.
            let index = self.index()?;
            Some(index.build_uids().map(str::to_owned).collect())
        });
        if let Err(error) = cleared.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "logs of builds that are gone cannot be cleared");
        }
    }
}

/// The index as it changes.
struct News(watch::Receiver<Option<Arc<Index>>>);

impl News {
    /// The newest index. Peers are recognised only once there is one.
    fn index(&mut self) -> Arc<Index> {
        self.0.borrow_and_update().clone().unwrap_or_default()
    }

    fn fingerprint(&mut self, node: &str) -> u64 {
        self.index().fingerprint(node)
    }

    /// Waits for another index; false when there will be none.
    async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

async fn ca(State(gateway): State<Gateway>) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/x-pem-file")], gateway.0.ca_pem.clone())
}

/// SHA-256 of the first certificate's DER.
fn fingerprint(pem: &str) -> Option<String> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let der = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
    Some(hex::encode(digest::digest(&digest::SHA256, &der)))
}
