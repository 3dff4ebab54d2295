//! An API server, a controller, an agent, and a client to look at them with.

use std::sync::Arc;
use std::time::Duration;

use apiserver::kind::Kind;
use apiserver::store::{Settings as StoreSettings, Store};
use apiserver::{Identity, Kinds, Server, core_kinds};
use controller::clock::Clock;
use controller::{Controller, Options, Settings, World};
use crds::{Application, Instance, Node, Plan};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use prometheus::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::agent;

/// Everything here happens within milliseconds; a slow machine gets this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Platform {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    _shutdown: DropGuard,
}

impl Platform {
    /// A platform with a plan and a node that reports.
    pub(crate) async fn new() -> Self {
        let mut kinds = core_kinds::all();
        kinds.extend(crds::KINDS.iter().map(|entry| Kind::from_crd(&(entry.crd)(), entry.table).unwrap()));
        let kinds = Kinds::new(kinds).unwrap();
        let store = Store::open_in_memory(kinds.tables(), StoreSettings::default()).await.unwrap();
        let registry = Registry::new();
        let shutdown = CancellationToken::new();
        let server = Server::builder(store, kinds, apiserver::clock::Clock::system(), registry.clone())
            .shutdown(shutdown.clone())
            .build()
            .unwrap();
        let client = Client::new(server.local(Identity::new("controller", ["system:masters".to_owned()])), "default");
        controller::task::spawn("server", async move { server.run().await });

        let options = Options {
            settings: Settings { platform_domain: "apps.example.com".to_owned(), public_port: None },
            clock: Clock::system(),
            registry,
            source_networks: Vec::new(),
        };
        let controller = Controller::new(client.clone(), options).unwrap();
        let world = controller.world();
        controller::task::spawn("controller", controller.run(shutdown.clone()));
        let platform = Self { client, world, _shutdown: shutdown.clone().drop_guard() };
        tokio::time::timeout(PATIENCE, platform.world.filled()).await.expect("the world is filled in time");
        platform.create(&platform.cluster::<Plan>(), plan("small")).await;
        platform.create(&platform.cluster::<Node>(), json!({ "metadata": { "name": "n1" }, "spec": {} })).await;
        platform.status(&platform.cluster::<Node>(), "n1", agent::node_status()).await;
        controller::task::spawn("agent", agent::run(platform.client.clone(), "n1".to_owned(), shutdown));
        let mut changed = platform.world.changed();
        let known = async {
            while platform.world.plans.get(&controller::world::Key::cluster("small")).is_none() {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, known).await.expect("the plan is known in time");
        platform
    }

    pub(crate) fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }

    pub(crate) fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Makes an object of what a person would write, less apiVersion and kind.
    pub(crate) async fn create<K>(&self, api: &Api<K>, mut object: Value) -> K
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        object["apiVersion"] = K::api_version(&()).into();
        object["kind"] = K::kind(&()).into();
        let object: K = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    pub(crate) async fn status<K>(&self, api: &Api<K>, name: &str, status: Value)
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        let api = self.namespaced::<Application>();
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until an application is as it should be, and returns it.
    pub(crate) async fn until(&self, name: &str, what: &str, holds: impl Fn(&Application) -> bool) -> Application {
        let api = self.namespaced::<Application>();
        let mut changed = self.world.changed();
        let search = async {
            loop {
                let application = api.get(name).await.unwrap();
                if holds(&application) {
                    return application;
                }
                // A change of anything is a reason to look again; so is a while without one.
                let _any = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
            }
        };
        if let Ok(application) = tokio::time::timeout(PATIENCE, search).await {
            return application;
        }
        let application = api.get(name).await.unwrap();
        panic!("not in time: {what}\n{}", serde_json::to_string_pretty(&application).unwrap())
    }

    /// Waits for anything at all.
    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let mut changed = self.world.changed();
        let search = async {
            while !holds().await {
                let _any = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    pub(crate) async fn instances(&self) -> Vec<Instance> {
        self.namespaced::<Instance>().list(&ListParams::default()).await.unwrap().items
    }
}

pub(crate) fn plan(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "cpu": "100m", "memory": "64Mi", "disk": "128Mi", "pricePerHour": "0.01" }
    })
}

/// An application of a prebuilt image.
pub(crate) fn prebuilt(name: &str, image: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "source": { "image": { "reference": image } }, "plan": "small", "start": { "port": 8080 } }
    })
}

/// The status and reason of a condition.
pub(crate) fn condition(application: &Application, type_: &str) -> (String, String) {
    let conditions = application.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    crds::condition::find(conditions, type_)
        .map(|condition| (condition.status.clone(), condition.reason.clone()))
        .unwrap_or_default()
}

pub(crate) fn is(application: &Application, type_: &str, status: &str, reason: &str) -> bool {
    condition(application, type_) == (status.to_owned(), reason.to_owned())
}

pub(crate) fn active(application: &Application) -> String {
    application.status.as_ref().and_then(|status| status.active_release.clone()).unwrap_or_default()
}

pub(crate) fn names<K: ResourceExt>(list: &[K]) -> Vec<String> {
    list.iter().map(ResourceExt::name_any).collect()
}
