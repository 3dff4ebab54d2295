//! Applications as `v1` Services, as clients get them: on their own, as a table, in a watch, in discovery and in OpenAPI.

use http::Request;
use kube::Client;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::berth::{Server, free_port};

/// Applications that are switched off: nothing happens to them.
const APPLICATIONS: &str = "apiVersion: berth.dev/v1alpha1
kind: Application
metadata: {name: web, labels: {tier: front}}
spec: {source: {image: {reference: 'example.test/web:1'}}, plan: small, running: false, start: {port: 8080}}
---
apiVersion: berth.dev/v1alpha1
kind: Application
metadata: {name: own}
spec: {source: {image: {reference: 'example.test/own:1'}}, plan: small, running: false}
";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn ask(client: &Client, method: &str, path: &str, accept: &str, body: &Value) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).header("accept", accept);
    let request = request.header("content-type", "application/json").body(Body::from(body.to_string().into_bytes()));
    let response = client.send(request.unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    // Of a watch the first event: there may be more.
    let is_watch = path.contains("watch=true");
    let read = bytes.split(|byte| is_watch && *byte == b'\n').next().unwrap_or_default();
    (status, serde_json::from_slice(read).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applications_are_services_that_can_only_be_read() {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    assert_eq!(server.berth(&["apply", "--no-wait", "-f", "-"], APPLICATIONS).code, Some(0));
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let get = async |path: &str, accept: &str| {
        let (status, answer) = ask(&client, "GET", path, accept, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    };

    let service = get(&format!("{SERVICES}/web"), "application/json").await;
    assert_eq!((&service["apiVersion"], &service["kind"]), (&json!("v1"), &json!("Service")));
    assert_eq!(service["metadata"]["labels"], json!({"tier": "front"}));
    let expected = json!({
        "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "None",
        "selector": {"berth.dev/application": "web"},
        "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 8080, "targetPort": 8080}],
    });
    assert_eq!(service["spec"], expected);
    let application = get("/apis/berth.dev/v1alpha1/namespaces/default/applications/web", "application/json").await;
    assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], application["metadata"]["uid"]);
    assert_ne!(service["metadata"]["uid"], application["metadata"]["uid"]);
    let (status, answer) = ask(&client, "GET", &format!("{SERVICES}/none"), "*/*", &Value::Null).await;
    assert_eq!((status, &answer["message"]), (404, &json!("services \"none\" not found")));

    let table = get(SERVICES, "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let columns = table["columnDefinitions"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector"]);
    for (row, name, port) in [(0, "own", "<none>"), (1, "web", "8080/TCP")] {
        let cells = &table["rows"][row]["cells"];
        assert_eq!(cells.as_array().unwrap()[..5], [name, "ClusterIP", "None", "<none>", port].map(Value::from));
        assert_eq!(cells[6], format!("berth.dev/application={name}"));
    }
    let event = get(&format!("{SERVICES}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dweb"), "*/*").await;
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Service")));

    let discovered = get("/api/v1", "application/json").await;
    let row = discovered["resources"].as_array().unwrap().iter().find(|row| row["name"] == "services").unwrap();
    assert_eq!((&row["verbs"], &row["shortNames"]), (&json!(["get", "list", "watch"]), &json!(["svc"])));
    assert_eq!((&row["categories"], &row["namespaced"]), (&json!(["all"]), &json!(true)));
    let paths = get("/openapi/v3/api/v1", "application/json").await["paths"].take();
    let methods = paths["/api/v1/namespaces/{namespace}/services/{name}"].as_object().unwrap();
    assert!(methods.contains_key("get") && !methods.contains_key("delete") && !methods.contains_key("patch"));

    for (method, path) in [
        ("POST", SERVICES.to_owned()),
        ("DELETE", SERVICES.to_owned()),
        ("PUT", format!("{SERVICES}/web")),
        ("PATCH", format!("{SERVICES}/web")),
        ("DELETE", format!("{SERVICES}/web")),
    ] {
        let (status, answer) = ask(&client, method, &path, "application/json", &service).await;
        assert_eq!(status, 405, "{method} {path}: {answer}");
        assert!(answer["message"].as_str().unwrap().contains("change applications.berth.dev instead"), "{answer}");
    }
    get("/apis/berth.dev/v1alpha1/namespaces/default/applications/web", "application/json").await;
}
