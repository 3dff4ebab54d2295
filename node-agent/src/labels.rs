//! The labels by which the agent knows its own things again, and the names it gives them.
//!
//! Several agents may share one Docker: all that belongs to a node bears its uid, and nothing else is ever touched.

use std::collections::BTreeMap;

use aws_lc_rs::digest;

/// Uid of the Node.
pub const NODE: &str = "dev.berth.node";
/// Uid of the Instance.
pub const UID: &str = "dev.berth.uid";
/// Hash of all that makes the container: a container with another one is not what is wanted.
pub const SPEC_HASH: &str = "dev.berth.spec-hash";
/// Namespace: the project.
pub const NAMESPACE: &str = "dev.berth.namespace";
/// Name of the Application.
pub const APPLICATION: &str = "dev.berth.application";
/// Uid of the Application.
pub const APPLICATION_UID: &str = "dev.berth.application-uid";
/// Name of the Instance.
pub const INSTANCE: &str = "dev.berth.instance";
/// Name of the Release.
pub const RELEASE: &str = "dev.berth.release";
/// The port it was told to listen on.
pub const PORT: &str = "dev.berth.port";
/// How long requests in flight may take, in milliseconds.
pub const DRAIN: &str = "dev.berth.drain-milliseconds";
/// On a helper container or its network: it belongs to a build and not to an instance.
pub const HELPER: &str = "dev.berth.helper";
/// On an image: uid of the Build that made it.
pub const BUILD: &str = "dev.berth.build";
/// On an image and on what it was made from: project and application that its layers are kept for, as
/// `project/application`.
pub const CACHE: &str = "dev.berth.cache";
/// On an image: it runs with a read-only root.
pub const READ_ONLY: &str = "dev.berth.read-only";

/// The longest name given to a container or network. Docker allows more, but it is also the host name's limit.
const NAME_BYTES_MAX: usize = 63;

/// The first hexadecimal digits of a text's SHA-256.
pub fn short_hash(text: &str, digits: usize) -> String {
    let mut hash = hex::encode(digest::digest(&digest::SHA256, text.as_bytes()));
    hash.truncate(digits);
    hash
}

/// A name made of parts, cut to what Docker allows: a cut name ends with a hash of the whole one.
fn name(whole: &str) -> String {
    if whole.len() <= NAME_BYTES_MAX {
        return whole.to_owned();
    }
    let hash = short_hash(whole, 10);
    let kept: String = whole.chars().take(NAME_BYTES_MAX - hash.len() - 1).collect();
    format!("{}-{hash}", kept.trim_end_matches('-'))
}

/// Four digits that tell nodes apart which share one Docker.
fn node_suffix(node: &str) -> String {
    short_hash(node, 4)
}

/// Whether a project may use an image with these labels: what was made of a project's source is that project's alone,
/// and so is what was left half made.
pub fn is_open_to(labels: &BTreeMap<String, String>, namespace: &str) -> bool {
    let cache = labels.get(CACHE).map(|cache| cache.split_once('/').map_or("", |(project, _)| project));
    // A build's image without its project was made by nobody that is known.
    let project = labels.get(NAMESPACE).or_else(|| labels.get(BUILD)).map(String::as_str);
    [cache, project].into_iter().flatten().all(|project| project == namespace)
}

/// The name of an instance's container. `acme` and `shop-web` read like `acme-shop` and `web`: the digits are of the uid.
pub fn container_name(node: &str, namespace: &str, instance: &str, uid: &str) -> String {
    name(&format!("berth-{namespace}-{instance}-{}", short_hash(&format!("{node}/{uid}"), 10)))
}

/// The name of a project's network.
pub fn network_name(node: &str, namespace: &str) -> String {
    name(&format!("berth-{namespace}-{}", node_suffix(node)))
}

/// The name of the network on which builds reach the outside.
pub fn outside_network_name(node: &str) -> String {
    // An underscore cannot stand in a namespace, so this is no project's network.
    format!("berth_outside-{}", node_suffix(node))
}

/// The name of a network's bridge interface. Linux allows 15 bytes.
pub fn bridge_name(network: &str) -> String {
    format!("{}{}", crate::machine::BRIDGE_PREFIX, short_hash(network, 11))
}

/// The name of the bridge interface on which builds reach the outside.
pub fn outside_bridge_name(network: &str) -> String {
    format!("{}{}", crate::machine::OUTSIDE_BRIDGE_PREFIX, short_hash(network, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_tell_apart() {
        let long = "x".repeat(63);
        let (one, two) =
            (container_name("n", "acme", &long, "1"), container_name("n", "acme", &format!("{long}y"), "2"));
        assert!(one.len() <= NAME_BYTES_MAX && two.len() <= NAME_BYTES_MAX);
        assert_ne!(one, two);
        assert_ne!(container_name("n", "acme", "web-1", "1"), container_name("m", "acme", "web-1", "1"));
        assert_ne!(container_name("n", "acme", "shop-web", "1"), container_name("n", "acme-shop", "web", "2"));
        assert!(container_name("n", "acme", "web-1", "1").starts_with("berth-acme-web-1-"));
    }

    #[test]
    fn what_was_made_of_a_projects_source_is_that_projects() {
        let open = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            is_open_to(&labels, "acme")
        };
        assert!(open(&[]) && open(&[(READ_ONLY, "true")]));
        assert!(open(&[(BUILD, "u"), (NAMESPACE, "acme"), (CACHE, "acme/shop")]) && open(&[(CACHE, "acme/shop")]));
        assert!(!open(&[(BUILD, "u"), (NAMESPACE, "evil")]) && !open(&[(BUILD, "u")]));
        assert!(!open(&[(CACHE, "evil/shop")]) && !open(&[(CACHE, "acme-b/shop")]) && !open(&[(CACHE, "x")]));
        assert!(!open(&[(NAMESPACE, "acme"), (CACHE, "evil/shop")]));
    }

    #[test]
    fn bridges_fit_an_interface_name() {
        assert_eq!(bridge_name(&network_name("n", &"p".repeat(63))).len(), 15);
    }
}
