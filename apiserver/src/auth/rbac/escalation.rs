//! Nobody gives others, or themselves, what they do not have: Kubernetes' prevention of privilege escalation.
//!
//! A role may be written by whoever has all its rules, or the verb `escalate` on it; a binding by whoever has all rules
//! of the role it refers to, or the verb `bind` on that role.

use futures::future::BoxFuture;
use indexmap::IndexSet;
use serde::Deserialize;
use serde_json::Value;

use super::super::{Attributes, Identity, Rule, Scope, allows};
use super::object::RoleRef;
use super::{GROUP, Rbac};
use crate::admission::{Admission, Operation, Request};
use crate::kind::FieldError;

/// How many missing rules a refusal lists.
const LISTED_MAX: usize = 20;
/// How many combinations of verb, group, resource and name somebody's rules are taken apart into: each is compared with each
/// rule that they have. The largest role that is delivered has some two hundred.
const PARTS_MAX: usize = 10_000;

/// The judgement, as a hook of admission.
pub(crate) struct Escalation(pub(crate) Rbac);

impl Admission for Escalation {
    fn validate<'a>(&'a self, _request: Request<'a>) -> BoxFuture<'a, Vec<FieldError>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn forbid<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Option<String>> {
        Box::pin(self.judge(request))
    }
}

impl Escalation {
    async fn judge(&self, request: Request<'_>) -> Option<String> {
        if request.kind.group != GROUP || request.operation == Operation::Delete {
            return None;
        }
        let (identity, new) = (request.identity, request.new?);
        if identity.is_admin() && identity.scope.is_none() {
            return None;
        }
        match request.kind.plural.as_str() {
            "roles" | "clusterroles" => self.judge_role(&request, new).await,
            _ => self.judge_binding(&request, new).await,
        }
    }

    async fn judge_role(&self, request: &Request<'_>, new: &Value) -> Option<String> {
        let same = |old: &Value| ["rules", "aggregationRule"].iter().all(|field| old.get(field) == new.get(field));
        if request.old.is_some_and(same) {
            return None;
        }
        if self.may(request.identity, "escalate", &request.kind.plural, request.namespace, request.name).await {
            return None;
        }
        let mut rules: Vec<Rule> = new.get("rules").and_then(|rules| Vec::deserialize(rules).ok()).unwrap_or_default();
        if new.get("aggregationRule").is_some() {
            // What it will gather is not known.
            rules = vec![Rule::on(&["*"], &["*"], &["*"]), Rule::on_paths(&["*"], &["*"])];
        }
        self.missing(request, &rules)
    }

    async fn judge_binding(&self, request: &Request<'_>, new: &Value) -> Option<String> {
        if request.old.is_some_and(|old| spine(old) == spine(new)) {
            return None;
        }
        let role: RoleRef = new.get("roleRef").and_then(|role| RoleRef::deserialize(role).ok()).unwrap_or_default();
        let (plural, namespace) =
            if role.is_cluster_role() { ("clusterroles", request.namespace) } else { ("roles", request.namespace) };
        if self.may(request.identity, "bind", plural, namespace, &role.name).await {
            return None;
        }
        match self.0.rules_of_role(request.namespace, &role) {
            Some(rules) => self.missing(request, &rules),
            // What a role of that name will allow one day is not known.
            None => Some(format!(
                "{plural}.{GROUP} \"{}\" not found: only who may bind every role may bind one that is not there",
                role.name
            )),
        }
    }

    async fn may(&self, identity: &Identity, verb: &str, plural: &str, namespace: &str, name: &str) -> bool {
        let attributes = Attributes {
            verb: verb.into(),
            group: GROUP.into(),
            version: "v1".into(),
            resource: plural.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Attributes::default()
        };
        allows(&self.0, identity, &attributes).await
    }

    fn missing(&self, request: &Request<'_>, wanted: &[Rule]) -> Option<String> {
        let identity = request.identity;
        if wanted.iter().map(combinations).fold(0, usize::saturating_add) > PARTS_MAX {
            return Some(format!(
                "these rules have more than {PARTS_MAX} combinations of verb, group, resource and name: only who may \
                 escalate or bind every role may give so many; use \"*\" or fewer of them"
            ));
        }
        let mut own = self.0.rules_of(identity, request.namespace);
        if identity.is_admin() {
            own.push(Rule::on(&["*"], &["*"], &["*"]));
            own.push(Rule::on_paths(&["*"], &["*"]));
        }
        let mut missing = uncovered(&own, wanted);
        if let Some(scope) = &identity.scope {
            missing.extend(outside(scope, request.namespace, wanted));
        }
        if missing.is_empty() {
            return None;
        }
        let lines: IndexSet<String> = missing.iter().map(describe).collect();
        let mut lines: Vec<String> = lines.into_iter().collect();
        let more = lines.len().saturating_sub(LISTED_MAX);
        lines.truncate(LISTED_MAX);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        Some(format!(
            "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
            identity.user,
            identity.groups,
            lines.join("\n")
        ))
    }
}

/// A binding without what garbage collection changes.
fn spine(binding: &Value) -> Value {
    let mut binding = binding.clone();
    if let Some(metadata) = binding.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
            metadata.remove(field);
        }
    }
    binding
}

fn outside(scope: &Scope, namespace: &str, wanted: &[Rule]) -> Vec<Rule> {
    let here = scope.namespaces.is_empty() || scope.namespaces.iter().any(|own| own == namespace);
    if here { uncovered(&scope.rules, wanted) } else { wanted.to_vec() }
}

/// The parts of `wanted` that no single rule of `own` covers. A rule is taken apart into one verb on one resource of one
/// group (and one name), so that several of `own` may cover it together.
pub(super) fn uncovered(own: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let covered = |part: &Rule| own.iter().any(|rule| covers(rule, part));
    wanted.iter().flat_map(parts).filter(|part| !covered(part)).collect()
}

/// How many parts a rule has.
fn combinations(rule: &Rule) -> usize {
    let resources = rule.groups.len().saturating_mul(rule.resources.len()).saturating_mul(rule.names.len().max(1));
    rule.verbs.len().saturating_mul(rule.paths.len().saturating_add(resources))
}

fn parts(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.paths {
            all.push(Rule { verbs: vec![verb.clone()], paths: vec![path.clone()], ..Rule::default() });
        }
        for (group, resource) in rule.groups.iter().flat_map(|g| rule.resources.iter().map(move |r| (g, r))) {
            let names: Vec<Vec<String>> = if rule.names.is_empty() {
                vec![Vec::new()]
            } else {
                rule.names.iter().map(|name| vec![name.clone()]).collect()
            };
            all.extend(names.into_iter().map(|names| Rule {
                verbs: vec![verb.clone()],
                groups: vec![group.clone()],
                resources: vec![resource.clone()],
                names,
                paths: Vec::new(),
            }));
        }
    }
    all
}

/// Whether a rule has everything of a part.
fn covers(rule: &Rule, part: &Rule) -> bool {
    let any = |list: &[String], value: &String| list.iter().any(|entry| entry == "*" || entry == value);
    if !part.verbs.iter().all(|verb| any(&rule.verbs, verb)) {
        return false;
    }
    if let [path] = part.paths.as_slice() {
        return rule.paths.iter().any(|own| super::super::rule::path_matches(own, path));
    }
    let resource = |wanted: &String| {
        any(&rule.resources, wanted)
            || wanted.split_once('/').is_some_and(|(_, part)| rule.resources.contains(&format!("*/{part}")))
    };
    part.groups.iter().all(|group| any(&rule.groups, group))
        && part.resources.iter().all(resource)
        && (rule.names.is_empty()
            || (!part.names.is_empty() && part.names.iter().all(|name| rule.names.contains(name))))
}

fn describe(rule: &Rule) -> String {
    let list = |name: &str, values: &[String]| (!values.is_empty()).then(|| format!("{name}:{values:?}"));
    let fields = [
        list("APIGroups", &rule.groups),
        list("Resources", &rule.resources),
        list("ResourceNames", &rule.names),
        list("NonResourceURLs", &rule.paths),
        list("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
