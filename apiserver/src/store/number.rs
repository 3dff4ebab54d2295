//! Numbers and times as both databases keep them: SQL has neither unsigned numbers nor our times.

use jiff::Timestamp;

use super::error::BackendError;

/// A revision or a count that was read.
pub(super) fn unsigned(value: i64) -> Result<u64, BackendError> {
    u64::try_from(value).map_err(|error| BackendError::Damaged(format!("{value}: {error}")))
}

/// A revision or a count to be written.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A time that was read, in microseconds since 1970.
pub(super) fn time(micros: i64) -> Result<Timestamp, BackendError> {
    Timestamp::from_microsecond(micros).map_err(|error| BackendError::Damaged(error.to_string()))
}
