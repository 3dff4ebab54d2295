//! An API server, a controller and a gateway that listens on a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use apiserver::auth::{Attributes, Authorizer, Rule};
use apiserver::kind::Kind;
use apiserver::store::{Settings as StoreSettings, Store};
use apiserver::{Identity, Kinds, Server, core_kinds};
use axum::Router;
use axum::body::Body;
use controller::clock::Clock;
use controller::gateway::{Gateway, tokens};
use controller::series::Series;
use controller::{Controller, Options, Settings, World, web};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use prometheus::Registry;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// Everything here happens within milliseconds; a slow machine gets this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Names who asks, in the tests' own way: the server's authentication is tested with the server.
const USER: &str = "x-test-user";

/// A certificate is only ever hashed here: any bytes will do.
const CA: &str = "-----BEGIN CERTIFICATE-----\nAAECAwQF\n-----END CERTIFICATE-----\n";

/// `root` may everything; everybody else only what is in the namespace of their own name.
#[derive(Debug)]
struct OwnNamespace;

impl Authorizer for OwnNamespace {
    fn allows<'a>(&'a self, identity: &'a Identity, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        let allowed = identity.is_admin() || attributes.namespace == identity.user;
        async move { allowed }.boxed()
    }

    fn rules<'a>(&'a self, _: &'a Identity, _: &'a str) -> BoxFuture<'a, Vec<Rule>> {
        async { Vec::new() }.boxed()
    }
}

pub(crate) struct Platform {
    pub(crate) client: Client,
    pub(crate) world: Arc<World>,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    routes: Router,
    registry: Registry,
    _folder: tempfile::TempDir,
    _shutdown: DropGuard,
}

impl Platform {
    pub(crate) async fn new() -> Self {
        let mut kinds = core_kinds::all();
        kinds.extend(crds::KINDS.iter().map(|entry| Kind::from_crd(&(entry.crd)(), entry.table).unwrap()));
        let kinds = Kinds::new(kinds).unwrap();
        let store = Store::open_in_memory(kinds.tables(), StoreSettings::default()).await.unwrap();
        let registry = Registry::new();
        let shutdown = CancellationToken::new();
        let server = Server::builder(store, kinds, apiserver::clock::Clock::system(), registry.clone())
            .authorizer(Arc::new(OwnNamespace))
            .shutdown(shutdown.clone())
            .build()
            .unwrap();
        let client = Client::new(server.local(Identity::system("controller")), "default");
        let running = server.clone();
        controller::task::spawn("server", async move { running.run().await });

        let options = Options {
            settings: Settings { platform_domain: "apps.example.com".to_owned(), public_port: None },
            clock: Clock::system(),
            registry: registry.clone(),
            source_networks: Vec::new(),
        };
        let controller = Controller::new(client.clone(), options).unwrap();
        let world = controller.world();
        let folder = tempfile::tempdir().unwrap();
        let series = Series::open(folder.path()).await.unwrap();
        let gateway = Gateway::new(&controller, series, CA, &registry).unwrap();
        controller::task::spawn("controller", controller.run(shutdown.clone()));
        let (running, stop) = (gateway.clone(), shutdown.clone());
        controller::task::spawn("gateway", async move { running.run(stop).await });

        let asking = server.clone();
        let client_for: web::ClientFor = Arc::new(move |extensions| {
            let identity = extensions.get::<Identity>()?;
            Some(Client::new(asking.local(identity.clone()), "default"))
        });
        let identified = axum::middleware::map_request(async |mut request: Request<Body>| {
            if let Some(user) = request.headers().get(USER).and_then(|user| user.to_str().ok()).map(str::to_owned) {
                let groups = (user == "root").then(|| "system:masters".to_owned());
                request.extensions_mut().insert(Identity::new(user, groups));
            }
            request
        });
        let routes = gateway.router().merge(web::router(&gateway, client_for).layer(identified));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serving, stop) = (routes.clone(), shutdown.clone());
        controller::task::spawn("listener", async move {
            axum::serve(listener, serving).with_graceful_shutdown(stop.cancelled_owned()).await
        });
        let platform = Self {
            client,
            world,
            gateway,
            address,
            routes,
            registry,
            _folder: folder,
            _shutdown: shutdown.drop_guard(),
        };
        tokio::time::timeout(PATIENCE, platform.world.filled()).await.expect("the world is filled in time");
        for namespace in [crds::SYSTEM_NAMESPACE, "acme", "evil"] {
            platform
                .create::<k8s_openapi::api::core::v1::Namespace>(
                    &Api::all(platform.client.clone()),
                    json!({ "metadata": { "name": namespace } }),
                )
                .await;
        }
        // What agents are told is put together from the world a moment after that is filled.
        let asks = async || {
            let (status, _) =
                platform.answer_as("nobody's", "GET", "/api/internal/paas/nodes/x/assignment", None).await;
            (status != StatusCode::SERVICE_UNAVAILABLE).then_some(())
        };
        platform.until("the gateway answers agents", asks).await;
        platform
    }

    /// A join token for so many nodes.
    pub(crate) async fn token(&self, uses: u32) -> node_protocol::JoinToken {
        let terms = tokens::terms("eu-1", 3600, uses, self.gateway.clock().now()).unwrap();
        tokens::create(&self.client, &terms, self.gateway.ca_sha256()).await.unwrap()
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

    pub(crate) fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
    {
        Api::all(self.client.clone())
    }

    pub(crate) async fn patch<K>(&self, api: &Api<K>, name: &str, patch: Value) -> K
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap()
    }

    pub(crate) async fn patch_status<K>(&self, api: &Api<K>, name: &str, status: Value)
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let patch = Patch::Merge(json!({ "status": status }));
        api.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Asks one of the routes.
    pub(crate) async fn ask(
        &self,
        user: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if let Some(user) = user {
            request = request.header(USER, user);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.routes.clone().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    /// Asks as an agent, with its token.
    pub(crate) async fn answer_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        read(self.routes.clone().oneshot(request.body(body).unwrap()).await.unwrap()).await
    }

    /// The same, with the answer read.
    pub(crate) async fn answer(
        &self,
        user: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        read(self.ask(user, method, path, body).await).await
    }

    /// Waits until something is so.
    pub(crate) async fn until<T>(&self, what: &str, holds: impl AsyncFn() -> Option<T>) -> T {
        let mut changed = self.world.changed();
        let search = async {
            loop {
                if let Some(found) = holds().await {
                    return found;
                }
                // A change of anything is a reason to look again; so is a while without one.
                let _any = tokio::time::timeout(Duration::from_millis(100), changed.changed()).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }

    /// The value of a counter with one label.
    pub(crate) fn count(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(prometheus::proto::MetricFamily::get_metric).unwrap_or_default();
        let metric = metrics.iter().find(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
        metric.map_or(0.0, |metric| metric.get_counter().get_value())
    }
}

/// An answer's code and body: JSON, or else its text.
async fn read(response: Response<Body>) -> (StatusCode, Value) {
    let code = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (code, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
}
