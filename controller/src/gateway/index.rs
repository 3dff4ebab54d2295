//! The objects that assignments are made from, arranged so that one node's part is found without a search.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crds::names;
use crds::{Application, Build, Instance, Node, Plan, Runtime};
use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use crate::world::World;

/// A namespace and a name.
pub type Key = (String, String);

/// Everything that assignments are made from, in any order: what the caches hold at one moment.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The workers.
    pub nodes: Vec<Arc<Node>>,
    /// The applications.
    pub applications: Vec<Arc<Application>>,
    /// The containers.
    pub instances: Vec<Arc<Instance>>,
    /// The builds.
    pub builds: Vec<Arc<Build>>,
    /// The plans, which say how much a build may use.
    pub plans: Vec<Arc<Plan>>,
    /// The runtimes.
    pub runtimes: Vec<Arc<Runtime>>,
    /// The secrets of all namespaces: environment values and git credentials.
    pub secrets: Vec<Arc<Secret>>,
}

/// The objects, by what they are looked up with. Made anew from the caches after every change, and shared.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) nodes: BTreeMap<String, Arc<Node>>,
    pub(super) applications: BTreeMap<Key, Arc<Application>>,
    applications_by_uid: BTreeMap<String, Arc<Application>>,
    instances: BTreeMap<String, Arc<Instance>>,
    builds: BTreeMap<String, Arc<Build>>,
    instances_of: BTreeMap<String, Vec<Arc<Instance>>>,
    builds_of: BTreeMap<String, Vec<Arc<Build>>>,
    pub(super) plans: BTreeMap<String, Arc<Plan>>,
    pub(super) runtimes: BTreeMap<String, Arc<Runtime>>,
    pub(super) secrets: BTreeMap<Key, Arc<Secret>>,
    /// Which application has a host of a customer's own, by its uid.
    domains: BTreeMap<String, String>,
    platform_domain: String,
    /// A hash of what every build's task depends on, whichever node has it.
    runtimes_hash: u64,
}

impl Objects {
    /// What the world holds now; `None` until it has been filled, because what it lacks then may only not have been
    /// heard of yet.
    pub fn of(world: &World) -> Option<Self> {
        world.is_filled().then(|| Self {
            nodes: world.nodes.all(),
            applications: world.applications.all(),
            instances: world.instances.all(),
            builds: world.builds.all(),
            plans: world.plans.all(),
            runtimes: world.runtimes.all(),
            secrets: world.secrets.all(),
        })
    }
}

impl Index {
    /// Arranges the objects. `platform_domain` is the name under which every application gets a label of its own.
    pub fn new(objects: Objects, platform_domain: &str) -> Self {
        let mut index = Self {
            domains: domains(&objects.applications, platform_domain),
            platform_domain: platform_domain.to_owned(),
            nodes: objects.nodes.into_iter().map(|node| (uid(&*node), node)).collect(),
            applications_by_uid: objects.applications.iter().map(|app| (uid(&**app), Arc::clone(app))).collect(),
            applications: objects.applications.into_iter().map(|app| (key(&*app), app)).collect(),
            instances: objects.instances.into_iter().map(|instance| (uid(&*instance), instance)).collect(),
            builds: objects.builds.into_iter().map(|build| (uid(&*build), build)).collect(),
            plans: objects.plans.into_iter().map(|plan| (plan.name_any(), plan)).collect(),
            runtimes: objects.runtimes.into_iter().map(|runtime| (runtime.name_any(), runtime)).collect(),
            secrets: objects.secrets.into_iter().map(|secret| (key(&*secret), secret)).collect(),
            ..Self::default()
        };
        for instance in index.instances.values() {
            if let Some(node) = &instance.spec.node_name {
                index.instances_of.entry(node.clone()).or_default().push(Arc::clone(instance));
            }
        }
        for build in index.builds.values() {
            if let Some(node) = build.status.as_ref().and_then(|status| status.node.as_ref()) {
                index.builds_of.entry(node.clone()).or_default().push(Arc::clone(build));
            }
        }
        let mut hasher = DefaultHasher::new();
        for (name, runtime) in &index.runtimes {
            (name, runtime.metadata.uid.as_deref(), runtime.metadata.generation, runtime.spec.active).hash(&mut hasher);
        }
        index.runtimes_hash = hasher.finish();
        index
    }

    /// The node with this uid.
    pub fn node(&self, uid: &str) -> Option<&Arc<Node>> {
        self.nodes.get(uid)
    }

    /// The instance with this uid.
    pub fn instance(&self, uid: &str) -> Option<&Arc<Instance>> {
        self.instances.get(uid)
    }

    /// The build with this uid.
    pub fn build(&self, uid: &str) -> Option<&Arc<Build>> {
        self.builds.get(uid)
    }

    /// The application with this uid.
    pub fn application(&self, uid: &str) -> Option<&Arc<Application>> {
        self.applications_by_uid.get(uid)
    }

    /// The uids of all builds.
    pub fn build_uids(&self) -> impl Iterator<Item = &str> {
        self.builds.keys().map(String::as_str)
    }

    /// The instances that were placed on a node, by uid.
    pub fn instances_on(&self, node: &str) -> &[Arc<Instance>] {
        self.instances_of.get(node).map_or(&[], Vec::as_slice)
    }

    /// The builds that were placed on a node, by uid.
    pub fn builds_on(&self, node: &str) -> &[Arc<Build>] {
        self.builds_of.get(node).map_or(&[], Vec::as_slice)
    }

    /// The hosts that lead to an application: its label under the platform's domain, then those of its own that no
    /// older application claims, in order of name.
    pub fn hosts(&self, application: &Application) -> Vec<String> {
        let uid = uid(application);
        let mut hosts = Vec::new();
        if !self.platform_domain.is_empty() {
            hosts.push(own_host(application, &self.platform_domain));
        }
        let mut claimed: Vec<&String> =
            application.spec.domains.iter().filter(|host| self.domains.get(*host) == Some(&uid)).collect();
        claimed.sort();
        claimed.dedup();
        hosts.extend(claimed.into_iter().cloned());
        hosts
    }

    /// A number that changes whenever a node's assignment may: comparing it costs far less than making the
    /// assignment, and most changes concern one node of thousands.
    pub fn fingerprint(&self, node: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        for instance in self.instances_on(node) {
            version(&**instance).hash(&mut hasher);
            let namespace = instance.namespace().unwrap_or_default();
            self.hash_application(&namespace, &instance.spec.application, &mut hasher);
            for variable in &instance.spec.template.env {
                if let Some(source) = &variable.value_from {
                    self.hash_secret(&namespace, &source.secret_key_ref.name, &mut hasher);
                }
            }
        }
        for build in self.builds_on(node) {
            version(&**build).hash(&mut hasher);
            self.runtimes_hash.hash(&mut hasher);
            let namespace = build.namespace().unwrap_or_default();
            self.hash_application(&namespace, &build.spec.application, &mut hasher);
            if let Some(credentials) = &build.spec.source.git.credentials {
                self.hash_secret(&namespace, &credentials.secret_name, &mut hasher);
            }
        }
        hasher.finish()
    }

    fn hash_application(&self, namespace: &str, name: &str, hasher: &mut DefaultHasher) {
        let Some(application) = self.applications.get(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        (uid(&**application), application.metadata.generation).hash(hasher);
        for host in &application.spec.domains {
            self.domains.get(host).hash(hasher);
        }
        if let Some(plan) = self.plans.get(&application.spec.plan) {
            (plan.metadata.uid.as_deref(), plan.metadata.generation).hash(hasher);
        }
    }

    fn hash_secret(&self, namespace: &str, name: &str, hasher: &mut DefaultHasher) {
        self.secrets.get(&(namespace.to_owned(), name.to_owned())).map(|secret| version(&**secret)).hash(hasher);
    }
}

/// The host that belongs to an application alone.
fn own_host(application: &Application, platform_domain: &str) -> String {
    let slug = names::slug(&application.namespace().unwrap_or_default(), &application.name_any());
    format!("{slug}.{platform_domain}")
}

/// Gives each claimed host to the oldest application that claims it; two of one second are told apart by uid. Hosts
/// under the platform's own domain are nobody's to claim.
fn domains(applications: &[Arc<Application>], platform_domain: &str) -> BTreeMap<String, String> {
    let mut claims: BTreeMap<&str, (i64, String)> = BTreeMap::new();
    for application in applications {
        let created = application.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second());
        let claim = (created, uid(&**application));
        for host in &application.spec.domains {
            if !names::is_host(host) || is_under(host, platform_domain) {
                continue;
            }
            let holder = claims.entry(host).or_insert_with(|| claim.clone());
            if claim < *holder {
                *holder = claim.clone();
            }
        }
    }
    claims.into_iter().map(|(host, (_, uid))| (host.to_owned(), uid)).collect()
}

fn is_under(host: &str, domain: &str) -> bool {
    !domain.is_empty() && (host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// An object's uid; empty for one that no server has seen, which then equals nothing that has one.
pub(super) fn uid(object: &impl ResourceExt) -> String {
    object.uid().unwrap_or_default()
}

fn key<K: ResourceExt>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn version<K: Resource>(object: &K) -> (Option<String>, Option<String>) {
    (object.meta().uid.clone(), object.meta().resource_version.clone())
}
