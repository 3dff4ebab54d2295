//! People whom an identity provider knows: ID tokens of OpenID Connect as bearer tokens, as kube-apiserver takes them.
//!
//! The provider's keys are fetched when they are first needed, and again when a token names one that is not known. If the
//! provider cannot be reached, its tokens open nothing that its known keys do not prove, and everything else goes on.

mod claims;
mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::request::Parts;
pub use jsonwebtoken::Algorithm;

use self::keys::Keys;
use crate::auth::{Authenticator, Identity, bearer};
use crate::clock::Clock;

/// What the names of Kubernetes' own users and groups begin with: no provider speaks for those.
const RESERVED_PREFIX: &str = "system:";

/// How tokens may be signed: only so that whoever can check a signature cannot make one.
pub const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// Whom to believe, and what of their tokens. The names follow kube-apiserver's options.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider's address, as it stands in `iss`: `https://`, without a query.
    pub issuer_url: String,
    /// What tokens must be for: `aud`.
    pub client_id: String,
    /// The claim that is the user's name.
    pub username_claim: String,
    /// What stands before it. Empty means nothing does.
    pub username_prefix: String,
    /// The claim with the groups, if there is one.
    pub groups_claim: Option<String>,
    /// What stands before each.
    pub groups_prefix: String,
    /// Claims that must be there with that value.
    pub required_claims: Vec<(String, String)>,
    /// The authorities by which the provider is known, PEM; those of the system otherwise.
    pub ca_pem: Option<Vec<u8>>,
    /// How tokens may be signed.
    pub algorithms: Vec<Algorithm>,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not that of a provider.
    #[error("the issuer {0:?} must be an https:// address without a query or fragment")]
    Issuer(String),
    /// A prefix would let the provider speak for Kubernetes' own users or groups.
    #[error("the prefix {0:?} is reserved: a provider does not speak for {RESERVED_PREFIX}…")]
    Prefix(String),
    /// A field is empty that must not be.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// The certificates cannot be read, or no HTTP client can be made of them.
    #[error("the provider cannot be asked: {0}")]
    Client(String),
}

/// Reads the tokens of one provider.
#[derive(Debug)]
pub struct Oidc {
    settings: Settings,
    keys: Arc<Keys>,
    clock: Clock,
}

impl Oidc {
    /// Checks the settings. The provider is not asked before it is needed.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, Error> {
        let url = url::Url::parse(&settings.issuer_url).ok();
        let plain = |url: &url::Url| {
            url.scheme() == "https" && url.has_host() && url.query().is_none() && url.fragment().is_none()
        };
        if !url.as_ref().is_some_and(plain) {
            return Err(Error::Issuer(settings.issuer_url));
        }
        for prefix in [&settings.username_prefix, &settings.groups_prefix] {
            // Also the beginnings of it, which a claim could complete, are caught where names are made.
            if prefix.starts_with(RESERVED_PREFIX) {
                return Err(Error::Prefix(prefix.clone()));
            }
        }
        for (name, empty) in [
            ("client id", settings.client_id.is_empty()),
            ("claim of the user's name", settings.username_claim.is_empty()),
            ("list of algorithms", settings.algorithms.is_empty()),
        ] {
            if empty {
                return Err(Error::Missing(name));
            }
        }
        let keys = Arc::new(Keys::new(&settings.issuer_url, settings.ca_pem.as_deref()).map_err(Error::Client)?);
        Ok(Self { settings, keys, clock })
    }

    /// Whose token it is; the reason if it is nobody's, for the log.
    async fn read(&self, token: &str) -> Result<Identity, String> {
        // What is not meant for here never makes the provider be asked.
        let header = claims::header(token, &self.settings)?;
        let found = self.keys.find(&header).await?;
        let claims = claims::verified(token, &header, &found)?;
        claims::identity(&claims, &self.settings, self.clock.now())
    }
}

impl Authenticator for Oidc {
    fn authenticate<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Option<Identity>> {
        Box::pin(async move {
            let token = bearer(&parts.headers)?;
            match self.read(&token).await {
                Ok(identity) => Some(identity),
                Err(reason) => {
                    tracing::debug!(%reason, "a token is none of the identity provider's");
                    None
                }
            }
        })
    }
}
