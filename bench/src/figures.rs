//! From single measurements to the figures of a row.

use std::time::Duration;

/// How long each of many things took.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<u64>);

/// What one repetition of a load came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// A second.
    pub(crate) rate: f64,
    /// Milliseconds.
    pub(crate) p50: f64,
    /// Milliseconds.
    pub(crate) p99: f64,
}

impl Times {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self(Vec::with_capacity(count))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.add_nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn add_nanoseconds(&mut self, time: u64) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// The rate over `period`, the median and the 99th percentile. Nothing measured is an error, never a zero.
    pub(crate) fn figures(mut self, period: Duration) -> anyhow::Result<Figures> {
        anyhow::ensure!(!self.0.is_empty(), "nothing was measured");
        self.0.sort_unstable();
        Ok(Figures {
            rate: float(self.0.len()) / period.as_secs_f64(),
            p50: self.percentile(50),
            p99: self.percentile(99),
        })
    }

    /// In milliseconds, of sorted times: the smallest that this share of them does not exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        Duration::from_nanos(self.0[rank - 1]).as_secs_f64() * 1e3
    }
}

/// The middle of the values; of an even count, the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The value that this share of the values does not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are far below 2^52")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these figures are exact")]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut times = Times::default();
        for milliseconds in (1..=200).rev() {
            times.add(Duration::from_millis(milliseconds));
        }
        let figures = times.figures(Duration::from_secs(2)).unwrap();
        assert_eq!((figures.rate, figures.p50, figures.p99), (100.0, 100.0, 198.0));
        assert!(Times::default().figures(Duration::from_secs(1)).is_err());
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(percentile(&[3.0, 1.0, 2.0], 99), 3.0);
    }
}
