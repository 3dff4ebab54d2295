//! Applying, checked against the cases that Kubernetes' own library is checked with, against its laws, and in detail.

mod laws;
mod objects;
mod sets;
mod typed;
mod vectors;

use jiff::Timestamp;
use serde_json::Value;

use super::{FieldSet, Reach, Writer};

/// A writer to `v1` at some time.
fn writer(manager: &str) -> Writer<'_> {
    Writer { manager, api_version: "v1", subresource: "", reach: Reach::AllBut(&[]), time: Timestamp::UNIX_EPOCH }
}

/// The paths of a set, sorted.
fn paths(set: &FieldSet) -> Vec<String> {
    let mut paths: Vec<String> = set.paths().iter().map(ToString::to_string).collect();
    paths.sort();
    paths
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
