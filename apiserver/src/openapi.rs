//! `/openapi/v3`: the index and a document for each group and version.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::kind::Kind;

/// The OpenAPI v3 documents of a set of kinds, ready to send.
#[derive(Clone, Debug)]
pub struct OpenApi {
    index: Bytes,
    documents: BTreeMap<String, Document>,
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
    /// Builds all documents.
    pub fn new(kinds: &[Kind]) -> Self {
        let _ = kinds;
        Self { index: Bytes::new(), documents: BTreeMap::new() }
    }

    /// The body of `/openapi/v3`.
    pub fn index(&self) -> &Bytes {
        &self.index
    }

    /// The document at `/openapi/v3/{path}`, for example `apis/berth.dev/v1alpha1` or `api/v1`.
    pub fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path)
    }
}
