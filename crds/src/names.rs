//! Names: what may be one, and how the names of what Berth creates are derived.

use crate::hash;

/// The longest DNS label, and so the longest name of anything that gets a host name or a container.
pub const LABEL_LENGTH_MAX: usize = 63;

/// The schema's pattern for a DNS label.
pub const LABEL_PATTERN: &str = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$";

/// Whether a text is a DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end.
pub fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=LABEL_LENGTH_MAX).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes[0] != b'-'
        && bytes[bytes.len() - 1] != b'-'
}

/// Whether a text is a host name of at least two labels and at most 253 bytes, in lower case, and no IP address.
pub fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()))
}

/// `prefix-suffix`, with as much of the prefix as fits into a DNS label.
pub fn joined(prefix: &str, suffix: &str) -> String {
    let room = LABEL_LENGTH_MAX.saturating_sub(suffix.len() + 1).min(prefix.len());
    format!("{}-{suffix}", prefix[..room].trim_end_matches('-'))
}

/// The label under the platform's domain that belongs to an Application alone.
///
/// `shop` in `acme` is `shop-acme`. Where that could be read in two ways, or is too long, eight digits of a hash of
/// both names follow, so no two Applications share one.
pub fn slug(namespace: &str, application: &str) -> String {
    let plain = format!("{application}-{namespace}");
    if !namespace.contains('-') && !application.contains('-') && plain.len() <= LABEL_LENGTH_MAX {
        return plain;
    }
    joined(&plain, &hash::short(&(namespace, application), 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_and_hosts() {
        for good in ["a", "web-1", &"x".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "a;b", "é", &"x".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        for good in ["shop.example.com", "a.b"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["localhost", "10.0.0.1", "a..b", "a.b.", "*.a.b", "a.b;", "a.b\n", "a_b.c", "a.b/c"] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn slugs_are_labels_of_their_own(
            a in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", n in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?",
            b in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", m in "[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?",
        ) {
            prop_assert!(is_label(&slug(&n, &a)));
            prop_assert_eq!(slug(&n, &a) == slug(&m, &b), (&n, &a) == (&m, &b));
        }
    }
}
