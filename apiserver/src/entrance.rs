//! What every request goes through before its handler: it is counted, gets an id and a deadline, is let in or not, and a
//! panic ends it and nothing else.
//!
//! All of it is one layer. A layer of axum's copies everything inside of it for every request, so that a stack of them
//! costs more than what they do.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tokio::time::{Instant, timeout};

use crate::auth::{Identity, authenticate, authorise_path, unpack};
use crate::error::Error;
use crate::server::State;
use crate::task;

/// Until a response has begun: Kubernetes' default. The lines of a watch come after that.
const REQUEST_SECONDS_MAX: u64 = 60;

pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// What a request turned out to be, for the labels of the metrics; a response extension.
#[derive(Clone)]
pub(crate) struct Label {
    pub(crate) verb: &'static str,
    pub(crate) resource: String,
}

/// For callers from the network: only those with a valid credential, except for public paths, and each only as much as
/// the limits say.
pub(crate) fn from_network(state: &Arc<State>, routes: Router) -> Router {
    let state = Arc::clone(state);
    routes.layer(from_fn(move |request, next: Next| {
        let state = Arc::clone(&state);
        async move { outer(&state, request, async |request| admit(&state, request, next).await).await }
    }))
}

/// For a part of this process, and for users whom it lets ask, as long as what let them in has not ended.
pub(crate) fn from_inside(state: &Arc<State>, identity: Identity, routes: Router) -> Router {
    let state = Arc::clone(state);
    routes.layer(from_fn(move |request, next: Next| {
        let (state, identity) = (Arc::clone(&state), identity.clone());
        async move { outer(&state, request, async |request| admit_from_inside(&state, identity, request, next).await).await }
    }))
}

/// What holds for every request, whoever asks.
async fn outer(
    state: &State,
    mut request: Request,
    inner: impl AsyncFnOnce(Request) -> Result<Response, Error>,
) -> Response {
    let started = Instant::now();
    let head = request.method() == Method::HEAD;
    let id = label(request.headers_mut());
    let uri = request.uri().clone();
    let answering = timeout(Duration::from_secs(REQUEST_SECONDS_MAX), inner(request));
    let result = match AssertUnwindSafe(answering).catch_unwind().await {
        Ok(Ok(result)) => result,
        Ok(Err(_elapsed)) => Err(Error::timeout()),
        Err(panic) => {
            state.metrics.panics.inc();
            tracing::error!(path = uri.path(), message = task::panic_message(&*panic), "a request panicked");
            Err(Error::internal("this request panicked; the server goes on"))
        }
    };
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    if let Some(id) = id {
        headers.insert(AUDIT_ID, id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
    count(state, &mut response, started);
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

/// Every request has an id by which it is found again: the caller's or a new one.
fn label(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let theirs = headers.get(&AUDIT_ID).filter(|id| id.len() <= 64).cloned();
    let id = theirs.or_else(|| HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()).ok());
    if let Some(id) = &id {
        headers.insert(AUDIT_ID, id.clone());
    }
    id
}

fn count(state: &State, response: &mut Response, started: Instant) {
    let label = response.extensions_mut().remove::<Label>();
    let (verb, resource) = label.map_or(("other", String::new()), |label| (label.verb, label.resource));
    let status = response.status();
    state.metrics.requests.with_label_values(&[verb, resource.as_str(), status.as_str()]).inc();
    state.metrics.seconds.with_label_values(&[verb]).observe(started.elapsed().as_secs_f64());
}

async fn admit(state: &Arc<State>, mut request: Request, next: Next) -> Result<Response, Error> {
    unpack(request.headers_mut())?;
    let (mut parts, body) = request.into_parts();
    let identity = authenticate(state, &parts).await?;
    let guard = &state.guard;
    let place = guard.admit(&identity, &parts).await?;
    authorise_path(state, &identity, &parts).await?;
    parts.extensions.insert(identity);
    let response = next.run(Request::from_parts(parts, body)).await;
    Ok(match place {
        // Somebody else may go on; that the response is read is seen to without it.
        Some(place) => {
            drop(place);
            guard.follow(response)
        }
        None => response,
    })
}

async fn admit_from_inside(state: &State, identity: Identity, request: Request, next: Next) -> Result<Response, Error> {
    let (mut parts, body) = request.into_parts();
    if state.accounts.as_ref().is_some_and(|accounts| !accounts.goes_on(&identity)) {
        return Err(Error::unauthorized());
    }
    let _held = state.guard.enter_from_inside().await;
    authorise_path(state, &identity, &parts).await?;
    parts.extensions.insert(identity);
    Ok(next.run(Request::from_parts(parts, body)).await)
}
