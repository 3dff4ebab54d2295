//! `coordination.k8s.io/v1 Lease`: who of several is the leader, and until when.

use serde_json::json;

use super::{age, base, column};
use crate::kind::{Kind, Scope};

/// The kind.
pub fn lease() -> Kind {
    let schema = json!({
        "description": "Lease defines a lease concept.",
        "properties": {"spec": {
            "type": "object",
            "description": "The state of the lease.",
            "properties": {
                "holderIdentity": {"type": "string", "description": "Who holds the lease."},
                "leaseDurationSeconds": {"type": "integer", "format": "int32", "minimum": 1, "description": "How long after renewTime others wait before they take the lease."},
                "acquireTime": {"type": "string", "format": "date-time", "nullable": true, "description": "When the holder got the lease."},
                "renewTime": {"type": "string", "format": "date-time", "nullable": true, "description": "When the holder last renewed the lease."},
                "leaseTransitions": {"type": "integer", "format": "int32", "minimum": 0, "description": "How often the lease changed hands."},
                "strategy": {"type": "string", "description": "How a leader is picked."},
                "preferredHolder": {"type": "string", "description": "Who should take the lease over."},
            },
        }},
    });
    Kind {
        replace_names_revision: true,
        columns: vec![column("Holder", "string", ".spec.holderIdentity", 0, "Who holds the lease."), age()],
        decode_protobuf: Some(crate::protobuf::lease),
        ..base("coordination.k8s.io", "v1", "Lease", "leases", Scope::Namespaced, schema)
    }
}
