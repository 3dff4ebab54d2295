//! Who asks: an API client that acts as they.

use axum::extract::FromRequestParts;
use http::StatusCode;
use http::request::Parts;
use kube::Client;

use super::Web;
use crate::gateway::error::Refused;

/// What to say of an object that the API server does not show: whoever may not see a thing is not told that it is there.
pub(super) fn unseen(error: kube::Error) -> Refused {
    let refused = Refused::from(error);
    if refused.code() == StatusCode::FORBIDDEN {
        Refused::not_found("there is none, or none that you may see")
    } else {
        refused
    }
}

/// A client that acts as whoever sent the request.
pub(super) struct Caller(pub(super) Client);

impl FromRequestParts<Web> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Refused> {
        let client = (web.client_for)(&parts.extensions);
        client.map(Self).ok_or_else(|| Refused::unauthorized("sign in first: send a bearer token"))
    }
}
