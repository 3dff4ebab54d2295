//! From the `Authorization` header to an [`Identity`].

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use super::identity::Identity;
use crate::error::Error;
use crate::server;

/// Paths that anybody may read: clients and probes ask before they have a credential.
const PUBLIC: &[&str] = &["version", "livez", "readyz", "healthz"];

/// A longer header is no token of ours.
const TOKEN_BYTES_MAX: usize = 512;

/// Lets requests with a valid token through, with their identity as an extension; those to public paths also without.
pub(crate) async fn authenticate(
    State(state): State<Arc<server::State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let public = request.uri().path().split('/').find(|s| !s.is_empty()).is_some_and(|first| PUBLIC.contains(&first));
    let identity = match token(request.headers()) {
        None if public => Identity::anonymous(),
        None => return Error::unauthorized().into_response(),
        Some(token) => match state.store.tokens().look_up(token).await {
            Some(owner) => Identity::new(owner.user.clone(), owner.groups.clone()),
            None => return Error::unauthorized().into_response(),
        },
    };
    request.extensions_mut().insert(identity);
    next.run(request).await
}

/// Refuses requests that carry no authenticated identity: for routes that were put beside ours without a guard.
pub async fn require(request: Request, next: Next) -> Response {
    match request.extensions().get::<Identity>() {
        Some(identity) if !identity.is_anonymous() => next.run(request).await,
        _ => Error::unauthorized().into_response(),
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}
