//! What the leader does beside serving the API: reconcilers, gateway, garbage collection. A single server leads all the
//! time; one of several for a term, and perhaps for another one later.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use apiserver::Server;
use apiserver::pki::Pki;
use apiserver::store::Store;
use controller::series::Series;
use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::office::Office;
use super::parts::{self, Readiness, Settings};

/// The pause before a term that ended by itself is followed by another one: what failed is often a database that is busy.
const PAUSE: Duration = Duration::from_secs(5);

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
            work.leave();
            drop(end);
            result
        })
    }

    /// Begins term after term until the shutdown: for a server that has the store to itself.
    pub(crate) async fn lead(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        loop {
            let ended = self.begin(shutdown.child_token()).await.context("the term stopped badly").flatten();
            if shutdown.is_cancelled() {
                return ended;
            }
            let error = ended.err().map(|error| format!("{error:#}"));
            tracing::error!(error, "reconcilers and upkeep have ended by themselves, and are begun again");
            shutdown.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    /// Gives up what only a leader does for others.
    fn leave(&self) {
        self.0.store.set_upkeep(false);
        self.0.office.occupy(None);
        self.0.office.streams().lead_to(None);
    }

    async fn perform(&self, term: &CancellationToken) -> anyhow::Result<()> {
        let Inner { server, series, pki, settings, ready, office, metrics, .. } = &*self.0;
        let (running, until) = (server.clone(), term.clone());
        let upkeep = apiserver::task::spawn("upkeep", async move {
            // Whatever it was about to do, the next term's upkeep finds undone.
            let ended = until.run_until_cancelled(running.run()).await;
            ended.unwrap_or(Ok(())).map_err(anyhow::Error::from)
        });
        let registry = metrics.renew();
        let parts = parts::start(server, series.clone(), pki, settings.clone(), ready, &registry, term).await?;
        office.streams().lead_to(Some(parts.gateway));
        office.occupy(Some(parts.routes));
        let leaving = async {
            term.cancelled().await;
            self.leave();
        };
        let (result, ()) = tokio::join!(ended(term, upkeep, parts.ended), leaving);
        result
    }
}

/// Waits until both have ended. When one does, the term ends, and with it the other: half of the work would be worse than
/// none, which is noticed.
async fn ended(
    term: &CancellationToken,
    upkeep: JoinHandle<anyhow::Result<()>>,
    controller: JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let each = async |what: &'static str, work: JoinHandle<anyhow::Result<()>>| {
        let result = work.await;
        term.cancel();
        result.with_context(|| format!("the {what} stopped badly"))?.with_context(|| format!("the {what} failed"))
    };
    let (upkeep, controller) = tokio::join!(each("upkeep", upkeep), each("controller", controller));
    upkeep.and(controller)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing takes this long; it only ends a test that hangs.
    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future).await.expect("it ends")
    }

    #[tokio::test]
    async fn a_term_ends_with_whatever_of_it_ends_first_and_says_why() {
        let good = |term: &CancellationToken| {
            let term = term.clone();
            apiserver::task::spawn("good", async move {
                term.cancelled().await;
                Ok(())
            })
        };
        let term = CancellationToken::new();
        let failing = apiserver::task::spawn("failing", async { anyhow::bail!("no namespaces") });
        let error = within(ended(&term, failing, good(&term))).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "the upkeep failed: no namespaces");
        let term = CancellationToken::new();
        let panicking = apiserver::task::spawn("panicking", async { std::panic::panic_any(()) });
        let error = within(ended(&term, good(&term), panicking)).await.unwrap_err();
        assert_eq!(error.to_string(), "the controller stopped badly");
        let term = CancellationToken::new();
        let (upkeep, controller) = (good(&term), good(&term));
        term.cancel();
        within(ended(&term, upkeep, controller)).await.unwrap();
    }
}
