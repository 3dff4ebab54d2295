//! The patch formats of `PATCH`: JSON patch, merge patch and, for core kinds, strategic merge patch. Pure.
//! Server-side apply is not here.

pub mod json;
pub mod merge;
pub mod strategic;
#[cfg(test)]
mod tests;

use serde_json::Value;

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself cannot be read: 400 BadRequest.
    #[error("{0}")]
    Syntax(String),
    /// It is well formed and asks for more than a patch may: 413 RequestEntityTooLarge.
    #[error("{0}")]
    TooLarge(String),
    /// It is well formed and does not fit the object: 422 Invalid.
    #[error("{0}")]
    Failed(String),
}

/// What is odd about the text of a patch that is an object: keys that stand twice.
pub fn problems(patch: &[u8]) -> Vec<String> {
    crate::decode::json(patch).map(|decoded| decoded.problems).unwrap_or_default()
}

/// Reads a patch that is an object.
fn object(patch: &[u8]) -> Result<Value, PatchError> {
    let value =
        crate::decode::json(patch).map_err(|error| PatchError::Syntax(format!("error decoding patch: {error}")))?.value;
    if value.is_object() {
        Ok(value)
    } else {
        Err(PatchError::Syntax("error decoding patch: expected a JSON object".to_owned()))
    }
}
