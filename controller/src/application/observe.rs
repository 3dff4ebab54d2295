//! What an application's reconciler looks at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{Application, Build, Instance, Plan, Release, Runtime};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::Settings;
use crate::node::{self, Side};
use crate::world::{Key, World};

/// What was seen.
#[derive(Clone, Debug)]
pub struct Observed {
    /// When.
    pub now: Timestamp,
    /// The Plan it names, if there is one.
    pub plan: Option<Arc<Plan>>,
    /// Names of the Plans that could be chosen.
    pub plans: Vec<String>,
    /// The Runtime it names, if there is one.
    pub runtime: Option<Arc<Runtime>>,
    /// Names of the Runtimes that could be chosen.
    pub runtimes: Vec<String>,
    /// Its builds, by name.
    pub builds: Vec<Arc<Build>>,
    /// Its releases, by name.
    pub releases: Vec<Arc<Release>>,
    /// Its instances, by name.
    pub instances: Vec<Arc<Instance>>,
    /// The nodes that its instances and routes are on.
    pub nodes: BTreeMap<String, NodeView>,
    /// The Secrets that its environment refers to, as far as they are there.
    pub secrets: BTreeMap<String, SecretView>,
    /// Its own host name.
    pub host: String,
    /// Its own address.
    pub url: String,
}

/// A node as an application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// Whether it can be heard.
    pub side: Side,
    /// Whether its instances are to move elsewhere.
    pub drain: bool,
    /// Whether it is given up.
    pub lost: bool,
}

/// A Secret without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretView {
    /// Changes with every change of it.
    pub version: (String, String),
    /// Its keys.
    pub keys: BTreeSet<String>,
}

pub(super) fn observe(application: &Application, world: &World, settings: &Settings, now: Timestamp) -> Observed {
    let key = Key::of(application);
    let uid = application.metadata.uid.clone().unwrap_or_default();
    let spec = &application.spec;
    let builds: Vec<_> =
        world.builds.of_application(&key).into_iter().filter(|build| is_mine(&**build, &uid)).collect();
    let releases: Vec<_> =
        world.releases.of_application(&key).into_iter().filter(|release| is_mine(&**release, &uid)).collect();
    let instances: Vec<_> =
        world.instances.of_application(&key).into_iter().filter(|instance| is_mine(&**instance, &uid)).collect();
    let names = instances.iter().filter_map(|instance| instance.spec.node_name.clone());
    let routed = application.status.iter().flat_map(|status| status.routes.keys().cloned());
    let nodes = names.chain(routed).collect::<BTreeSet<_>>().into_iter();
    let nodes = nodes.map(|name| {
        let drain = world.nodes.get(&Key::cluster(&name)).is_some_and(|node| node.spec.drain);
        let view = NodeView { side: node::side(world, &name, now), drain, lost: node::is_lost(world, &name, now) };
        (name, view)
    });
    let referred = spec.env.iter().filter_map(|variable| variable.value_from.as_ref());
    let secrets = referred.filter_map(|from| {
        let secret = world.secrets.get(&Key::new(&*key.namespace, &from.secret_key_ref.name))?;
        let keys = secret.data.iter().flatten().map(|(key, _)| key.clone()).collect();
        let version = (secret.uid().unwrap_or_default(), secret.resource_version().unwrap_or_default());
        Some((from.secret_key_ref.name.clone(), SecretView { version, keys }))
    });
    let active =
        |names: Vec<(String, bool)>| names.into_iter().filter(|(_, active)| *active).map(|(name, _)| name).collect();
    Observed {
        now,
        plan: world.plans.get(&Key::cluster(&spec.plan)),
        plans: active(world.plans.all().iter().map(|plan| (plan.name_any(), plan.spec.active)).collect()),
        runtime: spec.runtime.as_ref().and_then(|name| world.runtimes.get(&Key::cluster(name))),
        runtimes: active(world.runtimes.all().iter().map(|it| (it.name_any(), it.spec.active)).collect()),
        builds,
        releases,
        instances,
        nodes: nodes.collect(),
        secrets: secrets.collect(),
        host: settings.host(&key.namespace, &key.name),
        url: settings.url(&key.namespace, &key.name),
    }
}

/// Whether an object belongs to the application of this uid. Another application of the same name left nothing behind
/// that could be taken for ours.
fn is_mine<K: ResourceExt>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}
