//! Paths of fields as Kubernetes writes them: `spec.env[0].name`, `metadata.labels[app]`.

/// `path.name`
pub(crate) fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// `path[index]`
pub(crate) fn index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
