//! Kubernetes quantities as numbers: `500m`, `2`, `1e3`, `512Mi`.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

/// How much there is of something, in thousandths. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// The highest amount: 2^63 - 1 whole units, where Kubernetes ends too.
const MAX: u128 = (i64::MAX as u128) * 1000;

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many whole units.
    pub fn units(count: u64) -> Self {
        Self(u128::from(count) * 1000).bounded()
    }

    /// Reads a quantity; what is finer than a thousandth is rounded up. `None` for what is no quantity, and for negative
    /// ones.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // More digits than these say nothing that could be counted, and would not fit.
        if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.len() > 9 {
            return None;
        }
        let digits = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
        // In billionths: ten digits before and nine after the point times 2^60 are far below 2^128.
        let nanos = digits(whole)?.checked_mul(1_000_000_000)?.checked_add(digits(&format!("{fraction:0<9}"))?)?;
        let (factor, divisor) = scale(suffix)?;
        let nanos = nanos.checked_mul(factor)?.div_ceil(divisor);
        Some(Self(nanos.div_ceil(1_000_000)).bounded())
    }

    /// So many of this.
    #[must_use]
    pub fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(u128::from(count))).bounded()
    }

    /// What is left after `other` is taken away; nothing if that is more.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// As text, in the units of `like`: a limit in `Gi` is compared with a usage in `Mi`, not in bytes.
    pub fn shown_like(self, like: &str) -> String {
        if like.ends_with('i') && self.0.is_multiple_of(1000) {
            let units = self.0 / 1000;
            for (suffix, shift) in [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
                if units != 0 && units.is_multiple_of(1 << shift) {
                    return format!("{}{suffix}", units >> shift);
                }
            }
        }
        self.to_string()
    }

    fn bounded(self) -> Self {
        Self(self.0.min(MAX))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0)).bounded()
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// What a suffix multiplies with and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_u128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let read = |text: &str| Amount::parse(text).map(|amount| amount.to_string());
        for (text, expected) in [
            ("0", "0"),
            ("2", "2"),
            ("500m", "500m"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1k", "1000"),
            ("1e3", "1000"),
            ("1E-3", "1m"),
            ("512Mi", "536870912"),
            ("1.5Gi", "1610612736"),
            ("1u", "1m"),
            ("100E", "9223372036854775807"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in
            ["", ".", "-1", "+1", "1 ", "Mi", "1mi", "1KB", "1e99", "e3", "1.2.3", "99999999999999999999", "1e+-3"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_has_the_units_of_the_limit() {
        let amount = |text| Amount::parse(text).unwrap();
        assert_eq!(amount("512Mi").shown_like("2Gi"), "512Mi");
        assert_eq!(amount("1024Mi").shown_like("2Gi"), "1Gi");
        assert_eq!(amount("0").shown_like("2Gi"), "0");
        assert_eq!(amount("1500m").shown_like("4"), "1500m");
        assert_eq!((amount("1500m") + amount("500m")).shown_like("4"), "2");
        assert_eq!(amount("1Gi").times(3).shown_like("4Gi"), "3Gi");
        assert_eq!(amount("1").less(amount("2")), Amount::ZERO);
    }
}
