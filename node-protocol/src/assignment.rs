//! What a node should run.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use crds::application::BuildOptions;
use crds::runtime::{Language, Presets};
use serde::{Deserialize, Serialize};

/// Names an item of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ItemKey {
    /// Uid of an Instance.
    Instance(String),
    /// Uid of a Build.
    Build(String),
    /// Uid of the Application whose hosts are routed.
    Route(String),
    /// Uid of the Build whose image is kept.
    Image(String),
}

/// One thing that a node should do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    /// Run a container, or end it.
    Instance(InstanceTask),
    /// Make an image, or stop making it.
    Build(BuildTask),
    /// Lead hosts to an application's healthy instances on this node.
    Route(RouteTask),
    /// Keep an image that was built here. One that no item names is removed.
    Image(ImageTask),
}

impl Item {
    /// The item's key.
    pub fn key(&self) -> ItemKey {
        match self {
            Self::Instance(task) => ItemKey::Instance(task.uid.clone()),
            Self::Build(task) => ItemKey::Build(task.uid.clone()),
            Self::Route(task) => ItemKey::Route(task.application_uid.clone()),
            Self::Image(task) => ItemKey::Image(task.build_uid.clone()),
        }
    }
}

/// All that a node should run, at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    /// Rises with every change that is sent to the node.
    pub revision: u64,
    /// The items, by key.
    pub items: BTreeMap<ItemKey, Item>,
}

/// A change of an assignment, or the whole of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentUpdate {
    /// The revision that the node has when it has applied this.
    pub revision: u64,
    /// The revision this builds on; `None` makes it the whole assignment, and what is not in it is to go.
    #[serde(default)]
    pub base: Option<u64>,
    /// Items that are new or different.
    #[serde(default)]
    pub upserts: Vec<Item>,
    /// Items that are to go.
    #[serde(default)]
    pub removals: Vec<ItemKey>,
    /// Whether the rest follows, each piece building on this revision: nothing is done before all of it is there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl AssignmentUpdate {
    /// Cuts it into pieces whose items take about so many bytes at most, or one item each. Taken in one after the other,
    /// they come to the same.
    #[must_use]
    pub fn pieces(self, bytes_max: usize) -> Vec<Self> {
        let (revision, mut base, mut bytes) = (self.revision, self.base, 0);
        let mut pieces = Vec::new();
        let mut upserts = Vec::new();
        for item in self.upserts {
            let size = serde_json::to_vec(&item).map_or(0, |json| json.len());
            if bytes + size > bytes_max && !upserts.is_empty() {
                let full = std::mem::take(&mut upserts);
                pieces.push(Self { revision, base, upserts: full, removals: Vec::new(), more: true });
                (base, bytes) = (Some(revision), 0);
            }
            bytes += size;
            upserts.push(item);
        }
        pieces.push(Self { revision, base, upserts, removals: self.removals, more: self.more });
        pieces
    }
}

impl Assignment {
    /// A hash of the items, without the revision: two sides with equal digests have the same work.
    pub fn digest(&self) -> String {
        let items: Vec<&Item> = self.items.values().collect();
        let json = serde_json::to_vec(&items).expect("items serialise: their map keys are strings");
        hex::encode(digest::digest(&digest::SHA256, &json))
    }

    /// What must be sent to a node that has `before` so that it has `self`.
    pub fn since(&self, before: &Self) -> AssignmentUpdate {
        let upserts =
            self.items.iter().filter(|(key, item)| before.items.get(key) != Some(item)).map(|(_, item)| item.clone());
        let removals = before.items.keys().filter(|key| !self.items.contains_key(key)).cloned();
        AssignmentUpdate {
            revision: self.revision,
            base: Some(before.revision),
            upserts: upserts.collect(),
            removals: removals.collect(),
            more: false,
        }
    }

    /// The whole, as an update.
    pub fn whole(&self) -> AssignmentUpdate {
        AssignmentUpdate {
            revision: self.revision,
            base: None,
            upserts: self.items.values().cloned().collect(),
            removals: Vec::new(),
            more: false,
        }
    }

    /// Takes an update in. Returns false, and changes nothing, when it builds on another revision than this one.
    #[must_use]
    pub fn apply(&mut self, update: AssignmentUpdate) -> bool {
        match update.base {
            Some(base) if base != self.revision => return false,
            Some(_) => {}
            None => self.items.clear(),
        }
        for key in &update.removals {
            self.items.remove(key);
        }
        for item in update.upserts {
            self.items.insert(item.key(), item);
        }
        self.revision = update.revision;
        true
    }
}

/// Whether a container is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    /// It runs and is restarted when it ends.
    Run,
    /// It gets no new requests, finishes what it has, is stopped and removed; then `Stopped` is reported.
    Stop,
}

/// A container that a node runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceTask {
    /// Uid of the Instance.
    pub uid: String,
    /// Its namespace: the project, whose network it joins.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of its Application.
    pub application: String,
    /// Uid of its Application.
    pub application_uid: String,
    /// Name of its Release.
    pub release: String,
    /// Whether it is to run.
    pub state: RunState,
    /// The image's reference.
    pub image: String,
    /// The image's id, if known.
    #[serde(default)]
    pub digest: Option<String>,
    /// The arguments that start it; none = the image's own.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The port it listens on; none = the image's only exposed one.
    #[serde(default)]
    pub port: Option<u16>,
    /// Its environment, values resolved. The agent adds `PORT` and `BERTH_*`.
    #[serde(default)]
    pub env: Vec<EnvValue>,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// How it is probed.
    pub health: HealthProbe,
    /// How long requests in flight may take after it gets no new ones, in milliseconds.
    pub drain_milliseconds: u64,
    /// Whether its values cannot be told just now: a container that is there is kept as it is, and none is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
}

/// An environment variable with its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvValue {
    /// Its name.
    pub name: String,
    /// Its value, which may be a secret.
    pub value: String,
}

impl std::fmt::Debug for EnvValue {
    /// Values may be secrets, and tasks are logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=***", self.name)
    }
}

/// How an instance is probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthProbe {
    /// Path of a GET that answers 200 to 399; none = an open port is enough.
    #[serde(default)]
    pub path: Option<String>,
    /// Time between two probes.
    pub interval_milliseconds: u64,
    /// How long an answer may take.
    pub timeout_milliseconds: u64,
    /// How many must fail in a row.
    pub failures: u32,
    /// How long the first good answer may take.
    pub grace_milliseconds: u64,
}

/// An image that a node makes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildTask {
    /// Uid of the Build.
    pub uid: String,
    /// Its namespace: the project, whose caches it may use.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Name of its Application.
    pub application: String,
    /// Whether it is to end without an image.
    pub cancel: bool,
    /// Where the source is.
    pub git: GitAccess,
    /// The runtimes that may be used: the chosen one, or all active ones if it is to be found from the source.
    pub runtimes: Vec<RuntimeChoice>,
    /// Whether the runtime is to be found from the source.
    pub detect: bool,
    /// How it is built.
    pub options: BuildOptions,
    /// The start command the application gives, which ends the search for one.
    #[serde(default)]
    pub start_command: Option<String>,
    /// The port the application gives.
    #[serde(default)]
    pub port: Option<u16>,
    /// The reference that the finished image gets.
    pub image: String,
    /// Thousandths of a processor.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// How long it may take, in milliseconds.
    pub timeout_milliseconds: u64,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildArgument {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Where source is and how to sign in there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GitAccess {
    /// Address of the repository.
    pub url: String,
    /// The branch.
    pub branch: String,
    /// The commit; none = the branch's newest.
    #[serde(default)]
    pub commit: Option<String>,
    /// The application's folder in it.
    pub path: String,
    /// User name for https.
    #[serde(default)]
    pub username: Option<String>,
    /// Password or token for https.
    #[serde(default)]
    pub password: Option<String>,
    /// Private key for ssh, PEM.
    #[serde(default)]
    pub ssh_private_key: Option<String>,
    /// Known hosts for ssh, as OpenSSH writes them.
    #[serde(default)]
    pub known_hosts: Option<String>,
}

impl std::fmt::Debug for GitAccess {
    /// Without what signs in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitAccess")
            .field("url", &self.url)
            .field("branch", &self.branch)
            .field("commit", &self.commit)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A runtime as a build needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeChoice {
    /// Its name.
    pub name: String,
    /// Its language.
    pub language: Language,
    /// Its language's version.
    #[serde(default)]
    pub version: String,
    /// Image in which the source is built.
    #[serde(default)]
    pub build_image: Option<String>,
    /// Image on which the result runs.
    #[serde(default)]
    pub run_image: Option<String>,
    /// What is done where nothing else says.
    #[serde(default)]
    pub presets: Presets,
}

/// Hosts that lead to an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTask {
    /// Uid of the Application.
    pub application_uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub application: String,
    /// The host names, lower case. Requests go to the application's healthy instances on this node.
    pub hosts: Vec<String>,
}

/// An image that was built here and may be needed again, by a rollback for example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageTask {
    /// Uid of the Build that made it.
    pub build_uid: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(uid: &str, host: &str) -> Item {
        Item::Route(RouteTask {
            application_uid: uid.to_owned(),
            namespace: "acme".to_owned(),
            application: "web".to_owned(),
            hosts: vec![host.to_owned()],
        })
    }

    fn assignment(revision: u64, items: &[Item]) -> Assignment {
        Assignment { revision, items: items.iter().map(|item| (item.key(), item.clone())).collect() }
    }

    #[test]
    fn a_difference_leads_from_one_assignment_to_the_next() {
        let before = assignment(3, &[route("a", "a.example.com"), route("b", "b.example.com")]);
        let after = assignment(4, &[route("b", "new.example.com"), route("c", "c.example.com")]);
        let json = serde_json::to_string(&after.since(&before)).unwrap();
        let mut node = before.clone();
        assert!(node.apply(serde_json::from_str(&json).unwrap()));
        assert_eq!((&node, node.digest()), (&after, after.digest()));
    }

    #[test]
    fn pieces_come_to_the_same_and_are_small() {
        let routes: Vec<Item> = (0..40).map(|number| route(&number.to_string(), "x.example.com")).collect();
        let (before, after) = (assignment(3, &routes[..9]), assignment(4, &routes[5..]));
        let size = serde_json::to_vec(&routes[20]).unwrap().len();
        for update in [after.whole(), after.since(&before)] {
            let pieces = update.clone().pieces(4 * size);
            assert!(pieces.len() > 7, "{}", pieces.len());
            assert!(pieces.iter().all(|piece| serde_json::to_vec(piece).unwrap().len() < 4 * size + 300));
            let mores: Vec<bool> = pieces.iter().map(|piece| piece.more).collect();
            assert_eq!(mores.iter().rposition(|more| *more), Some(pieces.len() - 2), "only the last one ends it");
            let mut node = before.clone();
            assert!(pieces.into_iter().all(|piece| node.apply(piece)));
            assert_eq!(node, after);
            assert_eq!(update.clone().pieces(1 << 20), std::slice::from_ref(&update));
            assert_eq!(update.clone().pieces(1).len(), update.upserts.len(), "an item is not cut");
        }
    }

    #[test]
    fn a_difference_from_another_revision_is_refused_and_the_whole_never_is() {
        let before = assignment(3, &[route("a", "a.example.com")]);
        let after = assignment(9, &[route("b", "b.example.com")]);
        let mut node = assignment(2, &[]);
        assert!(!node.apply(after.since(&before)));
        assert_eq!(node, assignment(2, &[]));
        assert!(node.apply(after.whole()));
        assert_eq!(node, after);
    }

    #[test]
    fn secrets_do_not_show_in_logs() {
        let value = EnvValue { name: "KEY".to_owned(), value: "hunter2".to_owned() };
        assert_eq!(format!("{value:?}"), "KEY=***");
    }
}
