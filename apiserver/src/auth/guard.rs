//! Paths that are no resources: refused unless somebody allows them, whatever handler stands behind them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;

use super::{Attributes, Identity, allows};
use crate::error::Error;
use crate::server;
use crate::{audit, path};

/// Lets requests through that are authorised by their path, and those for resources, which are authorised when it is
/// known what they are about.
pub(crate) async fn guard(State(state): State<Arc<server::State>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path::is_resource(path) {
        return next.run(request).await;
    }
    let Some(identity) = request.extensions().get::<Identity>() else { return Error::unauthorized().into_response() };
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let wanted = Attributes::of_path(&method.as_str().to_ascii_lowercase(), path);
    if allows(&*state.authorizer, identity, &wanted).await {
        return next.run(request).await;
    }
    // Of who is nobody there is nothing to be told, and anybody could fill the log.
    if wanted.verb != "get" && !identity.is_anonymous() {
        audit::note_path(&state, identity, &wanted.verb, path, 403);
    }
    Error::forbidden_path(&identity.user, &wanted.verb, path).into_response()
}
