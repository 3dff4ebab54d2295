//! What the world needs to know of a kind that it watches.

use std::fmt::Debug;

use crds::{Application, Build, Instance, Node, Plan, Release, Runtime, User};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::World;
use super::cache::Cache;

/// A kind that is kept in memory.
pub trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// The kind, for logs and metrics.
    const KIND: &'static str;

    /// Where it is kept.
    fn cache(world: &World) -> &Cache<Self>;

    /// The Application it belongs to, by name.
    fn application(&self) -> Option<&str> {
        None
    }

    /// The Node it was given to.
    fn node(&self) -> Option<&str> {
        None
    }
}

impl Watched for Plan {
    const KIND: &'static str = "Plan";

    fn cache(world: &World) -> &Cache<Self> {
        &world.plans
    }
}

impl Watched for Runtime {
    const KIND: &'static str = "Runtime";

    fn cache(world: &World) -> &Cache<Self> {
        &world.runtimes
    }
}

impl Watched for Node {
    const KIND: &'static str = "Node";

    fn cache(world: &World) -> &Cache<Self> {
        &world.nodes
    }
}

impl Watched for Application {
    const KIND: &'static str = "Application";

    fn cache(world: &World) -> &Cache<Self> {
        &world.applications
    }
}

impl Watched for Build {
    const KIND: &'static str = "Build";

    fn cache(world: &World) -> &Cache<Self> {
        &world.builds
    }

    fn application(&self) -> Option<&str> {
        Some(&self.spec.application)
    }

    fn node(&self) -> Option<&str> {
        self.status.as_ref()?.node.as_deref()
    }
}

impl Watched for Release {
    const KIND: &'static str = "Release";

    fn cache(world: &World) -> &Cache<Self> {
        &world.releases
    }

    fn application(&self) -> Option<&str> {
        Some(&self.spec.application)
    }
}

impl Watched for Instance {
    const KIND: &'static str = "Instance";

    fn cache(world: &World) -> &Cache<Self> {
        &world.instances
    }

    fn application(&self) -> Option<&str> {
        Some(&self.spec.application)
    }

    fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref()
    }
}

impl Watched for User {
    const KIND: &'static str = "User";

    fn cache(world: &World) -> &Cache<Self> {
        &world.users
    }
}

impl Watched for Secret {
    const KIND: &'static str = "Secret";

    fn cache(world: &World) -> &Cache<Self> {
        &world.secrets
    }
}

impl Watched for Namespace {
    const KIND: &'static str = "Namespace";

    fn cache(world: &World) -> &Cache<Self> {
        &world.namespaces
    }
}
