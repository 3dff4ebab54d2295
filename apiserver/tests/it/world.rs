//! A server with a kind of its own, and a client that shows the bytes.

use std::time::Duration;

use apiserver::clock::Clock;
use apiserver::kind::{Column, Kind, View};
use apiserver::store::{NewToken, RingLimits, Settings, Store};
use apiserver::{Builder, Identity, Kinds, Server, core_kinds};
use axum::Router;
use axum::body::Body;
use futures::StreamExt as _;
use http::{HeaderMap, Request, StatusCode};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Everything here happens within milliseconds; a slow machine gets this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const WIDGETS: &str = "/apis/example.dev/v1/namespaces/default/widgets";

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) store: Store,
    pub(crate) token: String,
    router: Router,
    shutdown: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The answer as JSON, if it has that status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The definition of a kind that has everything a kind can have.
pub(crate) fn widget() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {
                    "type": "object", "required": ["spec"],
                    "description": "A thing with a size.",
                    "properties": {
                        "spec": {
                            "type": "object", "required": ["size"],
                            "properties": {
                                "size": {"type": "integer", "minimum": 0, "description": "How large it is."},
                                "colour": {"type": "string", "enum": ["red", "green"], "default": "red"},
                                "replicas": {"type": "integer", "default": 1, "minimum": 0},
                                "parts": {"type": "array", "items": {
                                    "type": "object", "properties": {"name": {"type": "string"}}}}
                            }
                        },
                        "status": {
                            "type": "object",
                            "properties": {
                                "replicas": {"type": "integer"},
                                "selector": {"type": "string"},
                                "phase": {"type": "string"},
                                "conditions": {"type": "array", "items": {
                                    "type": "object", "x-kubernetes-preserve-unknown-fields": true}}
                            }
                        }
                    }
                }},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
                    {"name": "Colour", "type": "string", "jsonPath": ".spec.colour", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
                ],
                "selectableFields": [{"jsonPath": ".spec.colour"}]
            }]
        }
    }))
    .unwrap()
}

fn gadget() -> CustomResourceDefinition {
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Cluster",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]
        }
    }))
    .unwrap()
}

/// A read-only view of widgets as Pods, which run on a node named by their colour.
fn pods() -> Kind {
    fn pod(mut widget: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": widget["metadata"].take(),
            "spec": {"nodeName": widget["spec"]["colour"], "containers": [{"name": "main", "image": "none"}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
                "containerStatuses": [{"name": "main", "ready": true, "restartCount": 0}],
            },
        })
    }
    Kind {
        group: String::new(),
        kind: "Pod".to_owned(),
        list_kind: "PodList".to_owned(),
        plural: "pods".to_owned(),
        singular: "pod".to_owned(),
        short_names: vec!["po".to_owned()],
        columns: vec![
            column("Ready", |pod| json!(format!("1/{}", pod["spec"]["containers"].as_array().unwrap().len()))),
            column("Status", |pod| pod["status"]["phase"].clone()),
        ],
        selectable_fields: vec!["spec.nodeName".to_owned(), "status.phase".to_owned()],
        streams: true,
        ..view(View {
            from_stored: pod,
            verbs: &["delete", "get", "list", "watch"],
            fields: &[("spec.nodeName", "spec.colour")],
            ..of_widgets()
        })
    }
}

/// A view of the widgets that are measured: those with a status.
fn pod_metrics() -> Kind {
    fn metrics(mut widget: Value) -> Value {
        let cpu = format!("{}m", widget["status"]["replicas"]);
        json!({
            "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": widget["metadata"].take(),
            "window": "30s", "containers": [{"name": "main", "usage": {"cpu": cpu, "memory": "64Mi"}}],
        })
    }
    Kind {
        group: "metrics.k8s.io".to_owned(),
        version: "v1beta1".to_owned(),
        kind: "PodMetrics".to_owned(),
        list_kind: "PodMetricsList".to_owned(),
        plural: "pods".to_owned(),
        singular: "pod".to_owned(),
        ..view(View {
            from_stored: metrics,
            verbs: &["get", "list"],
            shows: Some(|widget| widget["status"]["replicas"].is_i64()),
            timed: Some(|metrics, now| metrics["timestamp"] = json!(now.to_string())),
            ..of_widgets()
        })
    }
}

fn of_widgets() -> View {
    View {
        group: "example.dev".to_owned(),
        plural: "widgets".to_owned(),
        from_stored: |widget| widget,
        to_stored: None,
        verbs: &[],
        shows: None,
        timed: None,
        fields: &[],
        labels: &[],
    }
}

fn view(view: View) -> Kind {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    Kind {
        schema,
        scope: apiserver::kind::Scope::Namespaced,
        short_names: Vec::new(),
        columns: Vec::new(),
        view_of: Some(view),
        ..core_kinds::config_map()
    }
}

fn column(name: &str, cell: fn(&Value) -> Value) -> Column {
    Column {
        name: name.to_owned(),
        type_: "string".to_owned(),
        format: String::new(),
        description: name.to_owned(),
        priority: 0,
        json_path: String::new(),
        cell: Some(cell),
    }
}

fn kinds() -> Kinds {
    let mut kinds = core_kinds::all();
    kinds.extend([pods(), pod_metrics()]);
    kinds.push(Kind::from_crd(&widget(), "example_widgets").unwrap());
    kinds.push(Kind::from_crd(&gadget(), "example_gadgets").unwrap());
    kinds.push(apiserver::definitions::kind());
    Kinds::new(kinds).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    pub(crate) async fn with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let store = Store::open_in_memory(kinds().tables(), Settings::default()).await.unwrap();
        Self::on(store, change).await
    }

    /// A world that remembers a few changes only.
    pub(crate) async fn with_short_memory() -> Self {
        let ring = RingLimits { events_max: 8, events_old_max: 8, ..RingLimits::default() };
        let settings = Settings { ring, ..Settings::default() };
        Self::on(Store::open_in_memory(kinds().tables(), settings).await.unwrap(), |builder| builder).await
    }

    /// Another server on the same store.
    pub(crate) async fn again(&self) -> Self {
        Self::on(self.store.clone(), |builder| builder).await
    }

    /// As when the process is told to stop.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    async fn on(store: Store, change: impl FnOnce(Builder) -> Builder) -> Self {
        let kinds = kinds();
        let new = NewToken { user: "ada".into(), groups: vec!["system:masters".into()], ..NewToken::default() };
        let (token, _) = store.tokens().create(new).await.unwrap();
        let shutdown = CancellationToken::new();
        let builder = Server::builder(store.clone(), kinds, Clock::system(), prometheus::Registry::new());
        let server = change(builder.shutdown(shutdown.clone())).build().unwrap();
        let running = server.clone();
        apiserver::task::spawn("server", async move { running.run().await.unwrap() });
        let world = Self { router: server.router(), server, store, token, shutdown };
        let namespace = "/api/v1/namespaces/default";
        eventually("the default namespace", async || world.get(namespace).await.status == 200).await;
        world
    }

    pub(crate) fn local(&self) -> Router {
        self.server.local(Identity::system("test"))
    }

    /// A request with the administrator's token; headers are `name: value`.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[&str], body: impl Into<Body>) -> Answer {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        self.send_as_is(method, path, &all, body).await
    }

    /// The bytes of an answer as they came.
    pub(crate) async fn bytes(&self, path: &str, headers: &[&str]) -> Vec<u8> {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        let body = self.open("GET", path, &all, Body::empty()).await.into_body();
        axum::body::to_bytes(body, usize::MAX).await.unwrap().into()
    }

    pub(crate) async fn send_as_is(&self, method: &str, path: &str, headers: &[&str], body: impl Into<Body>) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, usize::MAX)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    async fn open(&self, method: &str, path: &str, headers: &[&str], body: impl Into<Body>) -> http::Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, &[], body.to_string()).await
    }

    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &["Content-Type: application/merge-patch+json"], body.to_string()).await
    }

    pub(crate) async fn json_patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &["Content-Type: application/json-patch+json"], body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send("DELETE", path, &[], body).await
    }

    /// Stores a widget and returns it.
    pub(crate) async fn widget(&self, name: &str) -> Value {
        self.post(WIDGETS, &widget_named(name)).await.expect(201)
    }

    pub(crate) async fn watch(&self, path: &str, headers: &[&str]) -> Lines {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        self.watch_as_is(path, &all).await
    }

    pub(crate) async fn watch_as_is(&self, path: &str, headers: &[&str]) -> Lines {
        let response = self.open("GET", path, headers, Body::empty()).await;
        assert_eq!(response.status(), 200);
        Lines { body: Box::pin(response.into_body().into_data_stream()), buffer: Vec::new() }
    }
}

pub(crate) fn widget_named(name: &str) -> Value {
    json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 1}})
}

/// The lines of a watch.
pub(crate) struct Lines {
    body: std::pin::Pin<Box<axum::body::BodyDataStream>>,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line; `None` when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a line or the end in time")
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            match self.body.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk.unwrap()),
                None => return None,
            }
        }
    }

    /// The next line as `TYPE name`.
    pub(crate) async fn brief(&mut self) -> String {
        match self.next().await {
            Some(line) => {
                let name = line["object"]["metadata"]["name"].as_str().unwrap_or("");
                format!("{} {name}", line["type"].as_str().unwrap()).trim().to_owned()
            }
            None => "end".to_owned(),
        }
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, check: impl AsyncFn() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !check().await {
        assert!(tokio::time::Instant::now() < until, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
