//! A token bucket: so many at once, so many a second in the long run.

use std::time::Duration;

use tokio::time::Instant;

/// The tokens of one user.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(burst: u32, now: Instant) -> Self {
        Self { tokens: f64::from(burst), filled_at: now }
    }

    /// Takes one token, or says how long it takes until there is one.
    pub(super) fn take(&mut self, now: Instant, per_second: u32, burst: u32) -> Result<(), Duration> {
        self.fill(now, per_second, burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(per_second.max(1))))
    }

    /// Whether nothing would be lost by forgetting it.
    pub(super) fn is_full(&mut self, now: Instant, per_second: u32, burst: u32) -> bool {
        self.fill(now, per_second, burst);
        self.tokens >= f64::from(burst)
    }

    fn fill(&mut self, now: Instant, per_second: u32, burst: u32) {
        let passed = now.saturating_duration_since(self.filled_at);
        self.tokens = (self.tokens + passed.as_secs_f64() * f64::from(per_second)).min(f64::from(burst.max(1)));
        self.filled_at = now;
    }
}
