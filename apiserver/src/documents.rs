//! The documents that do not depend on objects: version, discovery, OpenAPI.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::discovery::Aggregated;
use crate::error::Error;
use crate::query::Query;
use crate::respond::{Wish, encode};
use crate::server::State;

/// A year: a document under the hash of its content never changes.
const YEAR: &str = "public, immutable, max-age=31536000";

/// `/version`: the Kubernetes version whose API this is, and ours.
pub(crate) async fn version(request: Request) -> Result<Response, Error> {
    let wish = Wish::read(request.headers(), &Query::parse(request.uri().query()))?.plain();
    let version = json!({
        "major": "1",
        "minor": "35",
        "gitVersion": concat!("v1.35.0+berth.", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    wish.send_value(StatusCode::OK, &version).await
}

/// `/api`
pub(crate) async fn core(Shared(state): Shared<Arc<State>>, request: Request) -> Result<Response, Error> {
    discover(&request.into_parts().0, |form| match form {
        None => state.discovery.core_versions(),
        Some(form) => state.discovery.aggregated_core(form),
    })
    .await
}

/// `/apis`
pub(crate) async fn groups(Shared(state): Shared<Arc<State>>, request: Request) -> Result<Response, Error> {
    discover(&request.into_parts().0, |form| match form {
        None => state.discovery.groups(),
        Some(form) => state.discovery.aggregated_groups(form),
    })
    .await
}

async fn discover(parts: &Parts, document: impl FnOnce(Option<Aggregated>) -> Value) -> Result<Response, Error> {
    let headers = &parts.headers;
    let form = aggregated(headers);
    let body = encode(&document(form))?;
    let etag = etag(&body);
    if matches(headers, &etag) {
        return Ok(not_modified(&etag));
    }
    let mut response = match form {
        None => Wish::read(headers, &Query::parse(parts.uri.query()))?.plain().send(StatusCode::OK, body).await?,
        Some(_) => Response::new(Body::from(body)),
    };
    let out = response.headers_mut();
    let version = match form {
        Some(Aggregated::V2) => Some("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
        Some(Aggregated::V2Beta1) => Some("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
        None => None,
    };
    if let Some(version) = version {
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(version));
    }
    out.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// The form of aggregated discovery that stands first in `Accept`, if one does before plain JSON.
fn aggregated(headers: &HeaderMap) -> Option<Aggregated> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for clause in accept.flat_map(|value| value.split(',')) {
        let parts: Vec<&str> = clause.split(';').map(str::trim).collect();
        if parts.contains(&"as=APIGroupDiscoveryList") && parts.contains(&"g=apidiscovery.k8s.io") {
            if parts.contains(&"v=v2") {
                return Some(Aggregated::V2);
            }
            if parts.contains(&"v=v2beta1") {
                return Some(Aggregated::V2Beta1);
            }
        } else if parts.first() == Some(&"application/json") {
            return None;
        }
    }
    None
}

/// `/apis/<group>` and `/apis/<group>/<version>`.
pub(crate) async fn listed(parts: &Parts, document: Option<Value>) -> Result<Response, Error> {
    let document = document.ok_or_else(Error::no_such_path)?;
    let wish = Wish::read(&parts.headers, &Query::parse(parts.uri.query()))?.plain();
    wish.send_value(StatusCode::OK, &document).await
}

/// `/openapi/v3`
pub(crate) async fn openapi_index(Shared(state): Shared<Arc<State>>, request: Request) -> Result<Response, Error> {
    let wish = Wish::read(request.headers(), &Query::parse(request.uri().query()))?.plain();
    wish.send(StatusCode::OK, state.openapi.index().clone()).await
}

/// `/openapi/v3/<path>`: cached for a year under `?hash=`; an old hash is redirected to the new one.
pub(crate) async fn openapi_document(
    Shared(state): Shared<Arc<State>>,
    Path(path): Path<String>,
    request: Request,
) -> Result<Response, Error> {
    let path = path.trim_end_matches('/');
    let document = state.openapi.document(path).ok_or_else(Error::no_such_path)?;
    let query = Query::parse(request.uri().query());
    let etag = format!("\"{}\"", document.hash);
    let asked = query.get("hash");
    if asked.is_some_and(|asked| asked != document.hash) {
        let place = format!("/openapi/v3/{path}?hash={}", document.hash);
        return Ok((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, place)]).into_response());
    }
    if matches(request.headers(), &etag) {
        return Ok(not_modified(&etag));
    }
    let wish = Wish::read(request.headers(), &query)?.plain();
    let mut response = wish.send(StatusCode::OK, document.body.clone()).await?;
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    if asked.is_some() {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(YEAR));
    }
    Ok(response)
}

/// The names under which clients ask for protobuf, and the one that it has: with the `@` that Go's clients send, Go's own
/// library could not read the answer's header.
const GNOSTIC_ASKED: [&str; 2] = ["application/com.github.proto-openapi.spec.v2@v1.0+protobuf", GNOSTIC];
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// `/openapi/v2`
pub(crate) async fn openapi_v2(Shared(state): Shared<Arc<State>>, request: Request) -> Result<Response, Error> {
    let headers = request.headers();
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first =
        accept.flat_map(|value| value.split(',')).map(|clause| clause.split(';').next().unwrap_or("").trim()).next();
    let protobuf = first.is_some_and(|first| GNOSTIC_ASKED.contains(&first));
    let documents = state.openapi.v2();
    let document = if protobuf { &documents.protobuf } else { &documents.json };
    let etag = format!("\"{}\"", document.hash);
    if matches(headers, &etag) {
        return Ok(not_modified(&etag));
    }
    let mut response = if protobuf {
        ([(header::CONTENT_TYPE, GNOSTIC)], document.body.clone()).into_response()
    } else {
        let wish = Wish::read(headers, &Query::parse(request.uri().query()))?.plain();
        wish.send(StatusCode::OK, document.body.clone()).await?
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

fn etag(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("\"{}\"", hex::encode_upper(digest))
}

fn matches(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*"))
}

fn not_modified(etag: &str) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response()
}
