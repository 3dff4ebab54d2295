//! Who is asking.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Rule;

/// The group whose members may do everything, as in Kubernetes.
pub const ADMINS: &str = "system:masters";
/// Everybody who showed a valid credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Somebody without a credential.
pub const ANONYMOUS: &str = "system:anonymous";
/// What the names of service accounts begin with; `namespace:name` follows.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// The caller, as a request extension of every authenticated request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; the service's, for tokens of services.
    pub user: String,
    /// The groups, without repetition.
    pub groups: Vec<String>,
    /// What tells this user from a later one of the same name; empty if the authenticator knows nothing such.
    pub uid: String,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
    /// What the credential is good for, if for less than the user may do.
    pub scope: Option<Arc<Scope>>,
    /// The session or token that the request came with: its id. It stays when somebody acts as another.
    pub credential: Option<Arc<str>>,
    /// Where the request came from; unknown for parts of this process.
    pub origin: Option<Arc<Origin>>,
}

/// The bounds of a credential: within them it can do what its user may do, and nothing outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scope {
    /// What it can be used for.
    pub rules: Vec<Rule>,
    /// The namespaces it can be used in; empty means all, and the cluster's own objects.
    pub namespaces: Vec<String>,
    /// Paths that it can be used for wherever, because what stands behind them acts with the same credential.
    pub paths: Vec<Rule>,
}

/// Where a request came from, for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address that the connection came from.
    pub address: Option<IpAddr>,
    /// What the client calls itself; at most [`Origin::AGENT_CHARS_MAX`] characters.
    pub user_agent: String,
    /// By which the request is found in logs: the `Audit-Id` of its answer.
    pub request: String,
    /// Who acts as the identity that this is the origin of, if somebody does.
    pub impersonator: Option<Impersonator>,
}

/// An administrator who acts as somebody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonator {
    /// The user's name.
    pub user: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The user's uid.
    pub uid: String,
}

impl Origin {
    /// A browser's name has some 150 characters.
    pub const AGENT_CHARS_MAX: usize = 256;
}

impl Identity {
    /// An authenticated user; `system:authenticated` is added to the groups.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for group in groups.into_iter().chain([AUTHENTICATED.to_owned()]) {
            if !all.contains(&group) {
                all.push(group);
            }
        }
        Self { user: user.into(), groups: all, ..Self::default() }
    }

    /// A part of this process, with every right; `name` becomes `system:<name>`.
    pub fn system(name: &str) -> Self {
        Self::new(format!("system:{name}"), [ADMINS.to_owned()])
    }

    /// Somebody without a credential.
    pub fn anonymous() -> Self {
        Self { user: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// The account of a program, in the groups of all accounts and of those of its namespace.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        Self { uid: uid.into(), ..Self::new(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"), groups) }
    }

    /// Namespace and name, if a user name is that of a service account.
    pub fn split_service_account(user: &str) -> Option<(&str, &str)> {
        user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':').filter(|(n, a)| !n.is_empty() && !a.is_empty())
    }

    /// Whether this is nobody known.
    pub fn is_anonymous(&self) -> bool {
        self.in_group(UNAUTHENTICATED)
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the user may do everything (with a credential that has no scope).
    pub fn is_admin(&self) -> bool {
        self.in_group(ADMINS)
    }
}
