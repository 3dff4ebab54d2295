//! From stored bytes to a response: the shape that was asked for, pretty printing, YAML, gzip.
//!
//! The usual answer (JSON, the object itself) is the stored bytes as they are; everything else parses first.

use std::io::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::error::Error;
use crate::kind::Kind;
use crate::list::Joined;
use crate::negotiation::{self, Accepted, Media, Shape};
use crate::query::Query;
use crate::store::Object;
use crate::table::{self, IncludeObject};

/// Shorter bodies are not compressed: Kubernetes' own threshold.
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// How a client wants to be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) accepted: Accepted,
    pub(crate) include: IncludeObject,
    pretty: bool,
    gzip: bool,
}

impl Wish {
    pub(crate) fn read(headers: &HeaderMap, query: &Query) -> Result<Self, Error> {
        Ok(Self {
            accepted: negotiation::accept(headers)?,
            include: IncludeObject::parse(query.get("includeObject")).map_err(Error::bad_request)?,
            pretty: negotiation::pretty(headers, query.maybe_switch("pretty")),
            gzip: negotiation::gzip(headers),
        })
    }

    /// The same client, where only the thing itself can be sent.
    pub(crate) fn plain(mut self) -> Self {
        self.accepted.shape = Shape::Object;
        self
    }

    /// Sends JSON that is ready, in the encoding that was asked for.
    pub(crate) async fn send(self, status: StatusCode, body: Bytes) -> Result<Response, Error> {
        let (body, content_type) = match self.accepted.media {
            Media::Yaml => (yaml(&body)?, "application/yaml"),
            Media::Json if self.pretty => (indented(&body)?, "application/json"),
            Media::Json => (body, "application/json"),
        };
        if self.compresses(body.len()) {
            return Ok(compressed(response(status, content_type, gzipped(std::iter::once(body)).await?)));
        }
        Ok(response(status, content_type, Body::from(body)))
    }

    /// Sends a list, which needs to be in memory as one only if it is to look otherwise.
    pub(crate) async fn send_list<T>(self, list: Joined<T>) -> Result<Response, Error>
    where
        T: Send + Unpin + 'static,
    {
        if self.pretty || self.accepted.media == Media::Yaml {
            return self.send(StatusCode::OK, list.whole()).await;
        }
        if self.compresses(list.left()) {
            return Ok(compressed(response(StatusCode::OK, "application/json", gzipped(list).await?)));
        }
        Ok(response(StatusCode::OK, "application/json", Body::new(list)))
    }

    fn compresses(self, bytes: usize) -> bool {
        self.gzip && bytes > GZIP_BYTES_MIN
    }

    /// Sends a value.
    pub(crate) async fn send_value(self, status: StatusCode, value: &Value) -> Result<Response, Error> {
        let body = serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))?;
        self.send(status, body.into()).await
    }

    /// Sends one object of a kind in the shape that was asked for.
    pub(crate) async fn send_object(
        self,
        status: StatusCode,
        kind: &Kind,
        body: Bytes,
        now: Timestamp,
    ) -> Result<Response, Error> {
        let body = match self.accepted.shape {
            Shape::Object => body,
            Shape::Metadata(version) => partial(&body, version)?,
            Shape::Table(version) => {
                let object = parse(&body)?;
                let revision = object.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
                let metadata = if revision.is_null() { json!({}) } else { json!({"resourceVersion": revision}) };
                rows(kind, &[object], metadata, self.include, true, now, version)?
            }
        };
        self.send(status, body).await
    }
}

/// A table's bytes; the pure module always writes `meta.k8s.io/v1`, older clients ask for `v1beta1`.
pub(crate) fn rows(
    kind: &Kind,
    objects: &[Value],
    metadata: Value,
    include: IncludeObject,
    columns: bool,
    now: Timestamp,
    version: &str,
) -> Result<Bytes, Error> {
    let mut table = table::table(kind, objects, metadata, include, columns, now);
    if version != "v1"
        && let Value::Object(map) = &mut table
    {
        map.insert("apiVersion".into(), format!("meta.k8s.io/{version}").into());
    }
    encode(&table)
}

/// An object as a kind shows it: its stored bytes, or for a view their translation.
pub(crate) fn face(kind: &Kind, object: &Arc<Object>) -> Result<Bytes, Error> {
    translate(kind, &object.body)
}

/// An object as a kind shows it at this moment, for answers that are given once; `None` if it does not show it.
pub(crate) fn face_now(kind: &Kind, object: &Arc<Object>, now: Timestamp) -> Result<Option<Bytes>, Error> {
    match kind.view_of.as_ref().filter(|view| view.shows.is_some() || view.timed.is_some()) {
        None => face(kind, object).map(Some),
        Some(_) => tree_now(kind, object, now)?.as_ref().map(encode).transpose(),
    }
}

/// The same as a tree.
pub(crate) fn tree_now(kind: &Kind, object: &Arc<Object>, now: Timestamp) -> Result<Option<Value>, Error> {
    let stored = parse(&object.body)?;
    let Some(view) = &kind.view_of else { return Ok(Some(stored)) };
    if view.shows.is_some_and(|shows| !shows(&stored)) {
        return Ok(None);
    }
    let mut shown = (view.from_stored)(stored);
    if let Some(timed) = view.timed {
        timed(&mut shown, now);
    }
    Ok(Some(shown))
}

/// Stored bytes as a kind shows them.
pub(crate) fn translate(kind: &Kind, body: &Bytes) -> Result<Bytes, Error> {
    match &kind.view_of {
        None => Ok(body.clone()),
        Some(view) => encode(&(view.from_stored)(parse(body)?)),
    }
}

/// Stored bytes as the tree that a kind shows.
pub(crate) fn tree(kind: &Kind, body: &Bytes) -> Result<Value, Error> {
    let stored = parse(body)?;
    Ok(match &kind.view_of {
        None => stored,
        Some(view) => (view.from_stored)(stored),
    })
}

/// The metadata of an object, copied without being understood.
pub(crate) fn partial(body: &[u8], version: &str) -> Result<Bytes, Error> {
    #[derive(Deserialize)]
    struct Metadata<'a> {
        #[serde(borrow)]
        metadata: &'a RawValue,
    }
    let parsed: Metadata<'_> = serde_json::from_slice(body).map_err(|error| Error::internal(error.to_string()))?;
    let text = format!(
        r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{}}}"#,
        parsed.metadata.get()
    );
    Ok(text.into())
}

pub(crate) fn parse(body: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(body).map_err(|error| Error::internal(error.to_string()))
}

pub(crate) fn encode(value: &Value) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| Error::internal(error.to_string()))
}

fn yaml(body: &[u8]) -> Result<Bytes, Error> {
    let text = serde_saphyr::to_string(&parse(body)?).map_err(|error| Error::internal(error.to_string()))?;
    Ok(text.into())
}

fn indented(body: &[u8]) -> Result<Bytes, Error> {
    let mut text = serde_json::to_vec_pretty(&parse(body)?).map_err(|error| Error::internal(error.to_string()))?;
    text.push(b'\n');
    Ok(text.into())
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn compressed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Some ten milliseconds a megabyte: not on a thread that serves others.
async fn gzipped(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Result<Body, Error> {
    let zipped = tokio::task::spawn_blocking(move || gzip(pieces))
        .await
        .map_err(|error| Error::internal(error.to_string()))?
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(Body::from(zipped))
}

fn gzip(pieces: impl Iterator<Item = Bytes>) -> std::io::Result<Bytes> {
    // The fastest level, as Kubernetes uses it: JSON shrinks tenfold even so.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for piece in pieces {
        encoder.write_all(&piece)?;
    }
    Ok(encoder.finish()?.into())
}
