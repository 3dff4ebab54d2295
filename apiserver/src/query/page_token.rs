//! Where the next page of a list begins: the text in `metadata.continue`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::error::Error;

const VERSION: &str = "meta.k8s.io/v1";

/// A token as it was given out. Clients must not look into it, and can: nothing in it is a secret or trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    v: String,
    /// The revision of the first page; -1 goes on at the newest.
    rv: i64,
    /// `namespace/name` of the last object of the page before.
    start: String,
}

impl PageToken {
    /// The page after an object, of a revision or (`None`) of the newest.
    pub fn new(revision: Option<u64>, namespace: &str, name: &str) -> Self {
        let rv = revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(-1);
        Self { v: VERSION.into(), rv, start: format!("{namespace}/{name}") }
    }

    /// As clients get it.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// 400 for what was not given out here.
    pub fn decode(text: &str) -> Result<Self, Error> {
        let refuse = || Error::bad_request("continue key is not valid: it must be the one of the previous page");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_not_ours| refuse())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_not_ours| refuse())?;
        if token.v == VERSION && token.start.contains('/') { Ok(token) } else { Err(refuse()) }
    }

    /// The revision of the list that it is part of; `None` for the newest, whatever that is.
    pub fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok()
    }

    /// Namespace and name of the object before.
    pub fn after(&self) -> (&str, &str) {
        self.start.split_once('/').unwrap_or_default()
    }

    /// The same place in the newest list.
    #[must_use]
    pub fn at_newest(mut self) -> Self {
        self.rv = -1;
        self
    }
}
