//! From a request to an [`Identity`].

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::identity::{Identity, Origin};
use super::impersonate;
use crate::accounts::{self, Accounts};
use crate::audit;
use crate::entrance::AUDIT_ID;
use crate::error::Error;
use crate::serve::Peer;
use crate::server::State;
use crate::store::{Purpose, Store};

/// A longer header is no token of ours; those of OpenID Connect with many groups have some 4 KiB.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Paths that a request without a credential gets as far as being authorised for: probes, and clients that ask whom
/// they are talking to. Everything else without one is 401.
const PUBLIC: &[&str] = &["version", "livez", "readyz", "healthz"];

/// Reads one kind of credential. A server has a list of them (see [`crate::Builder::authenticator`]), asked in order:
/// the first that knows who it is decides.
pub trait Authenticator: Send + Sync {
    /// Who sent the request; `None` if it carries nothing that is read here, or nothing that is valid.
    fn authenticate<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Option<Identity>>;
}

/// Finds out who sent a request, and whom they act as.
pub(crate) async fn authenticate(state: &State, parts: &Parts) -> Result<Identity, Error> {
    if parts.uri.path() == accounts::SESSIONS && parts.method == Method::POST {
        // Whoever signs in is nobody yet, whatever old credential a client sends along.
        return Ok(Identity { origin: Some(Arc::new(origin(parts))), ..Identity::anonymous() });
    }
    let mut known = None;
    for authenticator in &state.authenticators {
        known = authenticator.authenticate(parts).await;
        if known.is_some() {
            break;
        }
    }
    let mut identity = match known {
        Some(identity) => identity,
        None if offers_nothing(&parts.headers) && is_public(parts.uri.path()) => Identity::anonymous(),
        None => return Err(Error::unauthorized()),
    };
    let acts_as_another = impersonate::is_wanted(&parts.headers);
    // Reads are not in the audit log: they need not carry where they come from.
    if acts_as_another || !matches!(parts.method, Method::GET | Method::HEAD) {
        identity.origin = Some(Arc::new(origin(parts)));
    }
    if !acts_as_another {
        return Ok(identity);
    }
    impersonate::as_wanted(&*state.authorizer, &identity, &parts.headers).await.inspect_err(|error| {
        audit::note_path(state, &identity, "impersonate", parts.uri.path(), error.code());
    })
}

fn is_public(path: &str) -> bool {
    path.split('/').find(|s| !s.is_empty()).is_some_and(|first| PUBLIC.contains(&first))
}

fn offers_nothing(headers: &HeaderMap) -> bool {
    !headers.contains_key(header::AUTHORIZATION)
}

fn origin(parts: &Parts) -> Origin {
    let text = |name: &header::HeaderName| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    Origin {
        address: parts.extensions.get::<Peer>().map(|peer| peer.0.ip()),
        user_agent: text(&header::USER_AGENT).chars().take(Origin::AGENT_CHARS_MAX).collect(),
        request: text(&AUDIT_ID).to_owned(),
        impersonator: None,
    }
}

/// Refuses requests that carry no authenticated identity: for routes that were put beside ours without a guard.
pub async fn require(request: Request, next: Next) -> Response {
    match request.extensions().get::<Identity>() {
        Some(identity) if !identity.is_anonymous() => next.run(request).await,
        _ => Error::unauthorized().into_response(),
    }
}

/// The bearer token of a request. One that stands elsewhere was put here by [`super::unpack`].
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let usable = |token: &str| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX;
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && usable(token)).then(|| token.to_owned())
}

/// The tokens of the store: random, hashed; the platform's own, and sessions and tokens of people.
pub(crate) struct StoredTokens {
    pub(crate) store: Store,
    pub(crate) accounts: Option<Arc<Accounts>>,
}

impl Authenticator for StoredTokens {
    fn authenticate<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Option<Identity>> {
        Box::pin(async move {
            let (tokens, secret) = (self.store.tokens(), bearer(&parts.headers)?);
            // Three parts make the token of somebody else's issuer: the database need not be asked about each.
            let is_foreign = secret.split('.').count() == 3;
            let found = if is_foreign { tokens.find(&secret) } else { tokens.look_up(&secret).await };
            let token = found?;
            match token.purpose {
                Purpose::Standing => Some(Identity::new(token.user.clone(), token.groups.clone())),
                Purpose::Session | Purpose::Token => self.accounts.as_ref()?.identity(&token),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (header::HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_token_is_read_or_it_is_none() {
        let found = |pairs: &[(&str, &str)]| bearer(&headers(pairs));
        assert_eq!(found(&[("authorization", "Bearer abc")]).as_deref(), Some("abc"));
        assert_eq!(found(&[("authorization", "bearer  abc ")]).as_deref(), Some("abc"));
        assert_eq!(found(&[("authorization", "Basic abc")]), None);
        assert_eq!(found(&[("authorization", "Bearer ")]), None);
        let long = format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(found(&[("authorization", &long)]), None);
    }
}
