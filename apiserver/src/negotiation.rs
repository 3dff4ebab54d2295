//! Which shape and encoding a client wants, and which encoding its body has. Pure.

use http::{HeaderMap, header};

use crate::error::Error;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What an object is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Itself.
    Object,
    /// The columns that `kubectl get` prints; with the version of `meta.k8s.io` that was asked for.
    Table(&'static str),
    /// Only its metadata.
    Metadata(&'static str),
}

/// The answer to an `Accept` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// JSON or YAML.
    pub media: Media,
    /// The shape.
    pub shape: Shape,
}

/// The first clause of `Accept` that can be served; 406 when there is none. Quality values are not weighed: every
/// client seen lists its wishes in order.
pub fn accept(headers: &HeaderMap) -> Result<Accepted, Error> {
    let mut clauses = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
    if clauses.peek().is_none() {
        return Ok(Accepted { media: Media::Json, shape: Shape::Object });
    }
    clauses
        .flat_map(|value| value.split(','))
        .filter(|clause| !clause.trim().is_empty())
        .find_map(clause)
        .ok_or_else(Error::not_acceptable)
}

fn clause(clause: &str) -> Option<Accepted> {
    let mut parts = clause.split(';').map(str::trim);
    let media = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "application/*" | "*/*" | "" => Media::Json,
        "application/yaml" => Media::Yaml,
        _ => return None,
    };
    let (mut as_kind, mut version, mut group) = (None, "", "");
    for part in parts {
        match part.split_once('=').map(|(k, v)| (k.trim(), v.trim())) {
            Some(("as", value)) => as_kind = Some(value),
            Some(("v", value)) => version = value,
            Some(("g", value)) => group = value,
            // Another kind of stream asks for something we do not write; other parameters (`q`, `charset`) change nothing.
            Some(("stream", kind)) if kind != "watch" => return None,
            _ => {}
        }
    }
    let meta_version = match version {
        "v1" => "v1",
        "v1beta1" => "v1beta1",
        _ => "",
    };
    let shape = match as_kind {
        None => Shape::Object,
        Some("Table") if group == "meta.k8s.io" && !meta_version.is_empty() => Shape::Table(meta_version),
        Some("PartialObjectMetadata" | "PartialObjectMetadataList")
            if group == "meta.k8s.io" && !meta_version.is_empty() =>
        {
            Shape::Metadata(meta_version)
        }
        Some(_) => return None,
    };
    Some(Accepted { media, shape })
}

/// The media type of a body without its parameters, lower case; JSON when the client does not say (python's does not).
pub fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .map(|v| v.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
        .filter(|v| !v.is_empty())
        .unwrap_or_else(|| "application/json".to_owned())
}

/// Whether a person reads the answer: asked for, or a browser or command-line fetcher as Kubernetes guesses.
pub fn pretty(headers: &HeaderMap, parameter: Option<bool>) -> bool {
    parameter.unwrap_or_else(|| {
        headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).is_some_and(|agent| {
            agent.starts_with("curl") || agent.starts_with("Wget") || agent.starts_with("Mozilla/5.0")
        })
    })
}

/// Whether the client reads gzip.
pub fn gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.split(';').map(str::trim))
        .any(|mut parts| parts.next() == Some("gzip") && !parts.any(|p| p == "q=0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(value: &str) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        accept(&headers).ok()
    }

    #[test]
    fn the_first_clause_that_can_be_written_wins() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(table).unwrap().shape, Shape::Table("v1"));
        assert_eq!(accepted("application/vnd.kubernetes.protobuf,application/json").unwrap().shape, Shape::Object);
        assert_eq!(accepted("application/vnd.kubernetes.protobuf, */*").unwrap().media, Media::Json);
        assert_eq!(
            accepted("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").unwrap().shape,
            Shape::Metadata("v1")
        );
        assert_eq!(accepted("application/vnd.kubernetes.protobuf"), None);
        assert_eq!(accepted("application/json;as=Chair;v=v1;g=meta.k8s.io"), None);
        assert_eq!(accepted("text/html,*/*;q=0.8").unwrap().media, Media::Json);
    }
}
