//! The patch formats of `PATCH`: JSON patch, merge patch and, for core kinds, strategic merge patch. Pure.
//! Server-side apply is not here.

pub mod json;
pub mod merge;
pub mod strategic;

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
