//! What one user may ask of a server, and one project hold: over the socket, as the options and a ResourceQuota say it.

use std::path::{Path, PathBuf};

use axum::body::Body;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::Connect;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::berth::{Server, free_port, kubectl, run, wait_for};

const ROLE: &str = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: busy}\n\
    subjects: [{kind: User, name: busy, apiGroup: rbac.authorization.k8s.io}]\n\
    roleRef: {kind: ClusterRole, name: edit, apiGroup: rbac.authorization.k8s.io}\n";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

fn server(folder: &Path, options: &[&str]) -> Server {
    let server = Server::spawn_as(&folder.join("data"), free_port(), &[], options);
    server.until_it_is_ready();
    server
}

/// Somebody at the socket. kube's own client would wait and try again by itself where it is refused.
struct Person<C> {
    sender: hyper_util::client::legacy::Client<C, Body>,
    server: String,
    /// A bearer token, if that is the credential; a certificate is the connector's affair.
    token: Option<String>,
}

/// Somebody with the credential of a kubeconfig.
async fn person(kubeconfig: &Path, server: &Server) -> Person<impl Connect + Clone + Send + Sync + 'static> {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    let token = read["users"][0]["user"]["token"].as_str().map(|token| format!("Bearer {token}"));
    let config = Kubeconfig::from_yaml(&text).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let connector = config.rustls_https_connector().unwrap();
    let sender = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    Person { sender, server: format!("https://127.0.0.1:{}", server.port), token }
}

impl<C: Connect + Clone + Send + Sync + 'static> Person<C> {
    async fn send(&self, method: &str, path: &str, body: Body) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        self.sender.request(request.header("content-type", "application/json").body(body).unwrap()).await.unwrap()
    }

    async fn get(&self) -> Response<Incoming> {
        self.send("GET", CONFIGMAPS, Body::empty()).await
    }
}

/// The kubeconfig of somebody who may change things in the project `default`, and is no administrator.
fn busy(server: &Server, folder: &Path) -> PathBuf {
    let file = folder.join("busy.kubeconfig");
    let (data, out) = (server.data.to_str().unwrap(), file.to_str().unwrap());
    assert_eq!(server.berth(&["user", "certificate", "busy", "--data", data, "--out", out], "").code, Some(0));
    assert_eq!(server.berth(&["apply", "-f", "-"], ROLE).code, Some(0));
    file
}

/// Says of a refusal how many seconds to wait.
fn seconds(refused: &Response<Incoming>) -> u64 {
    assert_eq!(refused.status().as_u16(), 429);
    refused.headers()["retry-after"].to_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_often_is_told_when_to_ask_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &["--requests-per-second", "1", "--requests-burst", "2"]);
    let file = busy(&server, folder.path());
    let busy = person(&file, &server).await;
    // More at once than there is room for in the seconds that a slow machine may take.
    let answers = futures::future::join_all((0..40).map(|_| busy.get())).await;
    let (good, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status().is_success());
    assert!(good.len() >= 2 && !refused.is_empty(), "{} good, {} refused: {refused:?}", good.len(), refused.len());
    for answer in refused {
        let seconds = seconds(&answer);
        let body = axum::body::to_bytes(Body::new(answer), 1 << 16).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["reason"], &body["details"]["retryAfterSeconds"]),
            (&"TooManyRequests".into(), &seconds.into())
        );
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    let limit = std::time::Duration::from_mins(1);
    let let_in = tokio::time::timeout(limit, async {
        loop {
            let answer = busy.get().await;
            if answer.status().is_success() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_secs(seconds(&answer))).await;
        }
    });
    let_in.await.expect("whoever waits as long as was said is let in");
    let kubeconfig = server.kubeconfig();
    let admin = person(&kubeconfig, &server).await;
    let answers = futures::future::join_all((0..40).map(|_| admin.get())).await;
    assert!(answers.iter().all(|answer| answer.status().is_success()), "administrators have no such limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_asks_too_much_at_a_time_is_refused_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &["--requests-per-user", "1"]);
    let file = busy(&server, folder.path());
    let busy = person(&file, &server).await;
    // A request whose body never ends has its place as long as it is there. A few more may wait, but not these all.
    let endless = || {
        let body = Body::from_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        busy.send("POST", "/api/v1/namespaces/default/configmaps?dryRun=All", body)
    };
    let mut endless: FuturesUnordered<_> = (0..12).map(|_| endless()).collect();
    let first = tokio::time::timeout(std::time::Duration::from_mins(1), endless.next()).await;
    let first = first.expect("one is refused").unwrap();
    assert_eq!(seconds(&first), 1);
    let kubeconfig = server.kubeconfig();
    let admin = person(&kubeconfig, &server).await;
    assert!(admin.get().await.status().is_success(), "the others go on");
    drop(endless);
}

const QUOTA: &str = "\
apiVersion: berth.dev/v1alpha1
kind: Plan
metadata: {name: tiny}
spec: {cpu: 250m, memory: 128Mi, disk: 1Gi, pricePerHour: '0.001'}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: plenty}
spec: {hard: {cpu: '1'}}
";

fn application(name: &str, instances: u32) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\n\
         spec: {{plan: tiny, instances: {instances}, source: {{image: {{reference: 'berth/hello:1'}}}}}}\n"
    )
}

#[test]
fn a_project_holds_no_more_than_its_quota_and_the_log_says_who_asked() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &[]);
    assert_eq!(server.berth(&["apply", "-f", "-"], QUOTA).code, Some(0));
    let apply = |name: &str, instances| {
        let made = server.berth(&["apply", "--no-wait", "-f", "-"], &application(name, instances));
        (made.code, made.stderr)
    };
    assert_eq!(apply("shop", 3).0, Some(0));
    let (code, said) = apply("cafe", 2);
    assert!(code != Some(0) && said.contains("exceeded quota: plenty, requested: cpu=500m, used: cpu=750m"), "{said}");
    let scale = |replicas: &str| {
        let mut command = kubectl(&server.kubeconfig());
        command.args(["scale", "application/shop", replicas]);
        run(command, "")
    };
    let refused = scale("--replicas=5");
    assert!(refused.code != Some(0) && refused.stderr.contains("exceeded quota: plenty"), "{}", refused.stderr);
    let scaled = scale("--replicas=4");
    assert_eq!(scaled.code, Some(0), "{}", scaled.stderr);
    assert_ne!(apply("cafe", 1).0, Some(0), "it is full");
    assert_eq!(scale("--replicas=3").code, Some(0));
    assert_eq!(apply("cafe", 1).0, Some(0), "what is given back can be used");
    wait_for("the quota shows what is used", || {
        let quota = server.berth(&["get", "resourcequota", "plenty", "-o", "json"], "").stdout;
        let quota: Value = serde_json::from_str(&quota).unwrap();
        (quota["status"]["used"]["cpu"] == "1").then_some(())
    });

    let log = server.berth(&["audit", "--resource", "applications.berth.dev", "-o", "json"], "").stdout;
    let log: Value = serde_json::from_str(&log).unwrap();
    let records = log.as_array().unwrap();
    let told =
        |record: &&Value, verb: &str, code: u64| record["verb"] == verb && record["responseStatus"]["code"] == code;
    assert!(records.iter().any(|record| told(&record, "create", 201)), "{log}");
    assert!(records.iter().any(|record| told(&record, "create", 403)), "what was refused is there too: {log}");
    for record in records.iter().filter(|record| !record["userAgent"].is_null()) {
        assert_eq!(record["sourceIPs"], serde_json::json!(["127.0.0.1"]), "{record}");
    }
    assert!(records.iter().filter(|record| record["sourceIPs"].is_array()).count() >= 4, "{log}");
}
