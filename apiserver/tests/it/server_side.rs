//! `kubectl apply --server-side`, and how people come to it from `kubectl apply`.

use serde_json::{Value, json};

use crate::kubectl::Kubectl;

fn widget(spec: &Value) -> Value {
    json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "web"}, "spec": spec})
}

impl Kubectl {
    /// `manager operation subresource` of every entry, sorted.
    async fn managers(&self, object: &str) -> Vec<String> {
        let text = self.run(&format!("get {object} -o json --show-managed-fields")).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or("").to_owned();
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let line = |e: &Value| format!("{} {} {}", text(e, "manager"), text(e, "operation"), text(e, "subresource"));
        let mut lines: Vec<String> = entries.iter().map(|entry| line(entry).trim_end().to_owned()).collect();
        lines.sort();
        lines
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn applying_on_the_server() {
    let kubectl = Kubectl::new().await;
    kubectl.write("web.json", &widget(&json!({"size": 1, "colour": "red"})));
    assert_eq!(
        kubectl.run("apply --server-side -f web.json --dry-run=server").await.trim(),
        "widget.example.dev/web serverside-applied (server dry run)"
    );
    kubectl.refused("get wd web").await;
    assert_eq!(
        kubectl.run("apply --server-side -f web.json").await.trim(),
        "widget.example.dev/web serverside-applied"
    );
    let revision = kubectl.run("get wd web -o jsonpath={.metadata.resourceVersion}").await;
    kubectl.run("apply --server-side -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.metadata.resourceVersion}").await, revision);
    assert_eq!(kubectl.managers("wd/web").await, ["kubectl Apply"]);

    // Somebody else changes a field: the next apply asks before it takes it back.
    kubectl.run(r#"patch wd web --type=merge --field-manager=somebody -p {"spec":{"size":5}}"#).await;
    let output = kubectl.output("apply --server-side -f web.json").await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let start = r#"error: Apply failed with 1 conflict: conflict with "somebody" using example.dev/v1"#;
    assert!(error.starts_with(start) && error.contains(": .spec.size\n"), "{error}");
    assert!(error.contains("Please review the fields above--they currently have other managers."), "{error}");
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}").await, "5");
    // kubectl compares as if nobody else had a say.
    let diff = kubectl.output("diff --server-side --force-conflicts -f web.json").await;
    let text = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&diff.stderr));
    assert!(text.contains("-  size: 5") && text.contains("+  size: 1"), "{text}");
    kubectl.run("apply --server-side --force-conflicts -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}").await, "1");
    assert_eq!(kubectl.managers("wd/web").await, ["kubectl Apply"], "who owns nothing is gone");
    let diff = kubectl.output("diff --server-side -f web.json").await;
    assert_eq!(diff.status.code(), Some(0), "{}", String::from_utf8_lossy(&diff.stdout));

    // What is no longer in the file is no longer wanted.
    kubectl.write("web.json", &widget(&json!({"size": 1, "parts": [{"name": "a"}]})));
    kubectl.run("apply --server-side -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.parts[0].name}{.spec.colour}").await, "ared");
    kubectl.write("web.json", &widget(&json!({"size": 1})));
    kubectl.run("apply --server-side -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.parts}").await, "");

    // Two teams, each with its part.
    kubectl.run("label wd web team=front").await;
    kubectl.write("colour.json", &widget(&json!({"size": 1, "colour": "green"})));
    kubectl.run("apply --server-side --field-manager=painter -f colour.json").await;
    assert_eq!(kubectl.managers("wd/web").await, ["kubectl Apply", "kubectl-label Update", "painter Apply"]);
    kubectl.run("apply --server-side -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.colour}{.metadata.labels.team}").await, "greenfront");

    kubectl.write("typo.json", &widget(&json!({"size": 1, "sise": 2})));
    let error = kubectl.refused("apply --server-side -f typo.json").await;
    assert!(error.contains(".spec.sise: field not declared in schema"), "{error}");

    let mut status = widget(&json!({"size": 1}));
    status["status"] = json!({"phase": "Up"});
    kubectl.write("status.json", &status);
    kubectl.run("apply --server-side --subresource=status --field-manager=reporter -f status.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.status.phase}").await, "Up");
    assert!(kubectl.managers("wd/web").await.contains(&"reporter Apply status".to_owned()));
    assert!(kubectl.run("delete -f web.json").await.contains("deleted"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_client_side_to_server_side_apply_and_back() {
    let kubectl = Kubectl::new().await;
    kubectl.write("web.json", &widget(&json!({"size": 1, "colour": "green", "parts": [{"name": "a"}]})));
    let config =
        |data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data});
    kubectl.write("config.json", &config(json!({"a": "1", "b": "2"})));
    kubectl.run("apply -f web.json -f config.json").await;
    assert_eq!(kubectl.managers("wd/web").await, ["kubectl-client-side-apply Update"]);
    // Values change and fields go in the first apply on the server: nothing is in the way and nothing is left behind.
    kubectl.write("web.json", &widget(&json!({"size": 2, "colour": "green"})));
    kubectl.write("config.json", &config(json!({"a": "3"})));
    kubectl.run("apply --server-side -f web.json -f config.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}").await, "2");
    assert_eq!(kubectl.run("get cm c -o jsonpath={.data.a}").await, "3");
    for object in ["wd/web", "cm/c"] {
        let managers = kubectl.managers(object).await;
        assert!(managers.contains(&"kubectl Apply".to_owned()), "{managers:?}");
        assert!(!managers.iter().any(|manager| manager.contains("client-side")), "{managers:?}");
    }
    kubectl.run("apply --server-side -f web.json -f config.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.parts}").await, "", "the field that went is gone");
    assert_eq!(kubectl.run("get cm c -o jsonpath={.data}").await, r#"{"a":"3"}"#);
    // The annotation follows, so that going back works too.
    let applied = kubectl
        .run(r"get wd web -o jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}")
        .await;
    assert_eq!(serde_json::from_str::<Value>(&applied).unwrap()["spec"], json!({"size": 2, "colour": "green"}));
    kubectl.write("web.json", &widget(&json!({"size": 3})));
    kubectl.run("apply -f web.json").await;
    assert_eq!(kubectl.run("get wd web -o jsonpath={.spec.size}{.spec.colour}").await, "3red");
}
