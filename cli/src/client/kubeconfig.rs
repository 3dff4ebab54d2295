//! The kubeconfig file that contexts are written to, as kubectl does: what is there and not ours stays.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::failure::{Exit, fail};
use crate::up::write_private;

/// Where kubectl would write: the first of `$KUBECONFIG`, or the file in the person's home.
pub(super) fn written() -> anyhow::Result<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let first = listed.unwrap_or_default().into_iter().find(|path| !path.as_os_str().is_empty());
    let of_home = || std::env::home_dir().map(|home| home.join(".kube").join("config"));
    first.or_else(of_home).ok_or_else(|| fail(Exit::Usage, "there is no home folder: give --kubeconfig FILE"))
}

/// What is in the file; an empty one if there is none.
pub(super) fn read(file: &Path) -> anyhow::Result<Value> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read the kubeconfig {}", file.display())),
    };
    let config: Value = if text.trim().is_empty() {
        json!({})
    } else {
        serde_saphyr::from_str(&text).with_context(|| format!("{} is no kubeconfig", file.display()))?
    };
    if config.is_object() { Ok(config) } else { Err(fail(Exit::Usage, format!("{} is no kubeconfig", file.display()))) }
}

/// Writes the file, for its owner only.
pub(super) fn write(file: &Path, config: &Value) -> anyhow::Result<()> {
    // A link stays one: what it leads to is written.
    let place = std::fs::canonicalize(file).unwrap_or_else(|_new| file.to_owned());
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    write_private(&place, serde_saphyr::to_string(config)?.as_bytes())
}

/// What a context needs.
pub(super) struct Entry<'a> {
    /// Of the context and its user.
    pub(super) name: &'a str,
    /// Of the server.
    pub(super) cluster: &'a str,
    pub(super) server: &'a str,
    /// The certificate by which the server is known, PEM in base64; none if the system knows it.
    pub(super) authority: Option<&'a str>,
    pub(super) namespace: &'a str,
    pub(super) token: &'a str,
}

/// Puts a context in, or in place of what has its names, and makes it the current one.
pub(super) fn put(config: &mut Value, entry: &Entry<'_>) {
    let mut cluster = json!({"server": entry.server});
    if let Some(authority) = entry.authority {
        cluster["certificate-authority-data"] = authority.into();
    }
    config["apiVersion"] = "v1".into();
    config["kind"] = "Config".into();
    set(config, "clusters", entry.cluster, "cluster", &cluster);
    set(config, "users", entry.name, "user", &json!({"token": entry.token}));
    let context = json!({"cluster": entry.cluster, "user": entry.name, "namespace": entry.namespace});
    set(config, "contexts", entry.name, "context", &context);
    config["current-context"] = entry.name.into();
}

fn set(config: &mut Value, list: &str, name: &str, field: &str, content: &Value) {
    if !config[list].is_array() {
        config[list] = json!([]);
    }
    let entry = json!({"name": name, field: content});
    if let Some(entries) = config[list].as_array_mut() {
        match entries.iter_mut().find(|entry| entry["name"] == name) {
            Some(present) => *present = entry,
            None => entries.push(entry),
        }
    }
}

/// Takes a context and its user out. The cluster stays: signing in again finds it.
pub(super) fn remove(config: &mut Value, context: &str) {
    let user = user_of(config, context).map(str::to_owned);
    for (list, name) in [("contexts", Some(context)), ("users", user.as_deref())] {
        if let (Some(entries), Some(name)) = (config[list].as_array_mut(), name) {
            entries.retain(|entry| entry["name"] != name);
        }
    }
    if config["current-context"] == context {
        config["current-context"] = "".into();
    }
}

fn user_of<'a>(config: &'a Value, context: &str) -> Option<&'a str> {
    named(config, "contexts", context)?["context"]["user"].as_str()
}

fn named<'a>(config: &'a Value, list: &str, name: &str) -> Option<&'a Value> {
    config[list].as_array()?.iter().find(|entry| entry["name"] == name)
}

/// The token of a context's user.
pub(super) fn token<'a>(config: &'a Value, context: &str) -> Option<&'a str> {
    named(config, "users", user_of(config, context)?)?["user"]["token"].as_str()
}

/// The server of a context.
pub(super) fn server<'a>(config: &'a Value, context: &str) -> Option<&'a str> {
    let cluster = named(config, "contexts", context)?["context"]["cluster"].as_str()?;
    named(config, "clusters", cluster)?["cluster"]["server"].as_str()
}

/// The certificate, PEM in base64, by which a server is known in a file.
pub(super) fn authority(config: &Value, server: &str) -> Option<String> {
    use base64::Engine;
    let same =
        |entry: &&Value| entry["cluster"]["server"].as_str().is_some_and(|known| known.trim_end_matches('/') == server);
    let cluster = &config["clusters"].as_array()?.iter().find(same)?["cluster"];
    if let Some(data) = cluster["certificate-authority-data"].as_str() {
        return Some(data.to_owned());
    }
    let file = std::fs::read(cluster["certificate-authority"].as_str()?).ok()?;
    Some(base64::engine::general_purpose::STANDARD.encode(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_and_goes_and_all_else_stays() {
        let mut config = json!({
            "apiVersion": "v1", "kind": "Config", "preferences": {"colors": true},
            "clusters": [{"name": "other", "cluster": {"server": "https://other", "certificate-authority-data": "QQ=="}}],
            "users": [{"name": "me", "user": {"exec": {"command": "x"}}}],
            "contexts": [{"name": "other", "context": {"cluster": "other", "user": "me"}}],
            "current-context": "other",
        });
        let before = config.clone();
        let entry = |token| Entry {
            name: "ann@berth",
            cluster: "berth",
            server: "https://berth:6443",
            authority: Some("QUJD"),
            namespace: "shop",
            token,
        };
        put(&mut config, &entry("one"));
        put(&mut config, &entry("two"));
        assert_eq!(config["current-context"], "ann@berth");
        assert_eq!(token(&config, "ann@berth"), Some("two"));
        assert_eq!(server(&config, "ann@berth"), Some("https://berth:6443"));
        assert_eq!(authority(&config, "https://berth:6443").as_deref(), Some("QUJD"));
        assert_eq!((config["users"].as_array().unwrap().len(), config["contexts"].as_array().unwrap().len()), (2, 2));
        assert_eq!((&config["preferences"], &config["users"][0]), (&before["preferences"], &before["users"][0]));
        remove(&mut config, "ann@berth");
        assert_eq!((&config["users"], &config["contexts"]), (&before["users"], &before["contexts"]));
        assert_eq!(config["current-context"], "");
        assert_eq!(authority(&config, "https://berth:6443").as_deref(), Some("QUJD"), "the server is still known");
        assert_eq!(token(&config, "other"), None);
    }

    #[test]
    fn what_is_no_kubeconfig_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/config");
        assert_eq!(read(&file).unwrap(), json!({}));
        let mut config = read(&file).unwrap();
        remove(&mut config, "nothing");
        write(&file, &json!({"a": 1})).unwrap();
        assert_eq!(read(&file).unwrap(), json!({"a": 1}));
        for text in ["- a\n", "[", "text"] {
            std::fs::write(&file, text).unwrap();
            assert!(read(&file).is_err(), "{text}");
        }
    }
}
