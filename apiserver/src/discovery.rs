//! The discovery documents: which groups, versions and resources there are. Documents only; routing is elsewhere.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::definitions;
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

impl Aggregated {
    fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }

    /// The content type of the answer: the parameters the client asked with.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }
}

/// What can be done with what only the server writes.
const READ_VERBS: [&str; 3] = ["get", "list", "watch"];
/// What can be done with a subresource.
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

/// The ways into running programs, with the bodies that Kubernetes names for them.
fn streams(kind: &Kind) -> impl Iterator<Item = Subresource> + '_ {
    let rows: [(&str, &str, &[&str]); 4] = [
        ("attach", "AttachOptions", &["create", "get"]),
        ("exec", "ExecOptions", &["create", "get"]),
        ("log", "", &["get"]),
        ("portforward", "PortForwardOptions", &["create", "get"]),
    ];
    rows.into_iter().map(|(name, options, verbs)| Subresource {
        name: name.to_owned(),
        group: kind.group.clone(),
        version: kind.version.clone(),
        kind: format!("{}{options}", kind.kind),
        verbs: strings(verbs),
    })
}

impl Resource {
    /// The row of a kind.
    pub fn of(kind: &Kind) -> Self {
        let mut subresources = Vec::new();
        if kind.scale.is_some() {
            subresources.push(Subresource {
                name: "scale".to_owned(),
                group: "autoscaling".to_owned(),
                version: "v1".to_owned(),
                kind: "Scale".to_owned(),
                verbs: strings(&SUBRESOURCE_VERBS),
            });
        }
        if kind.status {
            subresources.push(Subresource {
                name: "status".to_owned(),
                group: kind.group.clone(),
                version: kind.version.clone(),
                kind: kind.kind.clone(),
                verbs: strings(&SUBRESOURCE_VERBS),
            });
        }
        if kind.streams {
            subresources.extend(streams(kind));
        }
        Self {
            group: kind.group.clone(),
            version: kind.version.clone(),
            kind: kind.kind.clone(),
            plural: kind.plural.clone(),
            singular: kind.singular.clone(),
            scope: kind.scope,
            verbs: if definitions::is_definition(kind) { strings(&READ_VERBS) } else { strings(kind.verbs()) },
            short_names: kind.short_names.clone(),
            categories: kind.categories.clone(),
            subresources,
        }
    }

    /// The row of something that can only be created and is never stored, as reviews are.
    pub fn review(group: &str, version: &str, kind: &str, plural: &str, scope: Scope) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            scope,
            verbs: strings(&["create"]),
            short_names: Vec::new(),
            categories: Vec::new(),
            subresources: Vec::new(),
        }
    }

    fn legacy(&self) -> Vec<Value> {
        let namespaced = self.scope == Scope::Namespaced;
        let mut row = json!({
            "name": self.plural,
            "singularName": self.singular,
            "namespaced": namespaced,
            "kind": self.kind,
            "verbs": self.verbs,
        });
        if !self.short_names.is_empty() {
            row["shortNames"] = json!(self.short_names);
        }
        if !self.categories.is_empty() {
            row["categories"] = json!(self.categories);
        }
        let mut rows = vec![row];
        for sub in &self.subresources {
            let mut row = json!({
                "name": format!("{}/{}", self.plural, sub.name),
                "singularName": "",
                "namespaced": namespaced,
                "kind": sub.kind,
                "verbs": sub.verbs,
            });
            if (&sub.group, &sub.version) != (&self.group, &self.version) {
                row["group"] = json!(sub.group);
                row["version"] = json!(sub.version);
            }
            rows.push(row);
        }
        rows
    }

    fn aggregated(&self) -> Value {
        let mut row = json!({
            "resource": self.plural,
            "responseKind": {"group": self.group, "version": self.version, "kind": self.kind},
            "scope": if self.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": self.singular,
            "verbs": self.verbs,
        });
        if !self.short_names.is_empty() {
            row["shortNames"] = json!(self.short_names);
        }
        if !self.categories.is_empty() {
            row["categories"] = json!(self.categories);
        }
        if !self.subresources.is_empty() {
            let subs = self.subresources.iter().map(|sub| {
                json!({
                    "subresource": sub.name,
                    "responseKind": {"group": sub.group, "version": sub.version, "kind": sub.kind},
                    "verbs": sub.verbs,
                })
            });
            row["subresources"] = subs.collect();
        }
        row
    }
}

/// All discovery documents of one set of resources.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    resources: Vec<Resource>,
}

impl Discovery {
    /// The documents of `kinds`.
    pub fn new<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Self {
        Self { resources: kinds.into_iter().map(Resource::of).collect() }
    }

    /// Adds a row that is no kind.
    pub fn push(&mut self, resource: Resource) {
        self.resources.push(resource);
    }

    /// Adds a subresource that the description of a kind does not tell; nothing if there is no such resource.
    pub fn add_part(&mut self, group: &str, version: &str, plural: &str, part: Subresource) {
        let is_it = |row: &&mut Resource| row.group == group && row.version == version && row.plural == plural;
        if let Some(row) = self.resources.iter_mut().find(is_it) {
            row.subresources.push(part);
        }
    }

    /// `/api`
    pub fn core_versions(&self) -> Value {
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    }

    /// `/apis`
    pub fn groups(&self) -> Value {
        let groups = self.versions().into_keys().filter(|group| !group.is_empty());
        let groups: Vec<Value> = groups.filter_map(|group| self.group_entry(group)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/{group}`
    pub fn group(&self, group: &str) -> Option<Value> {
        let mut entry = self.group_entry(group).filter(|_| !group.is_empty())?;
        entry["kind"] = json!("APIGroup");
        entry["apiVersion"] = json!("v1");
        Some(entry)
    }

    /// `/apis/{group}/{version}`, or `/api/{version}` with an empty group.
    pub fn resources(&self, group: &str, version: &str) -> Option<Value> {
        let rows: Vec<Value> = self
            .resources
            .iter()
            .filter(|r| r.group == group && r.version == version)
            .flat_map(Resource::legacy)
            .collect();
        if rows.is_empty() {
            return None;
        }
        let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": rows}))
    }

    /// `/api` in the aggregated form.
    pub fn aggregated_core(&self, form: Aggregated) -> Value {
        self.aggregated(form, true)
    }

    /// `/apis` in the aggregated form.
    pub fn aggregated_groups(&self, form: Aggregated) -> Value {
        self.aggregated(form, false)
    }

    /// Versions by group, in the order they were registered.
    fn versions(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for resource in &self.resources {
            let versions = groups.entry(&resource.group).or_default();
            if !versions.contains(&resource.version.as_str()) {
                versions.push(&resource.version);
            }
        }
        groups
    }

    fn group_entry(&self, group: &str) -> Option<Value> {
        let versions = self.versions().remove(group)?;
        let entry = |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
        let versions: Vec<Value> = versions.iter().map(entry).collect();
        Some(json!({"name": group, "preferredVersion": versions[0], "versions": versions}))
    }

    fn aggregated(&self, form: Aggregated, core: bool) -> Value {
        let groups = self.versions().into_iter().filter(|(group, _)| group.is_empty() == core);
        let items = groups.map(|(group, versions)| {
            let versions = versions.into_iter().map(|version| {
                let rows = self.resources.iter().filter(|r| r.group == group && r.version == version);
                json!({"version": version, "freshness": "Current", "resources": rows.map(Resource::aggregated).collect::<Vec<_>>()})
            });
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
        });
        json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": form.api_version(),
            "metadata": {},
            "items": items.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests;
