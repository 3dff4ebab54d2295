//! The discovery documents: which groups, versions and resources there are. Documents only; routing is elsewhere.

use serde_json::{Value, json};

use crate::kind::{Kind, Scope};

/// One row of discovery. Kinds bring their own; what is served without being a kind (reviews) is added by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind of the bodies.
    pub kind: String,
    /// The name in URLs.
    pub plural: String,
    /// The name of one.
    pub singular: String,
    /// Cluster or namespaced.
    pub scope: Scope,
    /// For example `get`, `list`.
    pub verbs: Vec<String>,
    /// For example `app`.
    pub short_names: Vec<String>,
    /// For example `berth`.
    pub categories: Vec<String>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
}

/// One subresource of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// For example `status`.
    pub name: String,
    /// Group of its bodies' kind.
    pub group: String,
    /// Version of its bodies' kind.
    pub version: String,
    /// Its bodies' kind, for example `Scale`.
    pub kind: String,
    /// For example `get`, `patch`, `update`.
    pub verbs: Vec<String>,
}

/// Which form of aggregated discovery a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    /// `apidiscovery.k8s.io/v2`
    V2,
    /// `apidiscovery.k8s.io/v2beta1`, the only one clients before 1.30 know.
    V2Beta1,
}

/// All discovery documents of one set of resources.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    resources: Vec<Resource>,
}

impl Discovery {
    /// The documents of `kinds`.
    pub fn new(kinds: &[Kind]) -> Self {
        let _ = kinds;
        Self::default()
    }

    /// Adds a row that is no kind.
    pub fn push(&mut self, resource: Resource) {
        self.resources.push(resource);
    }

    /// `/api`
    pub fn core_versions(&self) -> Value {
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    }

    /// `/apis`
    pub fn groups(&self) -> Value {
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
    }

    /// `/apis/{group}`
    pub fn group(&self, group: &str) -> Option<Value> {
        let _ = group;
        None
    }

    /// `/apis/{group}/{version}`, or `/api/{version}` with an empty group.
    pub fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let _ = (group, version);
        None
    }

    /// `/api` in the aggregated form.
    pub fn aggregated_core(&self, form: Aggregated) -> Value {
        let _ = form;
        json!({})
    }

    /// `/apis` in the aggregated form.
    pub fn aggregated_groups(&self, form: Aggregated) -> Value {
        let _ = form;
        json!({})
    }
}
