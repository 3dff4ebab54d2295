//! Where a body becomes the value of a column, and back: in this one place for every database.

use std::borrow::Cow;

use bytes::Bytes;

use super::error::BackendError;

/// The value of a body's column. It is text, so that in SQL it can be looked into.
pub(super) fn encode(body: &Bytes) -> Result<Cow<'_, str>, BackendError> {
    let text = std::str::from_utf8(body).map_err(|error| BackendError::Damaged(error.to_string()))?;
    Ok(Cow::Borrowed(text))
}

/// The body that a column's value stands for.
#[expect(clippy::unnecessary_wraps, reason = "a value that stands for no body is an error of the database's content")]
pub(super) fn decode(value: Bytes) -> Result<Bytes, BackendError> {
    Ok(value)
}
