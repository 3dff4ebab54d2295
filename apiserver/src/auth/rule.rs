//! Rules, and whether one allows something: exactly as Kubernetes' `rbac.RuleAllows` does. Pure.

use serde::{Deserialize, Serialize};

use super::Attributes;

/// One rule of what somebody may do: a `PolicyRule` of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`; empty for a rule on paths.
    #[serde(rename = "apiGroups", skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Plurals, `plural/subresource`, `*/subresource`, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; empty means all.
    #[serde(rename = "resourceNames", skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

impl Rule {
    /// A rule on objects.
    pub fn on(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Self { verbs: owned(verbs), groups: owned(groups), resources: owned(resources), ..Self::default() }
    }

    /// A rule on paths.
    pub fn on_paths(paths: &[&str], verbs: &[&str]) -> Self {
        let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Self { verbs: owned(verbs), paths: owned(paths), ..Self::default() }
    }

    /// Whether it allows this.
    pub fn allows(&self, wanted: &Attributes) -> bool {
        if !any(&self.verbs, &wanted.verb) {
            return false;
        }
        if wanted.is_path() {
            return self.paths.iter().any(|path| path_matches(path, &wanted.path));
        }
        any(&self.groups, &wanted.group)
            && self.resources.iter().any(|resource| resource_matches(resource, &wanted.resource, &wanted.subresource))
            && (self.names.is_empty() || self.names.contains(&wanted.name))
    }
}

/// Whether a list has a value, or the star that stands for all.
fn any(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry == value)
}

fn resource_matches(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    let Some((of, part)) = rule.split_once('/') else { return false };
    part == subresource && (of == resource || of == "*")
}

pub(super) fn path_matches(rule: &str, path: &str) -> bool {
    rule == "*" || rule == path || rule.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}
