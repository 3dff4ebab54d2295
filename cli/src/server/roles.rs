//! Who may do what with Berth's own kinds and paths: what a project's view, edit and owner have, and what everybody has.
//!
//! A kind that stands in neither list below could be read by nobody but administrators; a test asks for it.

use apiserver::auth::rbac::defaults::{DefaultRole, READ, WRITE};
use apiserver::auth::{AUTHENTICATED, Rule, UNAUTHENTICATED};

/// What a project's people write themselves.
pub(crate) const THEIRS: &[&str] = &["applications"];
/// What Berth makes for them: read by the project's people, written by administrators at most.
pub(crate) const MADE: &[&str] = &["builds", "releases", "instances"];
/// What everybody chooses from.
pub(crate) const OFFERED: &[&str] = &["plans", "runtimes"];
/// What only administrators see.
#[cfg(test)]
pub(crate) const HIDDEN: &[&str] = &["nodes", "users"];

/// Paths that are no resources, for whoever has signed in: what stands behind them acts as the caller and is authorised
/// again by what it reads and changes. A path that is not here is for administrators.
const ACTIONS_READ: &[&str] = &["/api/paas/applications/*", "/api/paas/builds/*"];
const ACTIONS_WRITE: &[&str] = &["/api/paas/applications/*"];

/// Where people look after their own sessions, tokens and password. What is not their own is authorised again.
const ACCOUNT: &[&str] =
    &["/api/paas/v1/sessions/current", "/api/paas/v1/tokens", "/api/paas/v1/tokens/*", "/api/paas/v1/users/*"];

/// Paths that act as the caller: a token that is good for little is held to it behind them.
pub(crate) fn acting() -> Vec<Rule> {
    vec![Rule::on_paths(ACTIONS_READ, &["get"]), Rule::on_paths(ACTIONS_WRITE, &["post"])]
}

/// The roles besides Kubernetes' own.
pub(crate) fn all() -> Vec<DefaultRole> {
    let group = &[crds::GROUP];
    let written: Vec<&str> = THEIRS.to_vec();
    let scaled: Vec<String> = THEIRS.iter().map(|plural| format!("{plural}/scale")).collect();
    let scaled: Vec<&str> = scaled.iter().map(String::as_str).collect();
    let all: Vec<&str> = THEIRS.iter().chain(MADE).copied().collect();
    let parts: Vec<String> = all.iter().map(|plural| format!("{plural}/status")).collect();
    let read: Vec<&str> = all.iter().copied().chain(parts.iter().map(String::as_str)).chain(scaled.clone()).collect();
    let owner = vec![
        Rule::on(&["rbac.authorization.k8s.io"], &["roles", "rolebindings"], &[&READ[..], &WRITE[..]].concat()),
        Rule::on(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
        Rule::on(&[""], &["serviceaccounts/token"], &["create"]),
        Rule::on(&[""], &["serviceaccounts"], &["impersonate"]),
        Rule::on(&["audit.k8s.io"], &["auditevents"], &["list"]),
        // Not to change it: its labels say who pays.
        Rule::on(&[""], &["namespaces"], &["delete"]),
    ];
    vec![
        DefaultRole::new("berth:aggregate-to-view", vec![Rule::on(group, &read, &READ)]).gathered_by(&["view"]),
        DefaultRole::new(
            "berth:aggregate-to-edit",
            vec![
                Rule::on(group, &written, &WRITE),
                Rule::on(group, &scaled, &["patch", "update"]),
                // As in Kubernetes: whoever deletes a Pod gets another in its place.
                Rule::on(&[""], &["pods"], &["delete", "deletecollection"]),
            ],
        )
        .gathered_by(&["edit"]),
        DefaultRole::new("berth:aggregate-to-owner", owner).gathered_by(&["owner"]),
        DefaultRole::gathering("owner").gathered_by(&["admin"]),
        // Kubernetes' own role, which is made before these, is a part of the owner's too.
        DefaultRole::new("edit", Vec::new()).gathered_by(&["owner"]),
        DefaultRole::new("berth:aggregate-to-admin", vec![Rule::on(group, MADE, &WRITE)]).gathered_by(&["admin"]),
        // Which kinds there are is no secret: clients learn them from their definitions.
        DefaultRole::new(
            "berth:catalogue",
            vec![
                Rule::on(group, OFFERED, &READ),
                Rule::on(&["apiextensions.k8s.io"], &["customresourcedefinitions"], &READ),
            ],
        )
        .given_to(&[AUTHENTICATED]),
        DefaultRole::new("berth:actions", acting()).given_to(&[AUTHENTICATED]),
        DefaultRole::new("berth:account", vec![Rule::on_paths(ACCOUNT, &["delete", "get", "post", "put"])])
            .given_to(&[AUTHENTICATED]),
        DefaultRole::new("berth:sign-in", vec![Rule::on_paths(&[apiserver::accounts::SESSIONS], &["post"])])
            .given_to(&[AUTHENTICATED, UNAUTHENTICATED]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place() {
        for entry in crds::KINDS {
            let plural = (entry.crd)().spec.names.plural;
            let places = [THEIRS, MADE, OFFERED, HIDDEN].iter().filter(|list| list.contains(&plural.as_str())).count();
            assert_eq!(places, 1, "say in cli/src/server/roles.rs who may do what with {plural}");
        }
    }
}
