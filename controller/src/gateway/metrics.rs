//! What the gateway counts.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The gateway's numbers. Every label has a handful of values.
#[derive(Clone)]
pub struct Metrics {
    connected: IntGauge,
    pushes: IntCounterVec,
    observations: IntCounter,
    written: IntCounterVec,
    refused: IntCounterVec,
    log_bytes: IntCounterVec,
}

impl Metrics {
    /// Numbers that nobody reads yet.
    pub(super) fn new() -> Self {
        let vec = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("the names are constant and valid")
        };
        Self {
            connected: IntGauge::new("berth_gateway_connected_nodes", "Agents with a WebSocket.")
                .expect("the name is constant and valid"),
            pushes: vec("berth_gateway_pushes_total", "Assignments sent, by what: whole or change.", "what"),
            observations: IntCounter::new("berth_gateway_observations_total", "Observations received.")
                .expect("the name is constant and valid"),
            written: vec("berth_gateway_status_writes_total", "Status changes written, by kind.", "kind"),
            refused: vec("berth_gateway_refused_total", "What agents were not let do, by reason.", "reason"),
            log_bytes: vec("berth_gateway_log_bytes_total", "Log bytes, by what became of them.", "what"),
        }
    }

    /// Has them read with a registry's.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.connected.clone()))?;
        registry.register(Box::new(self.pushes.clone()))?;
        registry.register(Box::new(self.observations.clone()))?;
        registry.register(Box::new(self.written.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.log_bytes.clone()))
    }

    pub(super) fn connected(&self, nodes: usize) {
        self.connected.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }

    pub(super) fn pushed(&self, whole: bool) {
        self.pushes.with_label_values(&[if whole { "whole" } else { "change" }]).inc();
    }

    pub(super) fn observed(&self) {
        self.observations.inc();
    }

    pub(super) fn written(&self, kind: &str) {
        self.written.with_label_values(&[kind]).inc();
    }

    pub(super) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(super) fn log_bytes(&self, what: &str, bytes: u64) {
        self.log_bytes.with_label_values(&[what]).inc_by(bytes);
    }
}
