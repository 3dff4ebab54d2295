//! The one place that asks what time it is.

use jiff::Timestamp;

/// Now, by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "this is where everybody else takes the time from")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
