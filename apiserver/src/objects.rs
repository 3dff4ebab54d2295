//! Requests for objects: who may, and which verb it is; get.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::auth::{Attributes, Identity, allows};
use crate::entrance::Label;
use crate::error::Error;
use crate::freshness::{self, reach};
use crate::path::{self, Endpoint, Subresource, Target};
use crate::query::{self, Query};
use crate::respond::{self, Wish};
use crate::selector::FieldSelector;
use crate::server::State;
use crate::store::{Key, Object};
use crate::{audit, definitions, delete, documents, list, namespaces, scale, service_accounts, streams, watch, write};

/// Kubernetes' bound for request bodies.
pub(crate) const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// One request for a resource, taken apart.
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) identity: Identity,
    pub(crate) query: Query,
    pub(crate) parts: Parts,
}

impl Call {
    pub(crate) fn wish(&self) -> Result<Wish, Error> {
        Wish::read(&self.parts.headers, &self.query)
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.parts.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    }
}

/// Everything under `/api/` and `/apis/` that is not a document or a review.
pub(crate) async fn serve(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (label, result) = answer(&state, parts, body).await;
    let mut response = result.unwrap_or_else(IntoResponse::into_response);
    if let Some(label) = label {
        response.extensions_mut().insert(label);
    }
    response
}

async fn answer(state: &Arc<State>, parts: Parts, body: Body) -> (Option<Label>, Result<Response, Error>) {
    let Some(identity) = parts.extensions.get::<Identity>().cloned() else {
        return (None, Err(Error::unauthorized()));
    };
    let readable = matches!(parts.method, Method::GET | Method::HEAD);
    let target = match path::resolve(&state.kinds, parts.uri.path()) {
        Endpoint::Resource(target) => target,
        Endpoint::Unknown => return (None, Err(Error::no_such_path())),
        Endpoint::Group(_) | Endpoint::Version { .. } if !readable => return (None, Err(Error::method_not_allowed())),
        Endpoint::Group(group) => {
            let document = state.discovery.group(&group);
            return (None, documents::listed(&parts, document).await);
        }
        Endpoint::Version { group, version } => {
            let document = state.discovery.resources(&group, &version);
            return (None, documents::listed(&parts, document).await);
        }
    };
    let query = Query::parse(parts.uri.query());
    let call = Call { target, identity, query, parts };
    let Some(verb) = verb(&call) else { return (None, Err(Error::method_not_allowed())) };
    let label = Label { verb, resource: call.target.kind.qualified_plural() };
    let kind = &call.target.kind;
    if call.target.subresource.is_none() && !kind.verbs().contains(&verb) {
        let error = match &kind.view_of {
            Some(view) => Error::only_a_view(kind, verb, &format!("{}.{}", view.plural, view.group)),
            None => Error::method_not_allowed(),
        };
        return (Some(label), Err(error));
    }
    let noted = (!matches!(verb, "get" | "list" | "watch")).then(|| (call.target.clone(), call.identity.clone()));
    let result = match authorise(state, &call, verb).await {
        Ok(()) => act(state, call, verb, body).await,
        Err(error) => Err(error),
    };
    if let (Err(error), Some((target, identity))) = (&result, &noted) {
        audit::note_refusal(state, target, identity, verb, error);
    }
    (Some(label), result)
}

/// The Kubernetes verb of a request; `None` if the address has none for this method.
fn verb(call: &Call) -> Option<&'static str> {
    let (target, named) = (&call.target, call.target.name.is_some());
    let part = target.subresource;
    if part.is_some_and(Subresource::is_stream) {
        return match call.parts.method {
            Method::GET => Some("get"),
            Method::POST if part != Some(Subresource::Log) => Some("create"),
            _ => None,
        };
    }
    match call.parts.method {
        Method::GET | Method::HEAD if target.watch || (!named && call.query.switch("watch")) => Some("watch"),
        Method::POST if part == Some(Subresource::Token) => Some("create"),
        _ if part == Some(Subresource::Token) => None,
        Method::GET | Method::HEAD if part == Some(Subresource::Finalize) => None,
        Method::GET | Method::HEAD => Some(if named { "get" } else { "list" }),
        _ if target.watch || definitions::is_definition(&target.kind) => None,
        Method::POST if !named && !target.across_namespaces() => Some("create"),
        Method::PUT if named => Some("update"),
        Method::PATCH if named && part != Some(Subresource::Finalize) => Some("patch"),
        Method::DELETE if named && part.is_none() => Some("delete"),
        Method::DELETE if !named && !target.across_namespaces() => Some("deletecollection"),
        _ => None,
    }
}

pub(crate) async fn authorise(state: &State, call: &Call, verb: &str) -> Result<(), Error> {
    let (target, identity) = (&call.target, &call.identity);
    if target.name.is_none()
        && matches!(verb, "list" | "watch")
        && let Some(fields) = call.query.get("fieldSelector")
        && let Ok(fields) = FieldSelector::parse(fields)
        && let Some(name) = fields.name()
    {
        // Who selects one object by its name asks for that one, and for no more than who gets it.
        let named = Target { name: Some(name.to_owned()), ..target.clone() };
        if authorise_target(state, &named, identity, verb).await.is_ok() {
            return Ok(());
        }
    }
    authorise_target(state, target, identity, verb).await
}

/// 403 for who may not do this to that.
pub(crate) async fn authorise_target(
    state: &State,
    target: &Target,
    identity: &Identity,
    verb: &str,
) -> Result<(), Error> {
    let attributes = Attributes {
        verb: verb.into(),
        group: target.kind.group.clone(),
        version: target.kind.version.clone(),
        resource: target.kind.plural.clone(),
        subresource: target.subresource.map_or("", Subresource::as_str).into(),
        // A Namespace can be read and changed by whoever has a role in it that says so.
        namespace: if namespaces::is_namespace(&target.kind) { target.name() } else { target.namespace() }.into(),
        name: target.name().into(),
        path: String::new(),
    };
    if allows(&*state.authorizer, identity, &attributes).await {
        return Ok(());
    }
    Err(Error::forbidden(&target.kind.group, &target.kind.plural, target.name(), &attributes.refusal(identity)))
}

async fn act(state: &Arc<State>, call: Call, verb: &str, body: Body) -> Result<Response, Error> {
    let fresh = freshness::ensure(state, &call, verb).await;
    let mut response = perform(state, call, verb, body).await?;
    if let Err(stale) = fresh {
        write::warn(&mut response, &[stale.to_string()]);
    }
    Ok(response)
}

async fn perform(state: &Arc<State>, call: Call, verb: &str, body: Body) -> Result<Response, Error> {
    match (verb, call.target.subresource) {
        (_, Some(part)) if part.is_stream() => streams::serve(state, call, part).await,
        ("get", Some(Subresource::Scale)) => scale::get(state, &call).await,
        ("create", Some(Subresource::Token)) => service_accounts::token(state, &call, read(body).await?).await,
        ("get", _) => get(state, &call).await,
        ("list", _) => list::serve(state, &call).await,
        ("watch", _) => watch::start(state, call).await,
        ("create", _) => write::create(state, &call, read(body).await?).await,
        ("update", _) => write::replace(state, &call, read(body).await?).await,
        ("patch", _) => write::patch(state, &call, read(body).await?).await,
        ("delete", _) => delete::one(state, &call, read(body).await?).await,
        ("deletecollection", _) => delete::collection(state, &call, read(body).await?).await,
        _ => Err(Error::method_not_allowed()),
    }
}

/// The whole body, up to Kubernetes' bound.
pub(crate) async fn read(body: Body) -> Result<Bytes, Error> {
    axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| {
        let cause = std::error::Error::source(&error);
        let too_long = cause.and_then(|cause| cause.downcast_ref::<http_body_util::LengthLimitError>()).is_some();
        if too_long {
            Error::too_large(format!("Request entity too large: limit is {BODY_BYTES_MAX}"))
        } else {
            Error::bad_request(format!("the body could not be read: {error}"))
        }
    })
}

/// The stored object behind a target.
pub(crate) fn find(state: &State, target: &Target) -> Result<Arc<Object>, Error> {
    let key = Key::new(state.kinds.store_id(target.index), target.namespace(), target.name());
    state.store.get(&key).ok_or_else(|| Error::not_found(&target.kind, target.name()))
}

async fn get(state: &State, call: &Call) -> Result<Response, Error> {
    let wish = call.wish()?;
    if let Some(revision) = query::resource_version(call.query.get("resourceVersion"))? {
        reach(state, revision).await?;
    }
    let object = find(state, &call.target)?;
    let body = respond::face_now(&call.target.kind, &object, state.clock.now())?
        .ok_or_else(|| Error::not_found(&call.target.kind, call.target.name()))?;
    wish.send_object(StatusCode::OK, &call.target.kind, body, state.clock.now()).await
}
