//! Reading the log: `GET /apis/audit.k8s.io/v1/[namespaces/{namespace}/]auditevents`, a list like any other, so that
//! `kubectl get auditevents` shows it and roles say who may.

use std::sync::Arc;

use axum::extract::{Path, Request, State as Shared};
use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::auth::{Attributes, Identity, allows};
use crate::discovery::Resource;
use crate::error::Error;
use crate::kind::Scope;
use crate::query::Query;
use crate::respond::Wish;
use crate::server::State;
use crate::store::{AuditEntry, AuditQuery};

/// The group of audit records, which is Kubernetes'.
const GROUP: &str = "audit.k8s.io";
/// Not `events`, of which there are two already.
const PLURAL: &str = "auditevents";
/// One page: at about 700 bytes each, less than a megabyte.
const LIMIT_MAX: u32 = 1_000;
/// Who names no limit gets this many.
const LIMIT_DEFAULT: u32 = 100;

/// The row of discovery.
pub(crate) fn row() -> Resource {
    Resource {
        group: GROUP.into(),
        version: "v1".into(),
        kind: "Event".into(),
        plural: PLURAL.into(),
        singular: "auditevent".into(),
        scope: Scope::Namespaced,
        verbs: vec!["list".into()],
        short_names: Vec::new(),
        categories: Vec::new(),
        subresources: Vec::new(),
    }
}

/// The newest records that somebody asks for and may see.
pub(crate) async fn list(
    Shared(state): Shared<Arc<State>>,
    namespace: Option<Path<String>>,
    request: Request,
) -> Result<Response, Error> {
    let (parts, _body) = request.into_parts();
    let identity = parts.extensions.get::<Identity>().ok_or_else(Error::unauthorized)?;
    let namespace = namespace.map(|Path(namespace)| namespace);
    let attributes = Attributes {
        verb: "list".into(),
        group: GROUP.into(),
        version: "v1".into(),
        resource: PLURAL.into(),
        namespace: namespace.clone().unwrap_or_default(),
        ..Attributes::default()
    };
    if !allows(&*state.authorizer, identity, &attributes).await {
        return Err(Error::forbidden(GROUP, PLURAL, "", &attributes.refusal(identity)));
    }
    let query = Query::parse(parts.uri.query());
    // A list in the place of a watch would be asked for again and again.
    if query.switch("watch") {
        return Err(Error::method_not_allowed());
    }
    let wish = Wish::read(&parts.headers, &query)?;
    let asked = asked(&query, namespace, state.clock.now())?;
    let (limit, mut found) =
        (asked.limit as usize, state.store.audit(AuditQuery { limit: asked.limit + 1, ..asked }).await?);
    let more = found.len() > limit;
    found.truncate(limit);
    let mut metadata = json!({"resourceVersion": state.store.revision().to_string()});
    if let (true, Some(last)) = (more, found.last()) {
        metadata["continue"] = last.id.to_string().into();
    }
    let items: Vec<Value> = found.iter().map(item).collect();
    let body = match wish.accepted.shape {
        crate::negotiation::Shape::Table(version) => table(&items, &metadata, version),
        _ => json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": metadata, "items": items}),
    };
    wish.send_value(StatusCode::OK, &body).await
}

fn asked(query: &Query, namespace: Option<String>, now: Timestamp) -> Result<AuditQuery, Error> {
    let text = |name: &str| query.get(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let limit = match query.get("limit").filter(|limit| !limit.is_empty()) {
        None => LIMIT_DEFAULT,
        Some(limit) => match limit.parse::<u32>() {
            Ok(0) => LIMIT_DEFAULT,
            Ok(limit) => limit.min(LIMIT_MAX),
            Err(error) => return Err(Error::bad_request(format!("limit: {limit:?}: {error}"))),
        },
    };
    let before = match query.get("continue").filter(|token| !token.is_empty()) {
        None => None,
        Some(token) => Some(token.parse().map_err(|error| Error::bad_request(format!("continue: {error}")))?),
    };
    let since = query.get("since").filter(|since| !since.is_empty()).map(|since| moment(since, now)).transpose()?;
    Ok(AuditQuery {
        namespace: namespace.or_else(|| text("namespace")),
        user: text("user"),
        resource: text("resource"),
        verb: text("verb"),
        since,
        before,
        limit,
    })
}

/// A time as RFC 3339 has it, or so many seconds ago.
fn moment(text: &str, now: Timestamp) -> Result<Timestamp, Error> {
    let ago = text.parse::<i32>().ok().filter(|seconds| *seconds >= 0);
    let moment = ago.map(|seconds| now - SignedDuration::from_secs(seconds.into())).or_else(|| text.parse().ok());
    moment.ok_or_else(|| {
        Error::bad_request(format!(
            "since: {text:?} must be a number of seconds, or a time such as 2026-01-31T12:00:00Z"
        ))
    })
}

/// A record with the metadata that clients want of everything.
fn item(entry: &AuditEntry) -> Value {
    let mut record: Value = serde_json::from_str(&entry.record).unwrap_or_default();
    let namespace = record.pointer("/objectRef/namespace").cloned();
    let mut metadata = json!({
        "name": entry.id.to_string(),
        "creationTimestamp": record.get("requestReceivedTimestamp").cloned(),
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace;
    }
    record["metadata"] = metadata;
    record
}

fn table(items: &[Value], metadata: &Value, version: &str) -> Value {
    let columns: Vec<Value> = ["Time", "User", "Verb", "Object", "Code", "Changes"]
        .iter()
        .map(|name| json!({"name": name, "type": "string", "format": if *name == "Object" { "name" } else { "" }, "description": "", "priority": 0}))
        .collect();
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({"cells": cells(item), "object": {
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"],
            }})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata, "columnDefinitions": columns, "rows": rows})
}

fn cells(item: &Value) -> Vec<Value> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let user = match text("/impersonatedUser/username") {
        "" => text("/user/username").to_owned(),
        other => format!("{} as {other}", text("/user/username")),
    };
    let parts = [text("/objectRef/resource"), text("/objectRef/name"), text("/objectRef/subresource")];
    let object = match parts[0] {
        "" => text("/requestURI").to_owned(),
        _ => parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/"),
    };
    let changed = item["changes"].as_array().into_iter().flatten().filter_map(|change| change["path"].as_str());
    let changed: Vec<&str> = changed.take(5).collect();
    let time = text("/requestReceivedTimestamp");
    let time = time.get(..19).map_or_else(String::new, |time| format!("{time}Z"));
    vec![
        time.into(),
        user.into(),
        text("/verb").into(),
        object.into(),
        item.pointer("/responseStatus/code").cloned().unwrap_or_default(),
        changed.join(",").into(),
    ]
}
