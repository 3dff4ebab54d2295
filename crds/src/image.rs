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

/// Whether a text names what only lies on a node: what is built there is called `berth/PROJECT/BUILD` and
/// `berth-stage/PROJECT/APPLICATION`, and what is asked for by its id was made by whoever made it.
pub fn is_local(text: &str) -> bool {
    let name = text.strip_prefix("docker.io/").or_else(|| text.strip_prefix("index.docker.io/")).unwrap_or(text);
    // Docker takes any beginning of an id for the image, where no image has that name.
    let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let built = name.strip_prefix("berth/").is_some_and(|rest| rest.contains('/'));
    is_id || built || name.starts_with("berth-stage/") || name.starts_with("sha256:")
}

/// What to say of a text that does.
pub const NOT_LOCAL: &str =
    "must be an image of a registry, not one that lies on a node; where a name could be an id, write its tag too";

/// What to say of a text that does not name an image.
pub const ALLOWED: &str = "must be an image reference such as registry.example.com/team/app:1.2 or berth/nodejs:20";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_node_has_is_known_by_its_name() {
        let id = "0".repeat(64);
        for local in ["berth/acme/shop-1:latest", "docker.io/berth/acme/x", "berth-stage/acme/shop:0", "a3f", &id] {
            assert!(is_local(local), "{local}");
        }
        assert!(is_local(&format!("sha256:{id}")) && is_local("sha256:a3"));
        for shared in ["berth/nodejs:20", "nginx", "cafe:1", "r.example.com/berth/a/b", "app@sha256:00", "acme/a3f"] {
            assert!(!is_local(shared), "{shared}");
        }
    }

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
