//! Where the program takes the time from, so that tests and simulations can set it.
//!
//! This is the one file that asks the operating system. Waiting (timeouts, intervals) is tokio's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};

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

    /// Moves a settable clock to `time`, also backwards. The machine's clock is left alone: returns whether it moved.
    pub fn set(&self, time: Timestamp) -> bool {
        match &self.0 {
            Source::System => false,
            Source::Settable(micros) => {
                micros.store(time.as_microsecond(), Ordering::Release);
                true
            }
        }
    }

    /// Moves a settable clock forward. The machine's clock is left alone: returns whether it moved.
    pub fn advance(&self, by: Duration) -> bool {
        match &self.0 {
            Source::System => false,
            Source::Settable(micros) => {
                let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
                micros.fetch_add(by, Ordering::AcqRel);
                true
            }
        }
    }

    /// How long ago `time` was; zero if it lies in the future, as after the clock was set back.
    pub fn since(&self, time: Timestamp) -> Duration {
        let passed: SignedDuration = self.now().duration_since(time);
        passed.try_into().unwrap_or(Duration::ZERO)
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
        assert_eq!(other.now(), start);
        assert!(clock.advance(Duration::from_secs(90)));
        assert_eq!(other.since(start), Duration::from_secs(90));
        assert!(other.set(start - SignedDuration::from_secs(5)));
        assert_eq!(clock.since(start), Duration::ZERO, "a clock set back does not make a negative age");
    }

    #[test]
    fn the_system_clock_is_not_settable() {
        let clock = Clock::system();
        let before = clock.now();
        assert!(!clock.set(Timestamp::UNIX_EPOCH));
        assert!(clock.now() >= before || clock.since(before) == Duration::ZERO);
        assert!(clock.now() > Timestamp::from_second(1_700_000_000).unwrap());
    }
}
