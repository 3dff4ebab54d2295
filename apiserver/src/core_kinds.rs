//! The few kinds of Kubernetes itself that Berth serves.

use crate::kind::Kind;

/// Namespace, Secret, ConfigMap, Event (both faces) and Lease.
pub fn all() -> Vec<Kind> {
    Vec::new()
}
