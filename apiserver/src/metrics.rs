//! What the server counts about itself, under Kubernetes' names so that existing dashboards work.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// The server's metrics. Labels are bounded by the verbs, the registered kinds and the status codes.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: IntCounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) watches: IntGaugeVec,
    pub(crate) panics: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("apiserver_request_total", "Requests by verb, resource and status code"),
            &["verb", "resource", "code"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("apiserver_request_duration_seconds", "Time until a response begins")
                .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0]),
            &["verb"],
        )?;
        let watches =
            IntGaugeVec::new(Opts::new("apiserver_longrunning_requests", "Watches that are open"), &["resource"])?;
        let panics = IntCounter::new("apiserver_panics_total", "Requests that ended in a panic")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(watches.clone()))?;
        registry.register(Box::new(panics.clone()))?;
        Ok(Self { registry, requests, seconds, watches, panics })
    }

    /// All metrics of the registry, those of other crates too, in the text format.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
