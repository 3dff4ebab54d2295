//! The last accepted assignment, as a file: a rebooted node brings everything back before the gateway is reachable.
//!
//! It holds the instances' environment, secrets among it, so only its owner may read it.

use std::path::{Path, PathBuf};

use node_protocol::{Assignment, Item};
use serde::Deserialize;

use crate::files;

/// What is known of an assignment that was saved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Saved {
    /// What could be read of it.
    pub(crate) assignment: Assignment,
    /// Whether something could not.
    pub(crate) partial: bool,
}

/// The file, item by item: one that another version of the agent has written costs only itself.
#[derive(Deserialize)]
struct Content {
    revision: u64,
    #[serde(default)]
    upserts: Vec<serde_json::Value>,
}

/// Where the assignment is kept.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    path: PathBuf,
}

impl Snapshot {
    /// In the agent's data folder.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("assignment.json") }
    }

    /// What was saved last; `None` if nothing was, or if it cannot be read: then the gateway sends all of it.
    pub(crate) fn load(&self) -> Option<Saved> {
        let content = match files::read(&self.path) {
            Ok(content) => content?,
            Err(error) => {
                tracing::warn!(%error, "the saved assignment cannot be read");
                return None;
            }
        };
        let content: Content = serde_json::from_slice(&content)
            .inspect_err(|error| tracing::warn!(%error, "the saved assignment cannot be understood"))
            .ok()?;
        let mut saved =
            Saved { assignment: Assignment { revision: content.revision, ..Assignment::default() }, partial: false };
        for item in content.upserts {
            match serde_json::from_value::<Item>(item) {
                Ok(item) => {
                    saved.assignment.items.insert(item.key(), item);
                }
                Err(error) => {
                    tracing::warn!(%error, "an item of the saved assignment cannot be understood");
                    saved.partial = true;
                }
            }
        }
        Some(saved)
    }

    /// Saves an assignment, and returns when it is on disk.
    pub(crate) fn save(&self, assignment: &Assignment) -> std::io::Result<()> {
        files::replace(&self.path, &serde_json::to_vec(&assignment.whole())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_protocol::{Item, RouteTask};

    #[test]
    fn an_assignment_survives() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = Snapshot::new(folder.path());
        assert_eq!(snapshot.load(), None);
        let route = Item::Route(RouteTask {
            application_uid: "u".to_owned(),
            namespace: "acme".to_owned(),
            application: "web".to_owned(),
            hosts: vec!["web.example.com".to_owned()],
        });
        let assignment = Assignment { revision: 7, items: [(route.key(), route)].into() };
        snapshot.save(&assignment).unwrap();
        assert_eq!(snapshot.load(), Some(Saved { assignment: assignment.clone(), partial: false }));
        let path = folder.path().join("assignment.json");
        let text = std::fs::read_to_string(&path)
            .unwrap()
            .replace(r#""upserts":["#, r#""upserts":[{"dance":{"to":"music"}},"#);
        std::fs::write(&path, text).unwrap();
        assert_eq!(snapshot.load(), Some(Saved { assignment, partial: true }), "what is unknown costs only itself");
        std::fs::write(folder.path().join("assignment.json"), b"{\"revi").unwrap();
        assert_eq!(snapshot.load(), None);
    }
}
