//! Lists: one page of a collection, and the body that sends it.

mod joined;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::Error;
use crate::freshness::reach;
use crate::negotiation::Shape;
use crate::objects::Call;
use crate::path::Target;
use crate::query::{Freshness, ListOptions, PageToken};
use crate::respond::{self, Wish};
use crate::selection::Selection;
use crate::server::State;
use crate::store::{Object, Snapshot};

pub(crate) use joined::Joined;

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

/// GET on a collection.
pub(crate) async fn serve(state: &State, call: &Call) -> Result<Response, Error> {
    let wish = call.wish()?;
    let options = ListOptions::parse(&call.query)?;
    let page = page(state, &call.target, &options).await?;
    send(state, call, wish, page).await
}

/// A page in the shape that was asked for.
pub(crate) async fn send(state: &State, call: &Call, wish: Wish, page: Page) -> Result<Response, Error> {
    let kind = &call.target.kind;
    let metadata = page.metadata();
    let now = state.clock.now();
    match wish.accepted.shape {
        // Stored bytes are sent as they are, from where they are.
        Shape::Object if kind.view_of.is_none() => {
            let head = head(&kind.list_kind, &kind.api_version(), &metadata);
            wish.send_list(Joined::new(head, page.objects, |object| &object.body)).await
        }
        Shape::Object => {
            let shown = page.objects.iter().filter_map(|object| respond::face_now(kind, object, now).transpose());
            let items: Vec<Bytes> = shown.collect::<Result<_, _>>()?;
            let head = head(&kind.list_kind, &kind.api_version(), &metadata);
            wish.send_list(Joined::new(head, items, |item| item)).await
        }
        Shape::Metadata(version) => {
            let items = page.objects.iter().map(|object| respond::partial(&respond::face(kind, object)?, version));
            let items: Vec<Bytes> = items.collect::<Result<_, Error>>()?;
            let head = head("PartialObjectMetadataList", &format!("meta.k8s.io/{version}"), &metadata);
            wish.send_list(Joined::new(head, items, |item| item)).await
        }
        Shape::Table(version) => {
            let objects: Vec<Value> = page
                .objects
                .iter()
                .filter_map(|object| respond::tree_now(kind, object, now).transpose())
                .collect::<Result<_, _>>()?;
            let rows = respond::rows(kind, &objects, metadata, wish.include, true, now, version)?;
            wish.send(StatusCode::OK, rows).await
        }
    }
}

/// What stands before the items.
fn head(list_kind: &str, api_version: &str, metadata: &Value) -> String {
    format!(r#"{{"kind":"{list_kind}","apiVersion":"{api_version}","metadata":{metadata},"items":["#)
}
