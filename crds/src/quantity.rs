//! Kubernetes quantities: `500m` of a cpu, `512Mi` of memory.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A quantity as it was written. A bare number is accepted too (`cpu: 1`), as Kubernetes does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

/// Why a text is no [`Quantity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a quantity such as 500m, 2, 512Mi or 10Gi")]
pub struct Error;

const PATTERN: &str = "^[0-9]{1,12}(\\.[0-9]{1,6})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";

impl Quantity {
    /// The quantity in thousandths, rounded up: what a cpu quantity is counted in.
    pub fn millis(&self) -> Result<u64, Error> {
        let (number, multiplier) = self.split()?;
        u64::try_from(scale(number, multiplier)?.div_ceil(1_000_000)).map_err(|_too_large| Error)
    }

    /// The quantity in whole units, rounded up: what memory and disk are counted in (bytes).
    pub fn units(&self) -> Result<u64, Error> {
        let (number, multiplier) = self.split()?;
        u64::try_from(scale(number, multiplier)?.div_ceil(1_000_000_000)).map_err(|_too_large| Error)
    }

    /// A quantity of thousandths, in the shortest form.
    pub fn from_millis(millis: u64) -> Self {
        if millis.is_multiple_of(1000) { Self((millis / 1000).to_string()) } else { Self(format!("{millis}m")) }
    }

    /// A quantity of bytes, in the largest binary unit that divides it.
    pub fn from_bytes(bytes: u64) -> Self {
        for (suffix, unit) in [("Ti", 1_u64 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
            if bytes >= unit && bytes.is_multiple_of(unit) {
                return Self(format!("{}{suffix}", bytes / unit));
            }
        }
        Self(bytes.to_string())
    }

    /// The number's text and its multiplier in thousandths.
    fn split(&self) -> Result<(&str, u128), Error> {
        let at = self.0.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.0.len());
        let (number, suffix) = self.0.split_at(at);
        let multiplier = match suffix {
            "m" => 1,
            "" => 1_000,
            "k" => 1_000_000,
            "M" => 1_000_000_000,
            "G" => 1_000_000_000_000,
            "T" => 1_000_000_000_000_000,
            "Ki" => 1_000 << 10,
            "Mi" => 1_000 << 20,
            "Gi" => 1_000 << 30,
            "Ti" => 1_000 << 40,
            _ => return Err(Error),
        };
        Ok((number, multiplier))
    }
}

/// `number` × `thousandths`, in thousand-millionths of the unit, exactly.
fn scale(number: &str, thousandths: u128) -> Result<u128, Error> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || whole.len() > 12 || fraction.len() > 6 || (fraction.is_empty() && number.contains('.')) {
        return Err(Error);
    }
    let millionths: u128 = format!("{whole}{fraction:0<6}").parse().map_err(|_too_large| Error)?;
    millionths.checked_mul(thousandths).ok_or(Error)
}

impl std::str::FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let quantity = Self(text.to_owned());
        quantity.millis()?;
        Ok(quantity)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity such as 500m or 512Mi")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Quantity, E> {
                number.to_string().parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_as_kubernetes_does() {
        let q = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(q("500m").millis(), Ok(500));
        assert_eq!(q("2").millis(), Ok(2000));
        assert_eq!(q("0.1").millis(), Ok(100));
        assert_eq!(q("0.0001").millis(), Ok(1), "rounded up, never to nothing");
        assert_eq!(q("512Mi").units(), Ok(512 << 20));
        assert_eq!(q("1.5Gi").units(), Ok(3 << 29));
        assert_eq!(q("1G").units(), Ok(1_000_000_000));
        for text in ["", "m", "-1", "1 Gi", "1gi", "1e3", ".5", "1.", "1.2.3", "9999999999999", "١"] {
            assert_eq!(text.parse::<Quantity>(), Err(Error), "{text:?}");
        }
    }

    #[test]
    fn accepts_bare_numbers() {
        assert_eq!(serde_json::from_str::<Quantity>("2").unwrap().millis(), Ok(2000));
        assert!(serde_json::from_str::<Quantity>("-2").is_err());
    }

    #[test]
    fn writes_the_shortest_form() {
        assert_eq!(Quantity::from_millis(1500).to_string(), "1500m");
        assert_eq!(Quantity::from_millis(2000).to_string(), "2");
        assert_eq!(Quantity::from_bytes(512 << 20).to_string(), "512Mi");
        assert_eq!(Quantity::from_bytes(1_000).to_string(), "1000");
    }
}
