//! `kubectl create role|rolebinding|…|token`, `auth can-i|whoami|reconcile`, `--as`, and client certificates.

use std::time::Duration;

use apiserver::clock::Clock;
use apiserver::pki::client;
use serde_json::json;

use crate::kubectl::Kubectl;
use crate::world::eventually;

/// Waits until the default roles are there.
async fn kubectl() -> Kubectl {
    let kubectl = Kubectl::new().await;
    eventually("the default roles", async || {
        let admin = kubectl.world.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/admin").await;
        admin.status == 200 && admin.json()["rules"].as_array().is_some_and(|rules| rules.len() > 5)
    })
    .await;
    kubectl
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_made_bound_and_asked_about() {
    let kubectl = kubectl().await;
    // All of these go over the wire as protobuf.
    kubectl.run("create ns acme").await;
    kubectl.run("create role reader --verb=get,list --resource=configmaps,widgets.example.dev -n acme").await;
    kubectl.run("create role one --verb=get --resource=secrets --resource-name=only -n acme").await;
    kubectl
        .run("create rolebinding reader --role=reader --user=ann --group=dev --serviceaccount=acme:bot -n acme")
        .await;
    kubectl.run("create rolebinding one --role=one --user=ann -n acme").await;
    kubectl.run("create clusterrole health --verb=get --non-resource-url=/metrics").await;
    kubectl.run("create clusterrole monitoring --aggregation-rule=monitoring=true").await;
    kubectl.run("create clusterrolebinding health --clusterrole=health --user=ann").await;
    let listed = kubectl.run("get rolebindings -n acme -o wide").await;
    let row: Vec<&str> = listed.lines().find(|line| line.starts_with("reader")).unwrap().split_whitespace().collect();
    assert_eq!((row[1], &row[3..]), ("Role/reader", &["ann", "dev", "acme/bot"][..]), "{listed}");
    assert!(kubectl.run("get roles -n acme").await.starts_with("NAME"));
    assert!(kubectl.run("describe rolebinding reader -n acme").await.contains("ServiceAccount  bot   acme"));
    assert!(kubectl.run("describe clusterrole health").await.contains("/metrics"));

    assert_eq!(kubectl.run("auth can-i list configmaps -n acme --as ann").await.trim(), "yes");
    assert_eq!(kubectl.run("auth can-i get secrets/only -n acme --as ann").await.trim(), "yes");
    assert_eq!(kubectl.run("auth can-i get /metrics --as ann").await.trim(), "yes");
    assert_eq!(kubectl.run("auth can-i list widgets.example.dev -n acme --as x --as-group dev").await.trim(), "yes");
    assert_eq!(
        kubectl.run("auth can-i list configmaps -n acme --as system:serviceaccount:acme:bot").await.trim(),
        "yes"
    );
    for no in ["get secrets -n acme", "list configmaps", "create configmaps -n acme", "get /debug", "list ns"] {
        let answer = kubectl.output(&format!("auth can-i {no} --as ann")).await;
        let text = String::from_utf8_lossy(&answer.stdout);
        assert!(text.starts_with("no") && answer.status.code() == Some(1), "{no}: {text}");
    }
    let all = kubectl.run("auth can-i --list -n acme --as ann").await;
    let has = |words: &[&str]| all.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["widgets.example.dev", "[get list]"]) && has(&["secrets", "[only]", "[get]"]), "{all}");
    assert!(has(&["[/metrics]", "[get]"]) && has(&["selfsubjectreviews.authentication.k8s.io", "[create]"]), "{all}");

    kubectl.run("get cm -n acme --as ann").await;
    assert!(kubectl.refused("get secrets -n acme --as ann").await.contains("(Forbidden)"));
    assert!(kubectl.refused("get ns --as ann").await.contains("cannot list resource \"namespaces\""));
    assert!(kubectl.run("get --raw /api/v1/namespaces/acme/configmaps --as ann").await.contains("ConfigMapList"));
    assert!(kubectl.refused("get --raw /apis/example.dev/v1/widgets --as ann").await.contains("forbidden"));
    let who = kubectl.run("auth whoami --as ann --as-group dev --as-uid u7 -o yaml").await;
    assert!(who.contains("username: ann") && who.contains("- dev") && who.contains("uid: u7"), "{who}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_reconciled_from_a_file() {
    let kubectl = kubectl().await;
    let list = json!([
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r", "namespace": "default"},
         "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b", "namespace": "default"},
         "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "ann"}],
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "c"},
         "rules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "cb"},
         "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "default"}],
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "c"}},
    ]);
    let write = |list: &serde_json::Value| {
        let documents: Vec<String> = list.as_array().unwrap().iter().map(ToString::to_string).collect();
        std::fs::write(kubectl.path().join("roles.yaml"), documents.join("\n---\n")).unwrap();
    };
    write(&list);
    let made = kubectl.run("auth reconcile -f roles.yaml").await;
    assert_eq!(made.lines().filter(|line| line.ends_with(" reconciled")).count(), 4, "{made}");
    assert_eq!(kubectl.run("auth can-i get cm --as ann").await.trim(), "yes");
    // A binding to another role is made anew, and rules that are missing are added to those that are there.
    let mut changed = list;
    changed[0]["rules"][0]["resources"] = json!(["secrets"]);
    changed[1]["roleRef"] = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"});
    write(&changed);
    kubectl.run("auth reconcile -f roles.yaml").await;
    assert_eq!(kubectl.run("auth can-i create cm --as ann").await.trim(), "yes");
    let role = kubectl.run("get role r -o json").await;
    assert!(role.contains("configmaps") && role.contains("secrets"), "{role}");
    // The kinds take what core kinds take: patches of all types, and apply from a file.
    kubectl.run("patch role r --type=strategic -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}}").await;
    assert!(kubectl.run("apply -f roles.yaml").await.contains("role.rbac.authorization.k8s.io/r configured"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_have_tokens_and_people_certificates() {
    let kubectl = kubectl().await;
    kubectl.run("create serviceaccount bot").await;
    let accounts = kubectl.run("get sa").await;
    assert!(accounts.lines().any(|line| line.starts_with("bot")), "{accounts}");
    let token = kubectl.run("create token bot --duration=1h").await;
    kubectl.run("create rolebinding bot --clusterrole=view --serviceaccount=default:bot").await;
    // Without the user of the file, whose token would be sent otherwise.
    let config = kubectl.path().join("config");
    let text = std::fs::read_to_string(&config).unwrap();
    let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    parsed["users"] = json!([
        {"name": "bot", "user": {"token": token.trim()}},
        {"name": "ann", "user": {"client-certificate": "ann.crt", "client-key": "ann.key"}},
        {"name": "late", "user": {"client-certificate": "late.crt", "client-key": "late.key"}},
    ]);
    parsed["contexts"] = json!([
        {"name": "bot", "context": {"cluster": "test", "user": "bot"}},
        {"name": "ann", "context": {"cluster": "test", "user": "ann"}},
        {"name": "late", "context": {"cluster": "test", "user": "late"}},
    ]);
    let now = Clock::system().now();
    let issue = |user: &str, group: Option<&str>, days, clock: &Clock| {
        let issued = client::issue(&kubectl.path().join("pki"), user, group, days, clock).unwrap();
        std::fs::write(kubectl.path().join(format!("{user}.crt")), issued.certificate_pem).unwrap();
        std::fs::write(kubectl.path().join(format!("{user}.key")), issued.key_pem).unwrap();
    };
    issue("ann", Some("dev"), 7, &Clock::system());
    issue("late", None, 1, &Clock::settable(now - Duration::from_hours(48)));
    kubectl.write("config", &parsed);

    let who = kubectl.run("auth whoami --context bot").await;
    assert!(who.contains("system:serviceaccount:default:bot") && who.contains("system:serviceaccounts"), "{who}");
    kubectl.run("get cm --context bot").await;
    assert!(kubectl.refused("get secrets --context bot").await.contains("(Forbidden)"));
    let who = kubectl.run("auth whoami --context ann").await;
    assert!(who.contains("ann") && who.contains("dev"), "{who}");
    assert!(kubectl.refused("get cm --context ann").await.contains("User \"ann\" cannot list"));
    let late = kubectl.refused("get cm --context late").await;
    // kubectl may still be writing its request when the server ends the handshake, and then says only that.
    let refused = ["certificate", "tls", "broken pipe", "connection reset", "client conn could not be established"];
    assert!(refused.iter().any(|word| late.contains(word)), "an expired certificate opens nothing: {late}");
}
