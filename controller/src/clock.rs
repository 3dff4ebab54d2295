//! Where the controller takes the time from, so that tests and simulations can set it.
//!
//! This is the one file of the controller that asks the operating system. Waiting is tokio's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// A source of the current time; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    /// Microseconds since 1970.
    Settable(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still at `start` until it is moved.
    pub fn settable(start: Timestamp) -> Self {
        Self(Source::Settable(Arc::new(AtomicI64::new(start.as_microsecond()))))
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine for the time")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX),
            Source::Settable(micros) => {
                Timestamp::from_microsecond(micros.load(Ordering::Acquire)).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Moves a settable clock forward. The machine's clock is left alone: returns whether it moved.
    pub fn advance(&self, by: Duration) -> bool {
        match &self.0 {
            Source::System => false,
            Source::Settable(micros) => {
                micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::AcqRel);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settable_clock_moves_only_when_told_and_for_all_its_clones() {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        let clock = Clock::settable(start);
        let other = clock.clone();
        assert!(clock.advance(Duration::from_secs(90)));
        assert_eq!(other.now().as_second() - start.as_second(), 90);
        assert!(!Clock::system().advance(Duration::from_secs(1)));
    }
}
