//! Lengths of time as people write them: `500ms`, `10s`, `15m`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time of at most 24 hours, written as whole numbers with the units `h`, `m`, `s` and `ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

/// Why a text is no [`Span`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be whole numbers with the units h, m, s or ms, at most 24h in all, for example 10s or 1h30m")]
pub struct Error;

/// Nothing that Berth waits for takes longer than a day.
const LONGEST: Duration = Duration::from_hours(24);

impl Span {
    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// A span of milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// The span as the standard library's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(Error)?;
            let (number, tail) = rest.split_at(digits);
            let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit);
            let milliseconds_each: u64 = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(Error),
            };
            let milliseconds =
                number.parse::<u64>().ok().and_then(|n| n.checked_mul(milliseconds_each)).ok_or(Error)?;
            total = total.checked_add(Duration::from_millis(milliseconds)).ok_or(Error)?;
            rest = tail;
        }
        if text.is_empty() || total > LONGEST { Err(Error) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, each) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= each {
                write!(f, "{}{unit}", rest / each)?;
                rest %= each;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 32, "pattern": "^([0-9]{1,9}(h|ms|m|s))+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, milliseconds) in [("10s", 10_000), ("15m", 900_000), ("1h30m", 5_400_000), ("250ms", 250)] {
            assert_eq!(text.parse::<Span>().unwrap().get().as_millis(), milliseconds, "{text}");
        }
        for text in ["", "10", "s", "-1s", "1.5s", "1d", "25h", "99999999999999999999s", "10s ", "1s\n"] {
            assert_eq!(text.parse::<Span>(), Err(Error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn writes_what_it_reads(milliseconds in 0_u64..=86_400_000) {
            let span = Span::milliseconds(milliseconds);
            prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
    }
}
