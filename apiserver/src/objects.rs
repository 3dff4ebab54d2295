//! Requests for objects: who may, and which verb it is; get and list.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::auth::{Attributes, Identity, allows};
use crate::entrance::Label;
use crate::error::Error;
use crate::freshness::{self, reach};
use crate::negotiation::Shape;
use crate::path::{self, Endpoint, Subresource, Target};
use crate::query::{self, Freshness, ListOptions, PageToken, Query};
use crate::respond::{self, Wish};
use crate::selection::Selection;
use crate::selector::FieldSelector;
use crate::server::State;
use crate::store::{Key, Object, Snapshot};
use crate::{audit, definitions, delete, documents, namespaces, scale, service_accounts, streams, watch, write};

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
        ("list", _) => list(state, &call).await,
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

/// One page of a list.
pub(crate) struct Page {
    pub(crate) revision: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    next: Option<String>,
    remaining: Option<usize>,
}

/// The newest state of a target's collection.
pub(crate) fn snapshot(state: &State, target: &Target) -> Snapshot {
    let kind = state.kinds.store_id(target.index);
    if target.across_namespaces() {
        state.store.snapshot_across_namespaces(kind)
    } else {
        state.store.snapshot(kind, target.namespace())
    }
}

fn snapshot_at(state: &State, target: &Target, revision: u64) -> Result<Snapshot, crate::store::Expired> {
    let kind = state.kinds.store_id(target.index);
    if target.across_namespaces() {
        state.store.snapshot_at_across_namespaces(kind, revision)
    } else {
        state.store.snapshot_at(kind, target.namespace(), revision)
    }
}

/// Selects one page.
pub(crate) async fn page(state: &State, target: &Target, options: &ListOptions) -> Result<Page, Error> {
    let selection = Selection::new(target, &options.label_selector, &options.field_selector)?;
    let resume = options.continue_token.as_deref().map(PageToken::decode).transpose()?;
    let snapshot = match &resume {
        Some(token) => {
            if let Some(revision) = token.revision() {
                snapshot_at(state, target, revision).map_err(|_gone| {
                    let fresh = token.clone().at_newest().encode();
                    Error::expired(
                        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
                        Some(fresh),
                    )
                })?
            } else {
                snapshot(state, target)
            }
        }
        None => match options.freshness() {
            Freshness::Latest => snapshot(state, target),
            Freshness::NotOlderThan(revision) => {
                reach(state, revision).await?;
                snapshot(state, target)
            }
            Freshness::Exact(revision) => {
                reach(state, revision).await?;
                snapshot_at(state, target, revision).map_err(|gone| {
                    Error::expired(format!("The resourceVersion for the provided list is too old: {gone}"), None)
                })?
            }
        },
    };
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut objects: Vec<Arc<Object>> = Vec::new();
    let mut more = false;
    let mut collect = |found: &mut dyn Iterator<Item = &Arc<Object>>| -> Result<(), Error> {
        for object in found {
            if !selection.matches(object)? {
                continue;
            }
            if objects.len() == limit {
                more = true;
                break;
            }
            objects.push(Arc::clone(object));
        }
        Ok(())
    };
    match resume.as_ref().map(PageToken::after) {
        Some((namespace, name)) => collect(&mut snapshot.range_after(namespace, name))?,
        None => match selection.only_name().filter(|_| !target.across_namespaces()) {
            Some(name) => collect(&mut snapshot.get(target.namespace(), name).into_iter())?,
            None => collect(&mut snapshot.iter())?,
        },
    }
    let last = objects.last().filter(|_| more);
    let next = last.map(|last| PageToken::new(Some(snapshot.revision), &last.namespace, &last.name).encode());
    let remaining = last
        .filter(|_| selection.is_everything())
        .map(|last| snapshot.range_after(&last.namespace, &last.name).count());
    Ok(Page { revision: snapshot.revision, objects, next, remaining })
}

impl Page {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let Value::Object(map) = &mut metadata {
            if let Some(next) = &self.next {
                map.insert("continue".into(), next.as_str().into());
            }
            if let Some(remaining) = self.remaining {
                map.insert("remainingItemCount".into(), remaining.into());
            }
        }
        metadata
    }
}

async fn list(state: &State, call: &Call) -> Result<Response, Error> {
    let wish = call.wish()?;
    let options = ListOptions::parse(&call.query)?;
    let page = page(state, &call.target, &options).await?;
    send_page(state, call, wish, &page).await
}

/// A page in the shape that was asked for.
pub(crate) async fn send_page(state: &State, call: &Call, wish: Wish, page: &Page) -> Result<Response, Error> {
    let kind = &call.target.kind;
    let metadata = page.metadata();
    let now = state.clock.now();
    let body = match wish.accepted.shape {
        Shape::Object => concatenate(
            &kind.list_kind,
            &kind.api_version(),
            &metadata,
            page.objects.iter().filter_map(|object| respond::face_now(kind, object, now).transpose()),
        )?,
        Shape::Metadata(version) => {
            let items = page.objects.iter().map(|object| respond::partial(&respond::face(kind, object)?, version));
            concatenate("PartialObjectMetadataList", &format!("meta.k8s.io/{version}"), &metadata, items)?
        }
        Shape::Table(version) => {
            let objects: Vec<Value> = page
                .objects
                .iter()
                .filter_map(|object| respond::tree_now(kind, object, now).transpose())
                .collect::<Result<_, _>>()?;
            respond::rows(kind, &objects, metadata, wish.include, true, now, version)?
        }
    };
    wish.send(StatusCode::OK, body).await
}

/// A list is its items' bytes with commas between them.
fn concatenate(
    list_kind: &str,
    api_version: &str,
    metadata: &Value,
    items: impl Iterator<Item = Result<Bytes, Error>>,
) -> Result<Bytes, Error> {
    let items: Vec<Bytes> = items.collect::<Result<_, _>>()?;
    let head = format!(r#"{{"kind":"{list_kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#);
    let mut out = Vec::with_capacity(head.len() + items.iter().map(|item| item.len() + 1).sum::<usize>() + 3);
    out.extend_from_slice(head.as_bytes());
    for (position, item) in items.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.extend_from_slice(b"]}\n");
    Ok(out.into())
}
