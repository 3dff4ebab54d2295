//! What the controller counts. Labels are kinds and fixed words, so there is a bounded number of series.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// The controller's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    /// Reconciliations by kind and result.
    pub(crate) reconciles: IntCounterVec,
    /// How long one takes, by kind.
    pub(crate) seconds: HistogramVec,
    /// Steps taken, by kind.
    pub(crate) steps: IntCounterVec,
    /// Instances placed.
    pub(crate) placed: IntCounter,
    /// Events that were dropped because they came faster than they could be stored.
    pub(crate) events_dropped: IntCounter,
}

impl Metrics {
    /// Makes the metrics and registers them. Fails if their names are taken.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let buckets = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0];
        let options =
            HistogramOpts::new("berth_reconcile_seconds", "How long a reconciliation takes.").buckets(buckets);
        let seconds = HistogramVec::new(options, &["kind"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self {
            reconciles: counters("berth_reconciles_total", "Reconciliations by kind and result.", &["kind", "result"])?,
            steps: counters("berth_reconcile_steps_total", "Steps taken by kind.", &["kind"])?,
            placed: counter("berth_instances_placed_total", "Instances that were given a node.")?,
            events_dropped: counter("berth_events_dropped_total", "Events that could not be stored in time.")?,
            seconds,
        })
    }
}
