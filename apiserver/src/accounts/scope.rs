//! What a token is to be good for, as people write it: verbs, resources with their groups, projects.

use serde::{Deserialize, Serialize};

use super::answer;
use crate::auth::{Rule, Scope};
use crate::error::Error;
use crate::kinds::Kinds;

/// Entries of each list: who needs more wants a token without a scope.
const ENTRIES_MAX: usize = 64;
/// What can be done with objects, and `*`.
const VERBS: [&str; 12] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "impersonate",
    "bind",
    "escalate",
    "*",
];

/// As it stands in requests and lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// What may be done.
    verbs: Vec<String>,
    /// With what: `applications.berth.dev`, `applications.berth.dev/scale`, `pods/log`, `*.berth.dev` or `*`.
    resources: Vec<String>,
    /// Where; empty means everywhere.
    #[serde(default)]
    namespaces: Vec<String>,
}

impl Written {
    /// What the server holds a token to. `acting` are paths that every token may use.
    pub(super) fn read(&self, kinds: &Kinds, acting: &[Rule]) -> Result<Scope, Error> {
        let wrong = |field: &str, message: String| answer::invalid("Token", field, message);
        for (field, list) in [("verbs", &self.verbs), ("resources", &self.resources), ("namespaces", &self.namespaces)]
        {
            if list.len() > ENTRIES_MAX {
                return Err(wrong(
                    &format!("scope.{field}"),
                    format!("Too many: must have at most {ENTRIES_MAX} items"),
                ));
            }
            if list.is_empty() && field != "namespaces" {
                return Err(wrong(&format!("scope.{field}"), "Required value: name at least one, or * for all".into()));
            }
        }
        if let Some(verb) = self.verbs.iter().find(|verb| !VERBS.contains(&verb.as_str())) {
            let message = format!("Unsupported value: {verb:?}: supported values: {}", VERBS.join(", "));
            return Err(wrong("scope.verbs", message));
        }
        if let Some(name) = self.namespaces.iter().find(|name| name.is_empty() || name.len() > 63) {
            return Err(wrong("scope.namespaces", format!("Invalid value: {name:?}: must be the name of a project")));
        }
        let mut rules = Vec::new();
        for text in &self.resources {
            let (group, resource) = split(text);
            if !is_known(kinds, &group, &resource) {
                let message = format!(
                    "Invalid value: {text:?}: there is no such kind; write plural.group, such as configmaps or applications.example.dev"
                );
                return Err(wrong("scope.resources", message));
            }
            let verbs: Vec<&str> = self.verbs.iter().map(String::as_str).collect();
            rules.push(Rule::on(&[&group], &[&resource], &verbs));
        }
        Ok(Scope { rules, namespaces: self.namespaces.clone(), paths: acting.to_vec() })
    }

    /// As it was written.
    pub(super) fn of(scope: &Scope) -> Self {
        let verbs = scope.rules.first().map(|rule| rule.verbs.clone()).unwrap_or_default();
        let mut resources = Vec::new();
        for rule in &scope.rules {
            for (group, resource) in rule.groups.iter().flat_map(|group| rule.resources.iter().map(move |r| (group, r)))
            {
                resources.push(join(group, resource));
            }
        }
        Self { verbs, resources, namespaces: scope.namespaces.clone() }
    }
}

/// Group and resource of `plural.group/part`.
fn split(text: &str) -> (String, String) {
    if text == "*" {
        return ("*".into(), "*".into());
    }
    let (name, part) = text.split_once('/').map_or((text, None), |(name, part)| (name, Some(part)));
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    let resource = part.map_or_else(|| plural.to_owned(), |part| format!("{plural}/{part}"));
    (group.to_owned(), resource)
}

fn join(group: &str, resource: &str) -> String {
    let (plural, part) = resource.split_once('/').map_or((resource, None), |(plural, part)| (plural, Some(part)));
    let name = match group {
        "" => plural.to_owned(),
        "*" if plural == "*" => "*".to_owned(),
        group => format!("{plural}.{group}"),
    };
    part.map_or_else(|| name.clone(), |part| format!("{name}/{part}"))
}

fn is_known(kinds: &Kinds, group: &str, resource: &str) -> bool {
    let plural = resource.split('/').next().unwrap_or_default();
    let of_group = |kind: &crate::kind::Kind| group == "*" || kind.group == group;
    kinds.all().iter().any(|kind| of_group(kind) && (plural == "*" || kind.plural == plural))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Attributes;
    use crate::core_kinds;

    fn kinds() -> Kinds {
        Kinds::new(core_kinds::all()).unwrap()
    }

    fn written(verbs: &[&str], resources: &[&str], namespaces: &[&str]) -> Written {
        let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        Written { verbs: owned(verbs), resources: owned(resources), namespaces: owned(namespaces) }
    }

    fn wanted(verb: &str, group: &str, resource: &str, namespace: &str) -> Attributes {
        let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: part.into(),
            namespace: namespace.into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn a_scope_is_verbs_on_resources_in_projects() {
        let acting = [Rule::on_paths(&["/act/*"], &["post"])];
        let list = written(&["get", "list"], &["configmaps", "roles.rbac.authorization.k8s.io"], &["shop"]);
        let scope = list.read(&kinds(), &acting).unwrap();
        assert_eq!(Written::of(&scope), list);
        for allowed in [
            wanted("get", "", "configmaps", "shop"),
            wanted("list", "rbac.authorization.k8s.io", "roles", "shop"),
            wanted("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""),
            Attributes::of_path("post", "/act/now"),
        ] {
            assert!(scope.allows(&allowed), "{allowed:?}");
        }
        for refused in [
            wanted("delete", "", "configmaps", "shop"),
            wanted("get", "", "secrets", "shop"),
            wanted("get", "example.dev", "configmaps", "shop"),
            wanted("get", "", "configmaps/status", "shop"),
            wanted("get", "", "configmaps", "other"),
            wanted("get", "", "configmaps", ""),
            Attributes::of_path("get", "/act/now"),
            Attributes::of_path("post", "/api/paas/v1/tokens"),
        ] {
            assert!(!scope.allows(&refused), "{refused:?}");
        }
        let everywhere = written(&["*"], &["*"], &[]).read(&kinds(), &[]).unwrap();
        assert!(everywhere.allows(&wanted("delete", "example.dev", "widgets", "any")));
        assert!(!everywhere.allows(&Attributes::of_path("post", "/api/paas/v1/tokens")), "paths are no resources");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (bad, field) in [
            (written(&[], &["*"], &[]), "scope.verbs"),
            (written(&["read"], &["*"], &[]), "scope.verbs"),
            (written(&["get"], &[], &[]), "scope.resources"),
            (written(&["get"], &["nothing"], &[]), "scope.resources"),
            (written(&["get"], &["secrets.example.dev"], &[]), "scope.resources"),
            (written(&["get"], &["secrets"], &[""]), "scope.namespaces"),
            (written(&["get"; ENTRIES_MAX + 1], &["secrets"], &[]), "scope.verbs"),
        ] {
            let error = bad.read(&kinds(), &[]).unwrap_err();
            assert_eq!((error.code(), error.status()["details"]["causes"][0]["field"].as_str()), (422, Some(field)));
        }
        for text in
            ["*", "secrets", "pods/log", "applications.example.dev", "applications.example.dev/scale", "*.example.dev"]
        {
            let (group, resource) = split(text);
            assert_eq!(join(&group, &resource), text);
        }
    }
}
