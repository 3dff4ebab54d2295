//! Who is asking, and whether they may.

mod bearer;
mod identity;

pub(crate) use bearer::authenticate;
pub use bearer::require;
pub use identity::{ADMINS, AUTHENTICATED, Identity, UNAUTHENTICATED};

use futures::future::BoxFuture;

/// What somebody wants to do, as an [`Authorizer`] sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or an HTTP method in lower
    /// case for a path that is no resource.
    pub verb: String,
    /// API group; empty for the core group and for paths.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural; empty for paths.
    pub resource: String,
    /// For example `status`; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped kinds and requests across namespaces.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// The path, when it is no resource.
    pub path: String,
}

impl Attributes {
    /// Why it was refused, as Kubernetes words it.
    pub fn refusal(&self, identity: &Identity) -> String {
        let resource = if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let place = if self.namespace.is_empty() {
            " at the cluster scope".to_owned()
        } else {
            format!(" in the namespace \"{}\"", self.namespace)
        };
        format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\"{place}",
            identity.user, self.verb, self.group
        )
    }
}

/// One rule of what somebody may do, for `kubectl auth can-i --list`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`; empty for a rule on paths.
    pub groups: Vec<String>,
    /// Plurals, or `*`.
    pub resources: Vec<String>,
    /// Names; empty means all.
    pub names: Vec<String>,
    /// Paths that are no resources.
    pub paths: Vec<String>,
}

/// Decides who may do what. What nobody allows is refused.
pub trait Authorizer: Send + Sync {
    /// Whether `identity` may do it.
    fn allows<'a>(&'a self, identity: &'a Identity, attributes: &'a Attributes) -> BoxFuture<'a, bool>;

    /// Everything `identity` may do in `namespace`, for people.
    fn rules<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> BoxFuture<'a, Vec<Rule>>;
}

/// Administrators may do everything and nobody else anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdministratorsOnly;

impl Authorizer for AdministratorsOnly {
    fn allows<'a>(&'a self, identity: &'a Identity, _attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        let allowed = identity.is_admin();
        Box::pin(async move { allowed })
    }

    fn rules<'a>(&'a self, identity: &'a Identity, _namespace: &'a str) -> BoxFuture<'a, Vec<Rule>> {
        let all = || vec!["*".to_owned()];
        let rules = if identity.is_admin() {
            vec![
                Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
                Rule { verbs: all(), paths: all(), ..Rule::default() },
            ]
        } else {
            Vec::new()
        };
        Box::pin(async move { rules })
    }
}
