//! Who is asking, and whether they may.
//!
//! A request passes [`authenticate`] (who is it? a list of [`Authenticator`]s, then impersonation) and, if its path is no
//! resource, [`authorise_path`]; requests for resources are authorised where they have been taken apart. All of them ask
//! [`allows`], and what nobody allows is refused.

mod authenticate;
mod certificate;
mod identity;
mod impersonate;
mod paths;
pub mod rbac;
mod rule;
mod websocket;

pub use authenticate::{Authenticator, require};
pub(crate) use authenticate::{StoredTokens, authenticate, bearer};
pub(crate) use certificate::Certificates;
pub use certificate::ClientCertificate;
pub use identity::{
    ADMINS, ANONYMOUS, AUTHENTICATED, Identity, Impersonator, Origin, SERVICE_ACCOUNT_PREFIX, Scope, UNAUTHENTICATED,
};
pub(crate) use paths::authorise_path;
pub use rule::Rule;
pub(crate) use websocket::unpack;

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
    /// Empty for cluster-scoped kinds and requests across namespaces; for a Namespace its own name.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// The path, when it is no resource.
    pub path: String,
}

impl Attributes {
    /// Whether they are about a path that is no resource.
    pub fn is_path(&self) -> bool {
        self.resource.is_empty() && !self.path.is_empty()
    }

    /// A request for a path that is no resource.
    pub fn of_path(verb: &str, path: &str) -> Self {
        Self { verb: verb.into(), path: path.into(), ..Self::default() }
    }

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

/// Decides who may do what. What nobody allows is refused.
pub trait Authorizer: Send + Sync {
    /// Whether `identity` may do it. Not asked directly but by [`allows`], which minds the scope of credentials.
    fn allows<'a>(&'a self, identity: &'a Identity, attributes: &'a Attributes) -> BoxFuture<'a, bool>;

    /// Everything `identity` may do in `namespace`, for people and for the prevention of escalation.
    fn rules<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> BoxFuture<'a, Vec<Rule>>;
}

/// Whether `identity` may do it with the credential it has shown.
pub async fn allows(authorizer: &dyn Authorizer, identity: &Identity, attributes: &Attributes) -> bool {
    identity.scope.as_ref().is_none_or(|scope| scope.allows(attributes))
        && authorizer.allows(identity, attributes).await
}

impl Scope {
    /// Whether it lies within. Who one is and what one may can always be asked.
    pub fn allows(&self, attributes: &Attributes) -> bool {
        let here = self.namespaces.is_empty() || self.namespaces.contains(&attributes.namespace);
        EVERYBODY.iter().chain(&self.paths).any(|rule| rule.allows(attributes))
            || (here && self.rules.iter().any(|rule| rule.allows(attributes)))
    }
}

/// What whoever has shown a credential may do, whatever else is decided: ask who they are, what they may do, and what
/// there is.
static EVERYBODY: std::sync::LazyLock<Vec<Rule>> = std::sync::LazyLock::new(|| {
    let mut rules = rbac::defaults::basic_user();
    rules.extend(rbac::defaults::discovery());
    rules
});

/// Administrators may do everything; others may ask who they are and what there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct AdministratorsOnly;

impl AdministratorsOnly {
    fn all(identity: &Identity) -> Vec<Rule> {
        if identity.is_admin() {
            vec![Rule::on(&["*"], &["*"], &["*"]), Rule::on_paths(&["*"], &["*"])]
        } else if identity.is_anonymous() {
            rbac::defaults::public_info()
        } else {
            EVERYBODY.clone()
        }
    }
}

impl Authorizer for AdministratorsOnly {
    fn allows<'a>(&'a self, identity: &'a Identity, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        let allowed = Self::all(identity).iter().any(|rule| rule.allows(attributes));
        Box::pin(async move { allowed })
    }

    fn rules<'a>(&'a self, identity: &'a Identity, _namespace: &'a str) -> BoxFuture<'a, Vec<Rule>> {
        let rules = Self::all(identity);
        Box::pin(async move { rules })
    }
}
