//! All that the controller knows: every object of every kind it cares for, in memory, fed by watches.
//!
//! One world is shared by the reconcilers, the scheduler and the gateway. It is a copy and may be behind: whoever acts
//! on it must do no harm if it is (see the laws in `reconcile.rs`).

mod cache;
mod feed;
mod kind;

pub use cache::{Cache, Key};
pub(crate) use cache::{Change, Epoch};
pub(crate) use feed::feed;
pub use kind::Watched;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::{Application, Build, Instance, Node, Plan, Release, Runtime, User};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use tokio::sync::watch;

use crate::scheduler::Ledger;

/// All objects that the controller knows.
pub struct World {
    /// What can be bought.
    pub plans: Cache<Plan>,
    /// How source becomes an image.
    pub runtimes: Cache<Runtime>,
    /// The workers.
    pub nodes: Cache<Node>,
    /// What customers want to run.
    pub applications: Cache<Application>,
    /// From source to image.
    pub builds: Cache<Build>,
    /// Snapshots of what makes an instance.
    pub releases: Cache<Release>,
    /// The containers.
    pub instances: Cache<Instance>,
    /// The people who sign in.
    pub users: Cache<User>,
    /// Values that environments refer to.
    pub secrets: Cache<Secret>,
    /// The projects.
    pub namespaces: Cache<Namespace>,
    ledger: Mutex<Ledger>,
    changed: watch::Sender<u64>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            plans: Cache::default(),
            runtimes: Cache::default(),
            nodes: Cache::default(),
            applications: Cache::default(),
            builds: Cache::default(),
            releases: Cache::default(),
            instances: Cache::default(),
            users: Cache::default(),
            secrets: Cache::default(),
            namespaces: Cache::default(),
            ledger: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl World {
    /// Whether the first list of every kind has arrived. Before that nobody may act: what is missing may only not have
    /// been heard of yet.
    pub fn is_filled(&self) -> bool {
        self.plans.is_filled()
            && self.runtimes.is_filled()
            && self.nodes.is_filled()
            && self.applications.is_filled()
            && self.builds.is_filled()
            && self.releases.is_filled()
            && self.instances.is_filled()
            && self.users.is_filled()
            && self.secrets.is_filled()
            && self.namespaces.is_filled()
    }

    /// Waits until [`World::is_filled`].
    pub async fn filled(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_filled() {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// A number that is different after any change. Waiting on it misses nothing: look at the world first, then wait.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What is promised on which node.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits that something changed.
    pub(crate) fn note_change(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
