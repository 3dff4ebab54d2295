//! Where changes come together: what a change of one object asks to be looked at again.

use std::sync::Arc;

use crds::{Application, Build, Instance, Node, Plan, Release, Runtime, User};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;

use crate::Settings;
use crate::clock::Clock;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::step::Noun;
use crate::world::{Change, Epoch, Key, Watched, World};
use crate::{application, node, user};

/// All that the parts of a controller share.
pub(crate) struct Hub {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) queues: Queues,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
}

/// What is to be looked at, a queue a kind.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) plans: Queue,
    pub(crate) runtimes: Queue,
    pub(crate) nodes: Queue,
    pub(crate) applications: Queue,
    pub(crate) builds: Queue,
    pub(crate) releases: Queue,
    pub(crate) instances: Queue,
    pub(crate) users: Queue,
    /// Instances without a node, for the scheduler.
    pub(crate) unscheduled: Queue,
}

impl Queues {
    pub(crate) fn of(&self, noun: Noun) -> &Queue {
        match noun {
            Noun::Plan => &self.plans,
            Noun::Runtime => &self.runtimes,
            Noun::Node => &self.nodes,
            Noun::Application => &self.applications,
            Noun::Build => &self.builds,
            Noun::Release => &self.releases,
            Noun::Instance => &self.instances,
            Noun::User => &self.users,
        }
    }
}

impl Hub {
    /// Takes in the answer to a write of our own.
    pub(crate) fn absorb<K: Reacts>(&self, object: K, epoch: Epoch) {
        if let Some(change) = K::cache(&self.world).absorb(object, epoch) {
            self.changed(&change);
        }
    }

    /// Asks for everything that a change concerns, and tells whoever waits.
    pub(crate) fn changed<K: Reacts>(&self, change: &Change<K>) {
        self.react(change);
        self.world.note_change();
    }

    /// Asks for everything that a change concerns.
    pub(crate) fn react<K: Reacts>(&self, change: &Change<K>) {
        for object in [&change.before, &change.after].into_iter().flatten() {
            object.concerns(self);
        }
        K::differs(self, change);
    }

    /// Everything is looked at: once the world is filled, and now and then because nothing is perfect.
    pub(crate) fn look_at_everything(&self) {
        let all = [
            (&self.queues.plans, self.world.plans.keys()),
            (&self.queues.runtimes, self.world.runtimes.keys()),
            (&self.queues.nodes, self.world.nodes.keys()),
            (&self.queues.applications, self.world.applications.keys()),
            (&self.queues.builds, self.world.builds.keys()),
            (&self.queues.releases, self.world.releases.keys()),
            (&self.queues.instances, self.world.instances.keys()),
            (&self.queues.users, self.world.users.keys()),
            (&self.queues.unscheduled, self.world.instances.keys()),
        ];
        for (queue, keys) in all {
            for key in keys {
                queue.add(key);
            }
        }
    }

    fn applications_that(&self, matches: impl Fn(&Application) -> bool) {
        for application in self.world.applications.all() {
            if matches(&application) {
                self.queues.applications.add(Key::of(&*application));
            }
        }
    }
}

/// A kind whose changes concern others.
pub(crate) trait Reacts: Watched {
    /// Asks for what an object of this state concerns; called for the state before and after a change.
    fn concerns(&self, hub: &Hub);

    /// Asks for what only a difference concerns.
    fn differs(_hub: &Hub, _change: &Change<Self>) {}
}

impl Reacts for Plan {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.applications_that(|application| application.spec.plan == key.name);
        hub.queues.plans.add(key);
    }
}

impl Reacts for Runtime {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.applications_that(|application| application.spec.runtime.as_deref() == Some(&*key.name));
        hub.queues.runtimes.add(key);
    }
}

impl Reacts for Node {
    fn concerns(&self, hub: &Hub) {
        hub.queues.nodes.add(Key::of(self));
    }

    fn differs(hub: &Hub, change: &Change<Self>) {
        let views = [&change.before, &change.after].map(|side| side.as_deref().map(node::outlook));
        if let Some(node) = change.after.as_ref().or(change.before.as_ref()) {
            let name = &Key::of(&**node).name;
            let mut ledger = hub.world.ledger();
            match &change.after {
                Some(node) => ledger.set_node(name, node),
                None => ledger.remove_node(name),
            }
        }
        // Most changes are heartbeats, and they concern nobody else.
        if views[0] == views[1] {
            return;
        }
        let Some(node) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let name = Key::of(&**node).name;
        for instance in hub.world.instances.on_node(&name) {
            hub.queues.instances.add(Key::of(&*instance));
            hub.queues.applications.add(Key::new(Key::of(&*instance).namespace, &instance.spec.application));
        }
        for build in hub.world.builds.all() {
            let unfinished = build.status.as_ref().is_none_or(|status| !status.phase.is_final());
            if unfinished {
                hub.queues.builds.add(Key::of(&*build));
            }
        }
        hub.applications_that(|application| {
            application.status.as_ref().is_some_and(|status| status.routes.contains_key(&name))
        });
        crate::scheduler::wake(hub);
    }
}

impl Reacts for Application {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.queues.plans.add(Key::cluster(&self.spec.plan));
        if let Some(runtime) = &self.spec.runtime {
            hub.queues.runtimes.add(Key::cluster(runtime));
        }
        hub.queues.applications.add(key);
    }

    fn differs(hub: &Hub, change: &Change<Self>) {
        let active = |side: &Option<Arc<Self>>| {
            side.as_ref().and_then(|object| object.status.as_ref()).and_then(|status| status.active_release.clone())
        };
        let (before, after) = (active(&change.before), active(&change.after));
        if before != after
            && let Some(object) = change.after.as_ref().or(change.before.as_ref())
        {
            for name in [before, after].into_iter().flatten() {
                hub.queues.releases.add(Key::new(Key::of(&**object).namespace, name));
            }
        }
    }
}

impl Reacts for Build {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.queues.applications.add(Key::new(&*key.namespace, &self.spec.application));
        hub.queues.builds.add(key);
    }
}

impl Reacts for Release {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.queues.applications.add(Key::new(&*key.namespace, &self.spec.application));
        hub.queues.releases.add(key);
    }
}

impl Reacts for Instance {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        hub.queues.applications.add(Key::new(&*key.namespace, &self.spec.application));
        hub.queues.releases.add(Key::new(&*key.namespace, &self.spec.release));
        if let Some(node) = &self.spec.node_name {
            hub.queues.nodes.add(Key::cluster(node));
        }
        hub.queues.instances.add(key);
    }

    fn differs(hub: &Hub, change: &Change<Self>) {
        let Some(object) = change.after.as_ref().or(change.before.as_ref()) else { return };
        let key = Key::of(&**object);
        let freed = match &change.after {
            Some(instance) => hub.world.ledger().set_instance(&key, instance),
            None => hub.world.ledger().remove_instance(&key),
        };
        if change.after.as_ref().is_some_and(|instance| crate::scheduler::wants_node(instance)) {
            hub.queues.unscheduled.add(key);
        }
        if freed {
            crate::scheduler::wake(hub);
        }
    }
}

impl Reacts for Secret {
    fn concerns(&self, hub: &Hub) {
        let key = Key::of(self);
        for application in hub.world.applications.in_namespace(&key.namespace) {
            if application::refers_to_secret(&application, &key.name) {
                hub.queues.applications.add(Key::of(&*application));
            }
        }
        if let Some(name) = user::whose_password(self) {
            hub.queues.users.add(Key::cluster(name));
        }
    }
}

impl Reacts for User {
    fn concerns(&self, hub: &Hub) {
        hub.queues.users.add(Key::of(self));
    }
}

impl Reacts for Namespace {
    fn concerns(&self, _hub: &Hub) {}
}
