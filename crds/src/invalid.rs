//! One wrong field, in Kubernetes' words.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, for example `spec.domains[0]`.
    pub field: String,
    /// The value and what is allowed, for example `Invalid value: "a b": must be a host name`.
    pub message: String,
}

impl Invalid {
    /// A value that breaks a rule; `allowed` says which values do not.
    pub fn value(field: impl Into<String>, value: impl std::fmt::Debug, allowed: impl std::fmt::Display) -> Self {
        Self { field: field.into(), message: format!("Invalid value: {value:?}: {allowed}") }
    }
}

/// Runs a typed check on an object given as JSON.
///
/// An object that does not even have the type's shape is left to the schema, which says so in better words.
pub(crate) fn typed<K: DeserializeOwned>(object: &Value, check: impl Fn(&K) -> Vec<Invalid>) -> Vec<Invalid> {
    serde_json::from_value(object.clone()).map(|typed: K| check(&typed)).unwrap_or_default()
}
