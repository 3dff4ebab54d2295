//! The roles that are always there. What is said of kinds here is said of Kubernetes' own; whoever registers other kinds
//! adds to `admin`, `edit` and `view` by roles with the labels by which these are gathered.

use super::super::{ADMINS, AUTHENTICATED, Rule, UNAUTHENTICATED};
use super::GROUP;

/// All a collection and its objects can be read with.
pub const READ: [&str; 3] = ["get", "list", "watch"];
/// All that changes them.
pub const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// A ClusterRole that the server makes if it is missing, and adds to when an upgrade brings new rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefaultRole {
    /// Its name.
    pub name: String,
    /// Its own rules; empty if it gathers them.
    pub rules: Vec<Rule>,
    /// The roles that gather its rules, for example `view`.
    pub gathered_by: Vec<String>,
    /// Whether it gathers the rules of the roles that name it.
    pub gathers: bool,
    /// Groups that have it everywhere.
    pub groups: Vec<String>,
}

impl DefaultRole {
    /// A role with rules of its own.
    pub fn new(name: &str, rules: Vec<Rule>) -> Self {
        Self { name: name.into(), rules, ..Self::default() }
    }

    /// A role that gathers the rules of those that are [`Self::gathered_by`] it.
    pub fn gathering(name: &str) -> Self {
        Self { name: name.into(), gathers: true, ..Self::default() }
    }

    /// Lets other roles gather its rules.
    #[must_use]
    pub fn gathered_by(mut self, roles: &[&str]) -> Self {
        self.gathered_by.extend(roles.iter().map(|&role| role.to_owned()));
        self
    }

    /// Gives it to groups, by a ClusterRoleBinding of the same name.
    #[must_use]
    pub fn given_to(mut self, groups: &[&str]) -> Self {
        self.groups.extend(groups.iter().map(|&group| group.to_owned()));
        self
    }
}

/// The label by which `role` finds the roles whose rules it gathers.
pub fn label(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

/// Who one is and what one may.
pub fn basic_user() -> Vec<Rule> {
    vec![
        Rule::on(&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"], &["create"]),
        Rule::on(&["authentication.k8s.io"], &["selfsubjectreviews"], &["create"]),
    ]
}

/// What there is. Kubernetes says `/api/*`, under which Berth and others have routes of their own.
pub fn discovery() -> Vec<Rule> {
    let mut paths = vec!["/api", "/api/", "/api/v1", "/api/v1/", "/apis", "/apis/*", "/openapi", "/openapi/*"];
    paths.extend(PUBLIC_INFO);
    vec![Rule::on_paths(&paths, &["get"])]
}

const PUBLIC_INFO: [&str; 8] =
    ["/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", "/version/"];

/// Whether the server is there, and which it is.
pub fn public_info() -> Vec<Rule> {
    vec![Rule::on_paths(&PUBLIC_INFO, &["get"])]
}

/// The roles of every server.
pub fn roles() -> Vec<DefaultRole> {
    let everything = vec![Rule::on(&["*"], &["*"], &["*"]), Rule::on_paths(&["*"], &["*"])];
    let read_and_write: Vec<&str> = READ.into_iter().chain(WRITE).collect();
    let view = vec![
        Rule::on(&[""], &["configmaps", "events", "namespaces", "serviceaccounts"], &READ),
        // What a project may hold is said by administrators, and read by everybody in it.
        Rule::on(&[""], &["resourcequotas", "resourcequotas/status"], &READ),
        Rule::on(&[""], &["limitranges", "pods", "pods/log", "pods/status", "services", "services/status"], &READ),
        Rule::on(&["discovery.k8s.io"], &["endpointslices"], &READ),
        Rule::on(&["metrics.k8s.io"], &["pods"], &READ),
        Rule::on(&["events.k8s.io"], &["events"], &READ),
    ];
    // Kubernetes lets `edit` act as the namespace's accounts, and so have whatever one of them has. Here that is left to
    // those who may bind roles anyway.
    let edit = vec![
        Rule::on(&[""], &["configmaps", "events", "serviceaccounts"], &WRITE),
        Rule::on(&[""], &["secrets"], &read_and_write),
        Rule::on(&["coordination.k8s.io"], &["leases"], &read_and_write),
        Rule::on(&["events.k8s.io"], &["events"], &WRITE),
        Rule::on(&[""], &["pods/attach", "pods/exec", "pods/portforward"], &["create", "get"]),
    ];
    let admin = vec![
        Rule::on(&[GROUP], &["roles", "rolebindings"], &read_and_write),
        Rule::on(&["authorization.k8s.io"], &["localsubjectaccessreviews"], &["create"]),
        Rule::on(&[""], &["serviceaccounts/token"], &["create"]),
        Rule::on(&[""], &["serviceaccounts"], &["impersonate"]),
    ];
    let delegator = vec![
        Rule::on(&["authentication.k8s.io"], &["tokenreviews"], &["create"]),
        Rule::on(&["authorization.k8s.io"], &["subjectaccessreviews"], &["create"]),
    ];
    vec![
        DefaultRole::new("cluster-admin", everything).given_to(&[ADMINS]),
        DefaultRole::new("system:basic-user", basic_user()).given_to(&[AUTHENTICATED]),
        DefaultRole::new("system:discovery", discovery()).given_to(&[AUTHENTICATED]),
        DefaultRole::new("system:public-info-viewer", public_info()).given_to(&[AUTHENTICATED, UNAUTHENTICATED]),
        DefaultRole::new("system:auth-delegator", delegator),
        DefaultRole::new("system:aggregate-to-view", view).gathered_by(&["view"]),
        DefaultRole::new("system:aggregate-to-edit", edit).gathered_by(&["edit"]),
        DefaultRole::new("system:aggregate-to-admin", admin).gathered_by(&["admin"]),
        DefaultRole::gathering("view").gathered_by(&["edit"]),
        DefaultRole::gathering("edit").gathered_by(&["admin"]),
        DefaultRole::gathering("admin"),
    ]
}
