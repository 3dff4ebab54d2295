//! The rest of what `kubectl` can do with objects that are only stored.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::kubectl::{Kubectl, cells, widget};
use crate::world::{PATIENCE, WIDGETS, widget_named};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_openapi_explains_as_well() {
    let kubectl = Kubectl::new().await;
    let explained = kubectl.run("explain widget.spec --output=plaintext-openapiv2").await;
    assert!(explained.contains("KIND:     Widget") && explained.contains("How large it is."), "{explained}");
    let explained = kubectl.run("explain secrets --recursive --output=plaintext-openapiv2").await;
    assert!(explained.contains("stringData\t<map[string]string>"), "{explained}");
    let explained = kubectl.run("explain widget.metadata.ownerReferences --output=plaintext-openapiv2").await;
    assert!(explained.contains("uid\t<string>"), "{explained}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_are_made_shown_and_kept() {
    let kubectl = Kubectl::new().await;
    kubectl.run("create quota small --hard=count/widgets.example.dev=1,secrets=2").await;
    kubectl.write("web.json", &widget(1));
    kubectl.run("apply -f web.json").await;
    kubectl.write("more.json", &widget_named("more"));
    let refused = kubectl.refused("create -f more.json").await;
    assert!(
        refused.contains("exceeded quota: small, requested: count/widgets.example.dev=1, used: count/widgets.example.dev=1, limited: count/widgets.example.dev=1"),
        "{refused}"
    );
    kubectl.run("wait quota/small --for=jsonpath={.status.used.count/widgets\\.example\\.dev}=1 --timeout=30s").await;
    let described = kubectl.run("describe quota small").await;
    let rows: Vec<Vec<&str>> = cells(&described);
    assert!(rows.contains(&vec!["count/widgets.example.dev", "1", "1"]), "{described}");
    assert!(kubectl.run("describe namespace default").await.contains("count/widgets.example.dev"));
    assert!(kubectl.run("get quota").await.contains("count/widgets.example.dev: 1/1"));
    let refused = kubectl.refused("create quota wrong --hard=count/chairs.example.dev=1").await;
    assert!(refused.contains("Unsupported value"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_chosen_by_name_label_field_and_page() {
    let kubectl = Kubectl::new().await;
    for number in 0..7 {
        let mut object = widget_named(&format!("w{number}"));
        object["metadata"]["labels"] = json!({"n": (number % 3).to_string()});
        object["spec"]["colour"] = json!(if number == 4 { "green" } else { "red" });
        kubectl.world.post(WIDGETS, &object).await.expect(201);
    }
    let names = async |what: &str| -> Vec<String> {
        let output = kubectl.run(&format!("get {what} -o name")).await;
        output.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names("wd --chunk-size=2").await.len(), 7);
    assert_eq!(names("wd -l n=1").await, ["w1", "w4"]);
    assert_eq!(names("wd -l n!=0,n!=1").await, ["w2", "w5"]);
    assert_eq!(names("wd w3 w1").await, ["w3", "w1"]);
    assert_eq!(names("widget.v1.example.dev/w3").await, ["w3"]);
    assert_eq!(names("wd --field-selector spec.colour=green,metadata.name!=w0").await, ["w4"]);
    assert!(kubectl.refused("get wd --field-selector spec.size=1").await.contains("field label not supported"));
    assert!(kubectl.run("get wd --show-labels").await.contains("n=2"));
    assert_eq!(cells(&kubectl.run("get wd w1 -L n --no-headers").await)[0].last(), Some(&"1"));
    assert_eq!(kubectl.run("get wd -o custom-columns=A:.metadata.name --no-headers").await.lines().count(), 7);
    assert!(kubectl.run("get wd w1 -o go-template={{.spec.colour}}").await.contains("red"));
    assert_eq!(kubectl.run("get wd missing --ignore-not-found").await, "");
    assert!(kubectl.run("api-resources --categories=all").await.contains("widgets"));
    assert!(kubectl.run("api-resources --namespaced=false -o name").await.contains("gadgets.example.dev"));
    kubectl.run("delete wd -l n=0").await;
    assert_eq!(names("wd").await, ["w1", "w2", "w4", "w5"]);
    kubectl.run("label wd --all done=yes").await;
    kubectl.run("label wd w1 done-").await;
    assert_eq!(names("wd -l done").await, ["w2", "w4", "w5"]);
    assert!(kubectl.refused("label wd w2 done=no").await.contains("already has a value"));
    kubectl.run("label wd w2 done=no --overwrite").await;
    assert!(kubectl.run("annotate wd w2 --list").await.is_empty());
    kubectl.run("delete wd --all --cascade=foreground").await;
    assert!(names("wd").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_folders_and_single_parts_are_written() {
    let kubectl = Kubectl::new().await;
    let folder = kubectl.path().join("shop");
    std::fs::create_dir(&folder).unwrap();
    kubectl.write("shop/web.json", &widget(1));
    kubectl.write(
        "shop/settings.json",
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}),
    );
    std::fs::write(folder.join("kustomization.yaml"), "resources: [web.json, settings.json]\nnamePrefix: my-\n")
        .unwrap();
    kubectl.run("apply -k shop").await;
    assert!(kubectl.run("diff -k shop").await.is_empty());
    assert_eq!(kubectl.run("get wd,cm -o name").await, "widget.example.dev/my-web\nconfigmap/my-settings\n");
    kubectl.run("delete -k shop --wait=true").await;
    std::fs::remove_file(folder.join("kustomization.yaml")).unwrap();
    kubectl.run("create -f shop").await;
    assert!(kubectl.refused("create -f shop").await.contains("AlreadyExists"));
    kubectl.run("replace --force -f shop/web.json").await;
    kubectl.run(r#"patch wd web --subresource=scale --type=merge -p {"spec":{"replicas":4}}"#).await;
    assert_eq!(kubectl.run("get wd web --subresource=scale -o jsonpath={.spec.replicas}").await, "4");
    let refused = kubectl.refused("scale wd web --current-replicas=9 --replicas=1").await;
    assert!(refused.contains("Expected replicas to be 9, was 4"), "{refused}");
    kubectl.run("apply -f shop").await;
    assert!(kubectl.run("apply view-last-applied -f shop/web.json --output=json").await.contains("\"size\": 1"));
    kubectl.run("delete -f shop --now").await;
    assert_eq!(kubectl.run("get wd,cm -o name").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_yet_to_come_is_waited_for() {
    let kubectl = Kubectl::new().await;
    let mut watch = kubectl
        .command("get wd -w --output-watch-events -o jsonpath={.type}:{.object.metadata.name}{\"\\n\"}")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut line = async || tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let wait = kubectl.run("wait --for=create wd/late --timeout=30s");
    let make = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        kubectl.world.widget("late").await
    };
    let (waited, _) = tokio::join!(wait, make);
    assert!(waited.contains("condition met"), "{waited}");
    assert_eq!(line().await, "ADDED:late");
    kubectl.world.delete(&format!("{WIDGETS}/late"), &Value::Null).await.expect(200);
    assert_eq!(line().await, "DELETED:late");
    assert!(kubectl.refused("wait wd/late --for=condition=Ready --timeout=2s").await.contains("NotFound"));
    watch.kill().await.unwrap();
}
