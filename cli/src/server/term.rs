//! What the leader does beside serving the API: reconcilers, gateway, garbage collection. A single server leads all the
//! time; one of several for a term, and perhaps for another one later.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use apiserver::Server;
use apiserver::pki::Pki;
use apiserver::store::Store;
use controller::series::Series;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::office::Office;
use super::parts::{self, Readiness, Settings};

/// What a term needs.
#[derive(Clone)]
pub(crate) struct Work(Arc<Inner>);

struct Inner {
    server: Server,
    store: Store,
    series: Series,
    pki: Pki,
    settings: Settings,
    ready: Readiness,
    office: Office,
    metrics: TermMetrics,
}

impl Work {
    pub(crate) fn new(
        server: Server,
        store: Store,
        series: Series,
        pki: Pki,
        settings: Settings,
        ready: Readiness,
        office: Office,
        registry: &Registry,
    ) -> anyhow::Result<Self> {
        let metrics = TermMetrics::default();
        registry.register(Box::new(metrics.clone())).context("the term's metrics")?;
        // Nobody's until a term begins.
        store.set_upkeep(false);
        Ok(Self(Arc::new(Inner { server, store, series, pki, settings, ready, office, metrics })))
    }

    /// Begins a term, which lasts until `term` is cancelled. It ends when everything in progress is finished.
    pub(crate) fn begin(&self, term: CancellationToken) -> JoinHandle<anyhow::Result<()>> {
        let work = self.clone();
        apiserver::task::spawn("term", async move {
            // However it ends, all of it does.
            let end = term.clone().drop_guard();
            work.0.store.set_upkeep(true);
            let result = work.perform(&term).await;
            work.0.store.set_upkeep(false);
            work.0.office.occupy(None);
            work.0.office.streams().lead_to(None);
            drop(end);
            result
        })
    }

    async fn perform(&self, term: &CancellationToken) -> anyhow::Result<()> {
        let Inner { server, series, pki, settings, ready, office, metrics, .. } = &*self.0;
        let (running, until) = (server.clone(), term.clone());
        let upkeep = apiserver::task::spawn("upkeep", async move {
            // Whatever it was about to do, the next term's upkeep finds undone.
            until.run_until_cancelled(running.run()).await.unwrap_or(Ok(()))
        });
        let registry = metrics.renew();
        let parts = parts::start(server, series.clone(), pki, settings.clone(), ready, &registry, term).await?;
        office.streams().lead_to(Some(parts.gateway));
        office.occupy(Some(parts.routes));
        parts.ended.await.context("the controller stopped badly")??;
        term.cancel();
        upkeep.await.context("the upkeep stopped badly")?.context("the upkeep failed")
    }
}

/// The metrics of the present term, or the last one, among the server's own.
#[derive(Clone, Default)]
struct TermMetrics(Arc<RwLock<Registry>>);

impl TermMetrics {
    /// Forgets the last term's.
    fn renew(&self) -> Registry {
        let registry = Registry::new();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = registry.clone();
        registry
    }
}

impl Collector for TermMetrics {
    /// None are known beforehand.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).gather()
    }
}
