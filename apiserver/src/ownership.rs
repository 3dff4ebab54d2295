//! Field ownership in requests: as whom a request writes, and which fields its address can own. What follows from that
//! is decided in [`crate::apply`].

use http::header;
use serde_json::Value;

use crate::apply::{self, Entry, Reach, Writer};
use crate::kind::Kind;
use crate::namespaces;
use crate::objects::Call;
use crate::path::Subresource;
use crate::query::WriteOptions;
use crate::write::Context;

/// The longest name of a manager (`validation.FieldManagerMaxLength`).
const MANAGER_BYTES_MAX: usize = 128;

/// Who owns the fields of a new state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Owners {
    /// The writer owns what it has changed.
    Writer,
    /// An apply has decided: the object's `managedFields`.
    Decided(Option<Value>),
}

impl Owners {
    /// The `managedFields` of `new`, an object as it will be stored; `entries` are those it starts from.
    pub(crate) fn decide(
        &self,
        context: &Context<'_>,
        old: Option<&Value>,
        new: &Value,
        entries: impl FnOnce() -> Vec<Entry>,
    ) -> Option<Value> {
        match self {
            Self::Decided(managed_fields) => managed_fields.clone(),
            Self::Writer => {
                let api_version = context.target.kind.api_version();
                apply::update(
                    &context.state.types[context.target.index],
                    old,
                    new,
                    entries(),
                    &writer(context, &api_version),
                )
            }
        }
    }
}

/// Who writes in a request.
pub(crate) fn writer<'a>(context: &'a Context<'_>, api_version: &'a str) -> Writer<'a> {
    let target = context.target;
    Writer {
        manager: context.options.field_manager.as_deref().unwrap_or(""),
        api_version,
        subresource: target.subresource.map_or("", Subresource::as_str),
        reach: reach(&target.kind, target.subresource),
        time: context.state.clock.now(),
    }
}

/// The top-level fields that an address takes: [`crate::admission::keep`] puts back the others.
fn reach(kind: &Kind, part: Option<Subresource>) -> Reach<'static> {
    match part {
        Some(Subresource::Status) => Reach::Only(&["status"]),
        Some(Subresource::Finalize) => Reach::Only(&["spec"]),
        _ if namespaces::is_namespace(kind) => Reach::AllBut(&["spec", "status"]),
        _ if kind.status => Reach::AllBut(&["status"]),
        _ => Reach::AllBut(&[]),
    }
}

/// The options with a manager: the one that the caller names, or what its `User-Agent` begins with. A part of this
/// process has neither, and is called by its own name.
pub(crate) fn named(mut options: WriteOptions, call: &Call) -> WriteOptions {
    options.field_manager.get_or_insert_with(|| {
        let agent = call.parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
        let agent = agent.and_then(|agent| agent.split('/').next()).unwrap_or("");
        let name = if agent.is_empty() { call.identity.user.strip_prefix("system:").unwrap_or("") } else { agent };
        name.chars().take(MANAGER_BYTES_MAX).collect()
    });
    options
}

/// Whether a patch may be about `managedFields`: it says so, or has escapes that could hide it.
pub(crate) fn may_name_owners(patch: &[u8]) -> bool {
    let has = |text: &[u8]| patch.windows(text.len()).any(|window| window == text);
    has(b"managedFields") || has(b"\\u")
}

/// Writes an object's `managedFields`.
pub(crate) fn put(object: &mut Value, managed_fields: Option<Value>) {
    if let (Some(managed_fields), Some(Value::Object(metadata))) = (managed_fields, object.get_mut("metadata")) {
        metadata.insert("managedFields".into(), managed_fields);
    }
}
