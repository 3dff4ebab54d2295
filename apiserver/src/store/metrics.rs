//! What the store counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// The store's metrics. They are registered where the caller wants them; a second store in one registry counts for
/// itself and is not shown.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) commits: IntCounterVec,
    pub(super) writes: IntCounterVec,
    pub(super) batch_size: Histogram,
    pub(super) commit_seconds: Histogram,
    pub(super) objects: IntGaugeVec,
    pub(super) ring_events: IntGaugeVec,
    pub(super) watchers: IntGauge,
    pub(super) evictions: IntCounter,
    pub(super) revision: IntGauge,
    pub(super) compacted: IntGauge,
    pub(super) log_bytes: IntGauge,
    pub(super) audit_lost: IntCounter,
}

impl Metrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            commits: IntCounterVec::new(
                Opts::new("apiserver_store_commits_total", "Transactions, by result"),
                &["result"],
            )?,
            writes: IntCounterVec::new(
                Opts::new("apiserver_store_writes_total", "Writes asked for, by table and result"),
                &["table", "result"],
            )?,
            batch_size: Histogram::with_opts(
                HistogramOpts::new("apiserver_store_batch_size", "Writes in one transaction")
                    .buckets(vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            )?,
            commit_seconds: Histogram::with_opts(
                HistogramOpts::new("apiserver_store_commit_seconds", "Time of one transaction until it is durable")
                    .buckets(vec![0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0]),
            )?,
            objects: IntGaugeVec::new(Opts::new("apiserver_store_objects", "Objects, by table"), &["table"])?,
            ring_events: IntGaugeVec::new(
                Opts::new("apiserver_store_ring_events", "Recent changes kept for watchers, by table"),
                &["table"],
            )?,
            watchers: IntGauge::new("apiserver_store_watchers", "Watchers")?,
            evictions: IntCounter::new(
                "apiserver_store_ring_evictions_total",
                "Watchers that were too slow and have to list again",
            )?,
            revision: IntGauge::new("apiserver_store_revision", "The last committed revision")?,
            compacted: IntGauge::new("apiserver_store_compacted_revision", "The log has the changes after it")?,
            log_bytes: IntGauge::new("apiserver_store_log_bytes", "States before changes in the log, without sealing")?,
            audit_lost: IntCounter::new(
                "apiserver_audit_lost_total",
                "Refused requests that are not in the audit log because there were too many at once",
            )?,
        };
        let all: [Box<dyn prometheus::core::Collector>; 12] = [
            Box::new(metrics.commits.clone()),
            Box::new(metrics.writes.clone()),
            Box::new(metrics.batch_size.clone()),
            Box::new(metrics.commit_seconds.clone()),
            Box::new(metrics.objects.clone()),
            Box::new(metrics.ring_events.clone()),
            Box::new(metrics.watchers.clone()),
            Box::new(metrics.evictions.clone()),
            Box::new(metrics.revision.clone()),
            Box::new(metrics.compacted.clone()),
            Box::new(metrics.log_bytes.clone()),
            Box::new(metrics.audit_lost.clone()),
        ];
        for collector in all {
            match registry.register(collector) {
                Ok(()) | Err(prometheus::Error::AlreadyReg) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(metrics)
    }
}
