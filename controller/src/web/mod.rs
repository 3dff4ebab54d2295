//! The routes under `/api/paas`: what a person does that is not a change of one field. Each changes a resource, or
//! reads what no resource holds, as whoever asks: the API server decides who may what, and nothing here does.

mod actions;
mod caller;
mod lines;
mod logs;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post};
use http::Extensions;
use kube::Client;

use crate::gateway::Gateway;

/// Makes a client that acts as whoever sent a request, as far as the server's authentication has noted it in the
/// request's extensions; `None` for nobody.
pub type ClientFor = Arc<dyn Fn(&Extensions) -> Option<Client> + Send + Sync>;

/// A request to these routes has a few fields.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Clone)]
struct Web {
    gateway: Gateway,
    client_for: ClientFor,
}

/// The routes, to be served behind the API server's authentication.
pub fn router(gateway: &Gateway, client_for: ClientFor) -> Router {
    Router::new()
        .route("/api/paas/applications/{namespace}/{name}/logs", get(logs::application))
        .route("/api/paas/applications/{namespace}/{name}/deploy", post(actions::deploy))
        .route("/api/paas/applications/{namespace}/{name}/restart", post(actions::restart))
        .route("/api/paas/applications/{namespace}/{name}/stop", post(actions::stop))
        .route("/api/paas/applications/{namespace}/{name}/start", post(actions::start))
        .route("/api/paas/applications/{namespace}/{name}/rollback", post(actions::rollback))
        .route("/api/paas/applications/{namespace}/{name}/scale", post(actions::scale))
        .route("/api/paas/builds/{namespace}/{name}/logs", get(logs::build))
        .route("/api/paas/nodes/tokens", get(tokens::list).post(tokens::create))
        .route("/api/paas/nodes/tokens/{id}", delete(tokens::revoke))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Web { gateway: gateway.clone(), client_for })
}
