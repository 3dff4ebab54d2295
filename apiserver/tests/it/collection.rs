//! Cascading deletion, namespaces, deletecollection.

use serde_json::{Value, json};

use crate::world::{WIDGETS, World, eventually, widget_named};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

fn owned(name: &str, owners: &[&Value]) -> Value {
    let references: Vec<Value> = owners
        .iter()
        .map(|owner| {
            json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
                   "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "ownerReferences": references}})
}

async fn gone(world: &World, path: &str) {
    eventually(&format!("{path} is gone"), async || world.get(path).await.status == 404).await;
}

#[tokio::test]
async fn dependents_follow_their_last_owner() {
    let world = World::new().await;
    let (one, two) = (world.widget("one").await, world.widget("two").await);
    world.post(SECRETS, &owned("both", &[&one, &two])).await.expect(201);
    let child = world.post(SECRETS, &owned("child", &[&one])).await.expect(201);
    world.post(SECRETS, &owned("grandchild", &[&child])).await.expect(201);
    world.post(SECRETS, &owned("free", &[])).await.expect(201);
    world.delete(&format!("{WIDGETS}/one"), &json!({"propagationPolicy": "Background"})).await.expect(200);
    gone(&world, &format!("{SECRETS}/child")).await;
    gone(&world, &format!("{SECRETS}/grandchild")).await;
    let both = format!("{SECRETS}/both");
    eventually("the reference that leads nowhere is dropped", async || {
        let references = world.get(&both).await.expect(200)["metadata"]["ownerReferences"].clone();
        references.as_array().unwrap().len() == 1
    })
    .await;
    world.delete(&format!("{WIDGETS}/two"), &Value::Null).await.expect(200);
    gone(&world, &both).await;
    world.get(&format!("{SECRETS}/free")).await.expect(200);
}

#[tokio::test]
async fn an_owner_of_the_same_name_is_another_owner() {
    let world = World::new().await;
    let first = world.widget("web").await;
    world.delete(&format!("{WIDGETS}/web"), &Value::Null).await.expect(200);
    world.widget("web").await;
    world.post(SECRETS, &owned("late", &[&first])).await.expect(201);
    gone(&world, &format!("{SECRETS}/late")).await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_dependents() {
    let world = World::new().await;
    let web = world.widget("web").await;
    let mut child = owned("child", &[&web]);
    child["metadata"]["finalizers"] = json!(["example.dev/hold"]);
    world.post(SECRETS, &child).await.expect(201);
    let path = format!("{WIDGETS}/web");
    let marked = world.delete(&path, &json!({"propagationPolicy": "Foreground"})).await.expect(200);
    assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    let child = format!("{SECRETS}/child");
    eventually("the dependent is asked to go", async || {
        world.get(&child).await.expect(200)["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    world.get(&path).await.expect(200);
    world.merge(&child, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    gone(&world, &path).await;
    gone(&world, &child).await;
}

/// Whose owner is its own dependent is not waited for.
#[tokio::test]
async fn who_own_each_other_go_together() {
    let world = World::new().await;
    let a = world.post(SECRETS, &json!({"metadata": {"name": "a"}})).await.expect(201);
    let owner = |of: &Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "name": of["metadata"]["name"], "uid": of["metadata"]["uid"],
            "blockOwnerDeletion": true,
        })
    };
    let b = json!({"metadata": {"name": "b", "ownerReferences": [owner(&a)]}});
    let b = world.post(SECRETS, &b).await.expect(201);
    world.merge(&format!("{SECRETS}/a"), &json!({"metadata": {"ownerReferences": [owner(&b)]}})).await.expect(200);
    world.delete(&format!("{SECRETS}/a"), &json!({"propagationPolicy": "Foreground"})).await.expect(200);
    gone(&world, &format!("{SECRETS}/a")).await;
    gone(&world, &format!("{SECRETS}/b")).await;
}

#[tokio::test]
async fn orphans_stay() {
    let world = World::new().await;
    let web = world.widget("web").await;
    world.post(SECRETS, &owned("child", &[&web])).await.expect(201);
    world.delete(&format!("{WIDGETS}/web?propagationPolicy=Orphan"), &Value::Null).await.expect(200);
    gone(&world, &format!("{WIDGETS}/web")).await;
    let child = world.get(&format!("{SECRETS}/child")).await.expect(200);
    assert_eq!(child["metadata"].get("ownerReferences"), None);
}

#[tokio::test]
async fn what_was_left_by_a_server_that_stopped_is_collected_by_the_next() {
    let world = World::new().await;
    let web = world.widget("web").await;
    world.stop();
    world.post(SECRETS, &owned("child", &[&web])).await.expect(201);
    world.delete(&format!("{WIDGETS}/web"), &Value::Null).await.expect(200);
    world.get(&format!("{SECRETS}/child")).await.expect(200);
    let next = world.again().await;
    gone(&next, &format!("{SECRETS}/child")).await;
}

#[tokio::test]
async fn a_namespace_is_emptied_and_takes_nothing_new_meanwhile() {
    let world = World::new().await;
    let made = world.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "shop");
    assert_eq!((&made["status"]["phase"], &made["spec"]["finalizers"]), (&json!("Active"), &json!(["kubernetes"])));
    let widgets = "/apis/example.dev/v1/namespaces/shop/widgets";
    let mut held = widget_named("held");
    held["metadata"]["finalizers"] = json!(["example.dev/hold"]);
    world.post(widgets, &held).await.expect(201);
    world.post(widgets, &widget_named("free")).await.expect(201);
    world.post("/api/v1/namespaces/shop/secrets", &json!({"metadata": {"name": "s"}})).await.expect(201);
    let going = world.delete("/api/v1/namespaces/shop", &Value::Null).await.expect(200);
    assert_eq!(going["status"]["phase"], "Terminating");
    gone(&world, &format!("{widgets}/free")).await;
    gone(&world, "/api/v1/namespaces/shop/secrets/s").await;
    let refused = world.post(widgets, &widget_named("late")).await.expect(403);
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    world.merge(&format!("{widgets}/held"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    gone(&world, "/api/v1/namespaces/shop").await;
    world.post(widgets, &widget_named("late")).await.expect(404);
}

#[tokio::test]
async fn a_namespace_cannot_be_made_to_forget_its_content() {
    let world = World::new().await;
    let default = "/api/v1/namespaces/default";
    assert!(
        world.delete(default, &Value::Null).await.expect(403)["message"]
            .as_str()
            .unwrap()
            .contains("may not be deleted")
    );
    let shop = "/api/v1/namespaces/shop";
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "shop"}})).await.expect(201);
    let kept = world.merge(shop, &json!({"spec": {"finalizers": []}, "status": {"phase": "Odd"}})).await.expect(200);
    assert_eq!((&kept["spec"]["finalizers"], &kept["status"]["phase"]), (&json!(["kubernetes"]), &json!("Active")));
    let labelled = world.merge(shop, &json!({"metadata": {"labels": {"team": "a"}}})).await.expect(200);
    assert_eq!(labelled["metadata"]["labels"]["team"], "a");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let world = World::new().await;
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut widget = widget_named(name);
        widget["metadata"]["labels"] = json!({"team": team});
        world.post(WIDGETS, &widget).await.expect(201);
    }
    let dry = world.delete(&format!("{WIDGETS}?labelSelector=team%3Dx&dryRun=All"), &Value::Null).await.expect(200);
    assert_eq!(dry["items"].as_array().unwrap().len(), 2);
    let deleted = world.delete(&format!("{WIDGETS}?labelSelector=team%3Dx"), &Value::Null).await.expect(200);
    assert_eq!((&deleted["kind"], deleted["items"].as_array().unwrap().len()), (&json!("WidgetList"), 2));
    let left = world.get(WIDGETS).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    world.delete("/apis/example.dev/v1/widgets", &Value::Null).await.expect(405);
}
