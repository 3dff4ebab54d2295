//! What there is, from the server's discovery, and who may do what with it, from `tenants.policy`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::world::Person;

const POLICY: &str = include_str!("../tenants.policy");
const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Who has what, as `tenants.policy` says it.
pub(super) struct Policy {
    /// By `resource.group` or `resource.group/part`: for each role the verbs.
    pub(super) resources: BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>,
    /// By path: who.
    pub(super) paths: BTreeMap<String, String>,
}

pub(super) const ROLES: [&str; 4] = ["view", "edit", "owner", "admin"];

impl Policy {
    pub(super) fn read() -> Self {
        let mut policy = Self { resources: BTreeMap::new(), paths: BTreeMap::new() };
        for line in POLICY.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [path, who] = words[..] {
                policy.paths.insert(path.to_owned(), who.to_owned());
                continue;
            }
            let [resource, roles @ ..] = &words[..] else { panic!("{line}") };
            assert_eq!(roles.len(), ROLES.len(), "{line}");
            let verbs = ROLES.iter().zip(roles).map(|(role, verbs)| {
                let verbs = verbs.split('+').flat_map(|word| match word {
                    "-" => Vec::new(),
                    "read" => READ.to_vec(),
                    "write" => WRITE.to_vec(),
                    verb => vec![verb],
                });
                (*role, verbs.map(str::to_owned).collect())
            });
            assert!(policy.resources.insert((*resource).to_owned(), verbs.collect()).is_none(), "{resource} twice");
        }
        policy
    }

    pub(super) fn allows(&self, resource: &Resource, role: &str, verb: &str) -> bool {
        self.resources[&resource.qualified()][role].contains(verb)
    }
}

/// A row of discovery.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) part: String,
    pub(super) namespaced: bool,
    pub(super) verbs: Vec<String>,
}

impl Resource {
    pub(super) fn qualified(&self) -> String {
        let of = if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) };
        if self.part.is_empty() { of } else { format!("{of}/{}", self.part) }
    }

    /// The path of the collection or, with a name, of the object or its part.
    pub(super) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let mut segments = vec![root.as_str(), &self.version];
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            segments.extend(["namespaces", namespace]);
        }
        segments.push(&self.plural);
        if let Some(name) = name {
            segments.push(name);
            if !self.part.is_empty() {
                segments.push(&self.part);
            }
        }
        segments.join("/")
    }

    /// Method, path and content type of a verb; nothing is changed by any of them.
    pub(super) fn request(
        &self,
        verb: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> (&'static str, String, &'static str) {
        let json = "application/json";
        let all = self.path(namespace, None);
        // Parts and reviews are always of something; a review is of nothing.
        let one = self.path(namespace, Some(name));
        match verb {
            "get" => ("GET", one, json),
            "list" => ("GET", all, json),
            "watch" => ("GET", format!("{all}?watch=true&timeoutSeconds=1"), json),
            "create" if self.part.is_empty() => ("POST", format!("{all}?dryRun=All"), json),
            "create" => ("POST", format!("{one}?dryRun=All"), json),
            "update" => ("PUT", format!("{one}?dryRun=All"), json),
            "patch" => ("PATCH", format!("{one}?dryRun=All"), "application/merge-patch+json"),
            "delete" => ("DELETE", format!("{one}?dryRun=All"), json),
            "deletecollection" => ("DELETE", format!("{all}?dryRun=All&labelSelector=no=such"), json),
            other => panic!("{other} of {}", self.qualified()),
        }
    }
}

/// Every resource and part that the server says it has.
pub(super) async fn discover(admin: &Person) -> Vec<Resource> {
    let mut all = Vec::new();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let (status, text) = admin.send("GET", root, "application/json", &[("accept", accept)], &Value::Null).await;
        assert_eq!(status, 200, "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        for group in document["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                for row in version["resources"].as_array().unwrap() {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let verbs = |row: &Value| row["verbs"].as_array().unwrap().iter().map(text).collect();
                    let resource = Resource {
                        group: text(&group["metadata"]["name"]),
                        version: text(&version["version"]),
                        plural: text(&row["resource"]),
                        part: String::new(),
                        namespaced: row["scope"] == "Namespaced",
                        verbs: verbs(row),
                    };
                    for part in row["subresources"].as_array().into_iter().flatten() {
                        all.push(Resource { part: text(&part["subresource"]), verbs: verbs(part), ..resource.clone() });
                    }
                    all.push(resource);
                }
            }
        }
    }
    assert!(all.len() > 25, "{all:?}");
    all
}
