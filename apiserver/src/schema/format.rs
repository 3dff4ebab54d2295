//! The string formats a structural schema may name, as strict as Kubernetes takes them. Unknown formats are ignored.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

static DURATION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*)$").expect("a constant")
});
static HOSTNAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*\.?$",
    )
    .expect("a constant")
});
static EMAIL: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[^@\s<>]+@[^@\s<>]+$").expect("a constant"));
static MAC: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$").expect("a constant"));
static UUID: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^[0-9A-F]{8}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{4}-?[0-9A-F]{12}$").expect("a constant")
});

/// Whether `text` has the format.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match format {
        "date-time" => jiff::Timestamp::from_str(text).is_ok(),
        "date" => text.len() == 10 && jiff::civil::Date::from_str(text).is_ok(),
        "duration" => DURATION.is_match(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => Ipv4Addr::from_str(text).is_ok(),
        "ipv6" => Ipv6Addr::from_str(text).is_ok(),
        "ip" => IpAddr::from_str(text).is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, bits)| {
            let max = match IpAddr::from_str(address) {
                Ok(IpAddr::V4(_)) => 32,
                Ok(IpAddr::V6(_)) => 128,
                Err(_) => return false,
            };
            !bits.starts_with('+') && bits.parse::<u8>().is_ok_and(|bits| bits <= max)
        }),
        "mac" => MAC.is_match(text),
        "uuid" | "uuid3" | "uuid4" | "uuid5" => UUID.is_match(text),
        "hostname" => text.len() <= 253 && HOSTNAME.is_match(text),
        "email" => EMAIL.is_match(text),
        // As Go's url.ParseRequestURI: an absolute URI, or an absolute path.
        "uri" => text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme().is_some() || text.starts_with('/')),
        _ => true,
    }
}
