//! The last accepted assignment, as a file: a rebooted node brings everything back before the gateway is reachable.
//!
//! It holds the instances' environment, secrets among it, so only its owner may read it.

use std::path::{Path, PathBuf};

use node_protocol::{Assignment, AssignmentUpdate};

use crate::files;

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
    pub(crate) fn load(&self) -> Option<Assignment> {
        let content = match files::read(&self.path) {
            Ok(content) => content?,
            Err(error) => {
                tracing::warn!(%error, "the saved assignment cannot be read");
                return None;
            }
        };
        match serde_json::from_slice::<AssignmentUpdate>(&content) {
            Ok(whole) => {
                let mut assignment = Assignment::default();
                assignment.apply(AssignmentUpdate { base: None, ..whole }).then_some(assignment)
            }
            Err(error) => {
                tracing::warn!(%error, "the saved assignment cannot be understood");
                None
            }
        }
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
        assert_eq!(snapshot.load(), Some(assignment));
        std::fs::write(folder.path().join("assignment.json"), b"{\"revi").unwrap();
        assert_eq!(snapshot.load(), None);
    }
}
