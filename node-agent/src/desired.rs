//! What a node should run, in the agent's words: the assignment, sorted out. Pure.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use node_protocol::{Assignment, BuildTask, InstanceTask, Item, RouteTask, RunState};
use serde::Serialize;

use crate::labels;
use crate::machine::{ContainerSpec, Image, NetworkSpec};

/// The port an instance listens on if neither it nor its image says.
pub(crate) const PORT: u16 = 8080;

/// What a node should run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired {
    /// Uid of the node.
    pub(crate) node: String,
    /// Ports of its Nginx: http and https.
    pub(crate) ports: (u16, u16),
    /// Instances by uid.
    pub(crate) instances: BTreeMap<String, InstanceTask>,
    /// Builds by uid.
    pub(crate) builds: BTreeMap<String, BuildTask>,
    /// Routes by the application's uid.
    pub(crate) routes: BTreeMap<String, RouteTask>,
    /// Uids of the builds whose images are kept.
    pub(crate) images: BTreeSet<String>,
    /// Whether there is more that could not be read: then nothing is taken for unassigned.
    pub(crate) partial: bool,
}

impl Desired {
    /// Sorts an assignment out.
    pub(crate) fn new(node: &str, ports: (u16, u16), assignment: &Assignment) -> Self {
        let mut desired = Self { node: node.to_owned(), ports, ..Self::default() };
        for item in assignment.items.values() {
            match item {
                Item::Instance(task) => {
                    desired.instances.insert(task.uid.clone(), task.clone());
                }
                Item::Build(task) => {
                    desired.builds.insert(task.uid.clone(), task.clone());
                }
                Item::Route(task) => {
                    desired.routes.insert(task.application_uid.clone(), task.clone());
                }
                Item::Image(task) => {
                    desired.images.insert(task.build_uid.clone());
                }
            }
        }
        desired
    }

    /// Namespaces in which something is to run or to end.
    pub(crate) fn namespaces(&self) -> BTreeSet<&str> {
        self.instances.values().map(|task| task.namespace.as_str()).collect()
    }

    /// An instance that is to run.
    pub(crate) fn to_run(&self, uid: &str) -> Option<&InstanceTask> {
        self.instances.get(uid).filter(|task| task.state == RunState::Run)
    }
}

/// How a task's image is asked for: by its id if that is known.
pub(crate) fn image_key(task: &InstanceTask) -> String {
    task.digest.clone().unwrap_or_else(|| task.image.clone())
}

/// Whether a task may run an image that is here: what was built, by its id and for the same project; what a customer
/// wishes for, by its name, and unless it was built for another one.
pub(crate) fn may_run(task: &InstanceTask, image: &Image) -> bool {
    let open = labels::is_open_to(&image.labels, &task.namespace);
    match &task.digest {
        Some(id) => open && image.id == *id && image.labels.contains_key(labels::BUILD),
        None => open && !image.is_found_by_id(&task.image),
    }
}

/// All of a task that makes its container; another value is another container.
#[derive(Serialize)]
struct Essence<'a> {
    image: &'a str,
    digest: Option<&'a str>,
    command: Option<&'a [String]>,
    port: Option<u16>,
    env: Vec<(&'a str, &'a str)>,
    cpu_millis: u64,
    memory_bytes: u64,
    application: &'a str,
    release: &'a str,
}

/// Hash of all that makes the container.
pub(crate) fn spec_hash(task: &InstanceTask) -> String {
    let essence = Essence {
        image: &task.image,
        digest: task.digest.as_deref(),
        command: task.command.as_deref(),
        port: task.port,
        env: task.env.iter().map(|variable| (variable.name.as_str(), variable.value.as_str())).collect(),
        cpu_millis: task.cpu_millis,
        memory_bytes: task.memory_bytes,
        application: &task.application,
        release: &task.release,
    };
    let json = serde_json::to_vec(&essence).expect("strings and numbers serialise");
    let mut hash = hex::encode(digest::digest(&digest::SHA256, &json));
    hash.truncate(16);
    hash
}

/// The port an instance listens on.
pub(crate) fn port(task: &InstanceTask, image: &Image) -> u16 {
    let mut exposed = image.ports.iter();
    let only = match (exposed.next(), exposed.next()) {
        (Some(port), None) => Some(*port),
        _ => None,
    };
    task.port.or(only).unwrap_or(PORT)
}

/// The network of a project.
pub(crate) fn network(node: &str, namespace: &str) -> NetworkSpec {
    let name = labels::network_name(node, namespace);
    NetworkSpec {
        bridge: labels::bridge_name(&name),
        labels: BTreeMap::from([(labels::NAMESPACE.to_owned(), namespace.to_owned())]),
        name,
    }
}

/// The container of a task.
pub(crate) fn container(node: &str, task: &InstanceTask, image: &Image) -> ContainerSpec {
    let port = port(task, image);
    let mut env: Vec<(String, String)> =
        task.env.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect();
    for (name, value) in [
        ("PORT", port.to_string()),
        ("BERTH_APPLICATION", task.application.clone()),
        ("BERTH_INSTANCE", task.name.clone()),
        ("BERTH_RELEASE", task.release.clone()),
    ] {
        env.retain(|(taken, _)| taken != name);
        env.push((name.to_owned(), value));
    }
    let labels = [
        (labels::NODE, node.to_owned()),
        (labels::UID, task.uid.clone()),
        (labels::SPEC_HASH, spec_hash(task)),
        (labels::NAMESPACE, task.namespace.clone()),
        (labels::APPLICATION, task.application.clone()),
        (labels::APPLICATION_UID, task.application_uid.clone()),
        (labels::INSTANCE, task.name.clone()),
        (labels::RELEASE, task.release.clone()),
        (labels::PORT, port.to_string()),
        (labels::DRAIN, task.drain_milliseconds.to_string()),
    ];
    ContainerSpec {
        name: labels::container_name(node, &task.namespace, &task.name, &task.uid),
        image: image.id.clone(),
        command: task.command.clone(),
        env,
        labels: labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        network: labels::network_name(node, &task.namespace),
        aliases: vec![task.application.clone()],
        cpu_millis: task.cpu_millis,
        memory_bytes: task.memory_bytes,
        read_only: image.labels.get(labels::READ_ONLY).is_some_and(|value| value == "true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::task;

    fn image(id: &str, tags: &[&str], labels: &[(&str, &str)]) -> Image {
        Image {
            id: format!("sha256:{id}"),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Image::default()
        }
    }

    #[test]
    fn a_wish_finds_no_image_of_another_project_and_none_by_its_id() {
        let wish = |name: &str| InstanceTask { image: name.to_owned(), ..task(0, 0, 0, RunState::Run) };
        let own = [(labels::BUILD, "u"), (labels::NAMESPACE, "project-0")];
        let theirs = [(labels::BUILD, "u"), (labels::NAMESPACE, "project-1")];
        assert!(may_run(&wish("nginx"), &image("a3f0", &["nginx:latest"], &[])));
        assert!(may_run(&wish("a3f"), &image("a3f0", &["a3f:latest"], &[])));
        assert!(may_run(&wish("r.example.com/shop:1"), &image("b", &["r.example.com/shop:1"], &own)));
        for (name, found) in [
            ("berth-stage/project-1/shop:0", image("b", &["berth-stage/project-1/shop:0"], &theirs)),
            ("shop:1", image("b", &["shop:1"], &[(labels::CACHE, "project-1/shop")])),
            ("a3f", image("a3f0", &["nginx:latest"], &[])),
            ("sha256:a3f0", image("a3f0", &[], &[])),
            ("a3f0", image("a3f0", &[], &own)),
        ] {
            assert!(!may_run(&wish(name), &found), "{name}");
        }
    }

    #[test]
    fn what_was_built_runs_for_its_own_project_only() {
        let built = InstanceTask { digest: Some("sha256:b".to_owned()), ..task(0, 0, 0, RunState::Run) };
        let of = |project| image("b", &[], &[(labels::BUILD, "u"), (labels::NAMESPACE, project)]);
        assert!(may_run(&built, &of("project-0")));
        assert!(!may_run(&built, &of("project-1")) && !may_run(&built, &image("b", &[], &[])));
    }
}
