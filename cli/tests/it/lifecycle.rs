//! The server as a program that others start and stop: what it promises them.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::config::{Config, Kubeconfig};
use kube::{Client, api::Api};
use serde_json::Value;

use crate::berth::{Server, free_port, program, run, wait_for};

#[test]
fn it_is_ready_when_its_kubeconfig_is_written_and_ends_when_it_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::spawn(folder.path(), free_port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let mut config = Config::new(format!("https://127.0.0.1:{}", server.port).parse().unwrap());
        config.accept_invalid_certs = true;
        let client = Client::try_from(config).unwrap();
        let ask = || http::Request::get("/readyz").body(Vec::new()).unwrap();
        let begun = tokio::time::Instant::now();
        while !client.request_text(ask()).await.is_ok_and(|answer| answer.trim() == "ok") {
            assert!(begun.elapsed() < Duration::from_mins(1), "not ready: {}", server.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mode = std::fs::metadata(server.kubeconfig()).expect("it is there before the server is ready").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "it holds a secret");
    assert_eq!(server.berth(&["get", "namespaces"], "").code, Some(0));

    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    let log = server.log();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("the API is served") && log.contains("stopped"), "{log}");
    assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    assert_eq!(server.berth(&["get", "namespaces"], "").code, Some(6), "nobody is there any more");
}

#[test]
fn what_was_written_and_the_kubeconfig_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Server::start(folder.path(), port);
    let before = folder.path().join("before.kubeconfig");
    std::fs::copy(server.kubeconfig(), &before).unwrap();
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n";
    assert_eq!(server.berth(&["apply", "-f", "-"], config).stdout, "configmap/kept created\n");
    server.signal("-TERM");
    assert_eq!(server.ended().code(), Some(0));

    let server = Server::start(folder.path(), port);
    let mut command = program();
    command.args(["get", "configmap", "kept", "-o", "name", "--kubeconfig"]).arg(&before);
    let outcome = run(command, "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "configmap/kept\n"), "{}", outcome.stderr);
    assert_eq!(std::fs::read(before).unwrap(), std::fs::read(server.kubeconfig()).unwrap());
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let mut command = program();
    command.args(["server", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path());
    let outcome = run(command, "");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("berth: ") && last.contains("another process"), "{}", outcome.stderr);
    assert_eq!(server.berth(&["get", "namespaces"], "").code, Some(0), "the first one is not disturbed");
}

#[test]
fn a_taken_port_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["server", "--listen", &address, "--data"]).arg(folder.path());
    let outcome = run(command, "");
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.stderr.contains(&format!("cannot listen on {address}: Address already in use")),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_was_acknowledged_outlives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = Server::start(folder.path(), port);
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig()).unwrap();
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&acknowledged);
    let writer = std::thread::spawn(move || {
        rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = kube::config::KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
            let client = Client::try_from(config).unwrap();
            let resource = kube::api::ApiResource::erase::<crds::Plan>(&());
            let plans: Api<kube::api::DynamicObject> = Api::all_with(client, &resource);
            for number in 0.. {
                let plan = serde_json::json!({
                    "apiVersion": "berth.dev/v1alpha1", "kind": "Plan", "metadata": {"name": format!("p-{number}")},
                    "spec": {"cpu": "1", "memory": "1Gi", "disk": "1Gi", "pricePerHour": "1"},
                });
                let plan = serde_json::from_value(plan).unwrap();
                if plans.create(&kube::api::PostParams::default(), &plan).await.is_err() {
                    return;
                }
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
    });
    wait_for("some are acknowledged", || (acknowledged.load(Ordering::SeqCst) >= 50).then_some(()));
    server.signal("-KILL");
    assert_eq!(server.ended().code(), None);
    writer.join().unwrap();
    let acknowledged = acknowledged.load(Ordering::SeqCst);

    let server = Server::start(folder.path(), port);
    let names = server.berth(&["get", "plans", "-o", "name"], "").stdout;
    for number in 0..acknowledged {
        assert!(
            names.lines().any(|line| line == format!("plan.berth.dev/p-{number}")),
            "{number} of {acknowledged} is lost"
        );
    }
    // One more may have been written and not been acknowledged.
    assert!(names.lines().count() <= acknowledged + 1);
}
