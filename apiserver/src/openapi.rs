//! `/openapi/v3`: the index and a document for each group and version, made from the kinds' schemas; and `/openapi/v2`,
//! made from those.
//!
//! kubectl reads them for `explain`, and to learn that the server validates fields itself (the `fieldValidation`
//! parameter of every PATCH).

mod common;
mod gnostic;
mod paths;
mod v2;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::kind::Kind;
use crate::kinds::Kinds;

/// The OpenAPI documents of a set of kinds. They are made when somebody asks, since a server is to start in milliseconds,
/// and then kept.
pub struct OpenApi {
    kinds: Kinds,
    v3: OnceLock<V3>,
    v2: OnceLock<V2>,
}

/// The documents of version 3.
struct V3 {
    index: Bytes,
    documents: BTreeMap<String, Document>,
}

/// The document of version 2 in both its forms.
#[derive(Clone, Debug)]
pub struct V2 {
    /// Swagger 2.0.
    pub json: Document,
    /// The same, as gnostic writes it.
    pub protobuf: Document,
}

/// One document.
#[derive(Clone, Debug)]
pub struct Document {
    /// The JSON text.
    pub body: Bytes,
    /// A hash of it, as in the index's `?hash=`; also its ETag.
    pub hash: String,
}

impl OpenApi {
    /// The documents of these kinds.
    pub fn new(kinds: Kinds) -> Self {
        Self { kinds, v3: OnceLock::new(), v2: OnceLock::new() }
    }

    fn v3(&self) -> &V3 {
        self.v3.get_or_init(|| V3::new(self.kinds.all()))
    }

    /// The bodies of `/openapi/v2`.
    pub fn v2(&self) -> &V2 {
        self.v2.get_or_init(|| {
            let documents = self.v3().documents.values().filter_map(|one| serde_json::from_slice(&one.body).ok());
            let document = v2::document(&documents.collect::<Vec<Value>>());
            V2 {
                json: Document::new(document.to_string().into()),
                protobuf: Document::new(gnostic::document(&document).into()),
            }
        })
    }

    /// The body of `/openapi/v3`.
    pub fn index(&self) -> &Bytes {
        &self.v3().index
    }

    /// The document at `/openapi/v3/{path}`, for example `apis/berth.dev/v1alpha1` or `api/v1`.
    pub fn document(&self, path: &str) -> Option<&Document> {
        self.v3().documents.get(path)
    }
}

impl V3 {
    fn new(kinds: &[Arc<Kind>]) -> Self {
        let mut groups: BTreeMap<String, Vec<&Kind>> = BTreeMap::new();
        for kind in kinds {
            let path = if kind.group.is_empty() {
                format!("api/{}", kind.version)
            } else {
                format!("apis/{}/{}", kind.group, kind.version)
            };
            groups.entry(path).or_default().push(kind);
        }
        let documents: BTreeMap<String, Document> = groups
            .into_iter()
            .map(|(path, kinds)| (path, Document::new(document(&kinds).to_string().into())))
            .collect();
        let entry = |(path, document): (&String, &Document)| {
            (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.hash)}))
        };
        let index = json!({"paths": documents.iter().map(entry).collect::<Map<_, _>>()});
        Self { index: Bytes::from(index.to_string()), documents }
    }
}

impl Document {
    fn new(body: Bytes) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        Self { body, hash: hex::encode_upper(digest) }
    }
}

/// The document of one group and version.
fn document(kinds: &[&Kind]) -> Value {
    let mut schemas = common::schemas(kinds);
    let mut paths = Map::new();
    for kind in kinds {
        let name = schema_name(kind);
        let gvk = json!([{"group": kind.group, "version": kind.version, "kind": kind.kind}]);
        let list_gvk = json!([{"group": kind.group, "version": kind.version, "kind": kind.list_kind}]);
        let mut schema = kind.schema.clone();
        schema["x-kubernetes-group-version-kind"] = gvk;
        let metadata = json!({"allOf": [{"$ref": common::OBJECT_META}], "default": {}, "description": "Standard object's metadata."});
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert("metadata".to_owned(), metadata);
            let describe = |property: &mut Value, text: &str| {
                if property.get("description").is_none() {
                    property["description"] = json!(text);
                }
            };
            describe(
                properties.entry("apiVersion").or_insert_with(|| json!({"type": "string"})),
                "The versioned schema of this representation of an object.",
            );
            describe(
                properties.entry("kind").or_insert_with(|| json!({"type": "string"})),
                "The REST resource this object represents.",
            );
        }
        schemas.insert(name.clone(), schema);
        schemas.insert(
            format!("{name}List"),
            json!({
                "type": "object",
                "description": format!("{} is a list of {}", kind.list_kind, kind.kind),
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"allOf": [{"$ref": common::LIST_META}], "default": {}},
                    "items": {"type": "array", "items": {"allOf": [{"$ref": reference(&name)}], "default": {}}},
                },
                "x-kubernetes-group-version-kind": list_gvk,
            }),
        );
        paths::add(&mut paths, kind, &reference(&name), &reference(&format!("{name}List")));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Berth", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn reference(name: &str) -> String {
    format!("#/components/schemas/{name}")
}

/// The name of a kind's schema: Kubernetes' own for its kinds, the reversed group for others
/// (`dev.berth.v1alpha1.Application`).
fn schema_name(kind: &Kind) -> String {
    let group = match kind.group.as_str() {
        "" => "io.k8s.api.core".to_owned(),
        group if group.ends_with(".k8s.io") => format!("io.k8s.api.{}", group.trim_end_matches(".k8s.io")),
        group => group.split('.').rev().collect::<Vec<_>>().join("."),
    };
    format!("{group}.{}.{}", kind.version, kind.kind)
}

#[cfg(test)]
mod tests;
