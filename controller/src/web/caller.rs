//! Who asks: an API client that acts as they.

use axum::extract::FromRequestParts;
use http::request::Parts;
use kube::Client;

use super::Web;
use crate::gateway::error::Refused;

/// A client that acts as whoever sent the request.
pub(super) struct Caller(pub(super) Client);

impl FromRequestParts<Web> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Refused> {
        let client = (web.client_for)(&parts.extensions);
        client.map(Self).ok_or_else(|| Refused::unauthorized("sign in first: send a bearer token"))
    }
}
