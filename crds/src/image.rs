//! References to container images.

use std::sync::LazyLock;

use regex::Regex;

/// The grammar of the OCI distribution specification: `[host[:port]/]path[:tag][@sha256:digest]`.
static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
    let component = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
    let host =
        "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]{1,5})?";
    Regex::new(&format!(
        "^(?:{host}/)?{component}(?:/{component})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?$"
    ))
    .expect("the pattern is constant and a test compiles it")
});

/// Whether a text names an image, at most 512 bytes.
pub fn is_reference(text: &str) -> bool {
    (1..=512).contains(&text.len()) && REFERENCE.is_match(text)
}

/// What to say of a text that does not.
pub const ALLOWED: &str = "must be an image reference such as registry.example.com/team/app:1.2 or berth/nodejs:20";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for good in ["app", "berth/nodejs:20", "r.example.com:5000/a/b:1.2"] {
            assert!(is_reference(good), "{good}");
        }
        assert!(is_reference(&format!("a/b:1@sha256:{}", "0".repeat(64))));
        for bad in ["", "a/B", "a b", "a;id", "-a", "a:", "a@sha256:12", "a//b", "$(id)", "a\n", "../a", "a:b:c"] {
            assert!(!is_reference(bad), "{bad:?}");
        }
    }
}
