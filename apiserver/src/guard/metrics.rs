//! What the guard counts, under Kubernetes' names where it has them.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) rejected: IntCounterVec,
    pub(super) evicted: IntCounter,
    reading: IntGauge,
    writing: IntGauge,
}

/// Counts a request while it lives.
pub(crate) struct Counted(IntGauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let rejected = IntCounterVec::new(
            Opts::new("apiserver_flowcontrol_rejected_requests_total", "Requests that were answered with 429"),
            &["reason"],
        )?;
        let evicted = IntCounter::new(
            "apiserver_slow_readers_evicted_total",
            "Responses that were given up because the client did not read on",
        )?;
        let inflight = IntGaugeVec::new(
            Opts::new("apiserver_current_inflight_requests", "Requests from the network that are being worked on"),
            &["request_kind"],
        )?;
        registry.register(Box::new(rejected.clone()))?;
        registry.register(Box::new(evicted.clone()))?;
        registry.register(Box::new(inflight.clone()))?;
        let reading = inflight.with_label_values(&["readOnly"]);
        let writing = inflight.with_label_values(&["mutating"]);
        Ok(Self { rejected, evicted, reading, writing })
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn count(&self, writes: bool) -> Counted {
        let gauge = if writes { &self.writing } else { &self.reading };
        gauge.inc();
        Counted(gauge.clone())
    }
}
