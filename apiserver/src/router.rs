//! Every path in one list.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::header;

use crate::error::Error;
use crate::query::Query;
use crate::server::State;
use crate::{audit, documents, objects, reviews};

/// The paths. Each is authorised: those that are no resources at the [`entrance`](crate::entrance), the others by their
/// handler.
pub(crate) fn routes(state: &Arc<State>) -> Router {
    let mut routes = Router::new();
    for review in reviews::ALL {
        let answer = move |state: Shared<Arc<State>>, namespace: Option<Path<String>>, request: Request| async move {
            reviews::answer(&state.0, review, namespace.map(|Path(namespace)| namespace), request).await
        };
        routes = routes.route(&review.path(), post(answer).fallback(|| async { Error::method_not_allowed() }));
    }
    routes
        .route("/version", get(documents::version))
        .route("/version/", get(documents::version))
        .route("/livez", get(livez))
        .route("/livez/{check}", get(livez_one))
        .route("/readyz", get(readyz))
        .route("/readyz/{check}", get(readyz_one))
        .route("/healthz", get(healthz))
        .route("/healthz/{check}", get(healthz_one))
        .route("/metrics", get(metrics))
        .route("/openapi/v2", get(documents::openapi_v2))
        .route("/openapi/v3", get(documents::openapi_index))
        .route("/openapi/v3/", get(documents::openapi_index))
        .route("/openapi/v3/{*path}", get(documents::openapi_document))
        .route("/api", get(documents::core))
        .route("/api/", get(documents::core))
        .route("/apis", get(documents::groups))
        .route("/apis/", get(documents::groups))
        .route("/apis/audit.k8s.io/v1/auditevents", get(audit::list))
        .route("/apis/audit.k8s.io/v1/namespaces/{namespace}/auditevents", get(audit::list))
        .route("/api/{*path}", any(objects::serve))
        .route("/apis/{*path}", any(objects::serve))
        .fallback(|| async { Error::no_such_path() })
        .method_not_allowed_fallback(|| async { Error::method_not_allowed() })
        .with_state(Arc::clone(state))
}

async fn livez(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    state.health.answer("livez", None, &Query::parse(request.uri().query()))
}

async fn livez_one(Shared(state): Shared<Arc<State>>, Path(check): Path<String>, request: Request) -> Response {
    state.health.answer("livez", Some(&check), &Query::parse(request.uri().query()))
}

async fn readyz(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    state.health.answer("readyz", None, &Query::parse(request.uri().query()))
}

async fn readyz_one(Shared(state): Shared<Arc<State>>, Path(check): Path<String>, request: Request) -> Response {
    state.health.answer("readyz", Some(&check), &Query::parse(request.uri().query()))
}

async fn healthz(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    state.health.answer("healthz", None, &Query::parse(request.uri().query()))
}

async fn healthz_one(Shared(state): Shared<Arc<State>>, Path(check): Path<String>, request: Request) -> Response {
    state.health.answer("healthz", Some(&check), &Query::parse(request.uri().query()))
}

async fn metrics(Shared(state): Shared<Arc<State>>) -> Result<Response, Error> {
    let text = state.metrics.text().map_err(|error| Error::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
