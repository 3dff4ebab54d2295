//! Every path in one list, and what all requests have in common: audit id, deadline, panics, counting.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, header};

use crate::auth::{authenticate, guard, unpack};
use crate::error::Error;
use crate::query::Query;
use crate::server::State;
use crate::{audit, documents, guard, objects, reviews, task};

/// Until a response has begun: Kubernetes' default. The lines of a watch come after that.
const REQUEST_SECONDS_MAX: u64 = 60;

pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The paths. Each is authorised: those that are no resources by [`guarded`], the others by their handler.
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

/// Only callers with a valid credential, except for public paths, and each only as much as the limits say.
pub(crate) fn authenticated(state: &Arc<State>, routes: Router) -> Router {
    routes
        .layer(from_fn_with_state(Arc::clone(state), guard::admit))
        .layer(from_fn_with_state(Arc::clone(state), authenticate))
        .layer(from_fn(unpack))
}

/// For parts of this process.
pub(crate) fn from_inside(state: &Arc<State>, routes: Router) -> Router {
    routes.layer(from_fn_with_state(Arc::clone(state), guard::admit_from_inside))
}

/// Only who may, as far as the path tells; requests for resources are authorised by their handler.
pub(crate) fn guarded(state: &Arc<State>, routes: Router) -> Router {
    routes.layer(from_fn_with_state(Arc::clone(state), guard))
}

/// What holds for every request, whoever asks.
pub(crate) fn outer(state: &Arc<State>, routes: Router) -> Router {
    routes
        .layer(from_fn(deadline))
        .layer(from_fn_with_state(Arc::clone(state), survive))
        .layer(from_fn(label))
        .layer(from_fn_with_state(Arc::clone(state), count))
}

/// Every request has an id by which it is found again: the caller's or a new one.
async fn label(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&AUDIT_ID)
        .filter(|id| id.len() <= 64)
        .cloned()
        .or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok());
    if let Some(id) = &id {
        request.headers_mut().insert(AUDIT_ID, id.clone());
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(AUDIT_ID, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    response
}

async fn deadline(request: Request, next: Next) -> Response {
    match tokio::time::timeout(Duration::from_secs(REQUEST_SECONDS_MAX), next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => Error::timeout().into_response(),
    }
}

/// A panic fails its own request and nothing else.
async fn survive(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => {
            state.metrics.panics.inc();
            tracing::error!(%path, message = task::panic_message(&*panic), "a request panicked");
            Error::internal("this request panicked; the server goes on").into_response()
        }
    }
}

/// What a request turned out to be, for the labels of the metrics; a response extension.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
}

async fn count(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let started = tokio::time::Instant::now();
    let head = request.method() == Method::HEAD;
    let mut response = next.run(request).await;
    let label = response.extensions_mut().remove::<Label>();
    let (verb, resource) = label.map_or(("other", String::new()), |label| (label.verb, label.resource));
    let code = response.status().as_u16().to_string();
    state.metrics.requests.with_label_values(&[verb, resource.as_str(), code.as_str()]).inc();
    state.metrics.seconds.with_label_values(&[verb]).observe(started.elapsed().as_secs_f64());
    if head {
        *response.body_mut() = Body::empty();
    }
    response
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

async fn metrics(Shared(state): Shared<Arc<State>>, request: Request) -> Result<Response, Error> {
    objects::authorise_path(&state, &request.into_parts().0, "get").await?;
    let text = state.metrics.text().map_err(|error| Error::internal(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}
