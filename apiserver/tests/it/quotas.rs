//! Quotas: how much a namespace may hold.

use std::sync::Arc;

use apiserver::quota::{Amount, Evaluator, Find, Usage};
use serde_json::{Value, json};

use crate::world::{WIDGETS, World, eventually, widget_named};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A widget uses its size times its replicas of `space`, as large as the gadget of its name says one is.
struct Space;

impl Evaluator for Space {
    fn kind(&self) -> (&str, &str) {
        ("example.dev", "widgets")
    }

    fn names(&self) -> &[&str] {
        &["space"]
    }

    fn usage(&self, object: &Value, find: Find<'_>) -> Option<Usage> {
        let unit = match object["metadata"]["annotations"]["unit"].as_str() {
            Some(name) => Amount::parse(find("example.dev", "gadgets", "", name)?["unit"].as_str()?)?,
            None => Amount::units(1),
        };
        let count = object["spec"]["size"].as_u64()? * object["spec"]["replicas"].as_u64()?;
        Some(Usage::from([("space".to_owned(), unit.times(count))]))
    }
}

async fn world(hard: Value) -> World {
    let world = World::with(|builder| builder.evaluator(Arc::new(Space))).await;
    world.post(QUOTAS, &quota("limits", &hard)).await.expect(201);
    world
}

fn quota(name: &str, hard: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}})
}

async fn used(world: &World) -> Value {
    world.get(&format!("{QUOTAS}/limits")).await.expect(200)["status"]["used"].clone()
}

#[tokio::test]
async fn objects_of_any_kind_are_counted() {
    let world = world(json!({"count/widgets.example.dev": "2", "configmaps": 1})).await;
    world.widget("a").await;
    world.widget("b").await;
    let refused = world.post(WIDGETS, &widget_named("c")).await.expect(403);
    assert_eq!(
        refused["message"],
        r#"widgets.example.dev "c" is forbidden: exceeded quota: limits, requested: count/widgets.example.dev=1, used: count/widgets.example.dev=2, limited: count/widgets.example.dev=2"#
    );
    assert_eq!((&refused["reason"], &refused["details"]["name"]), (&json!("Forbidden"), &json!("c")));
    world.post(&format!("{WIDGETS}?dryRun=All"), &widget_named("c")).await.expect(403);
    world.merge(&format!("{WIDGETS}/a"), &json!({"spec": {"size": 9}})).await.expect(200);
    world.post(CONFIG_MAPS, &json!({"metadata": {"name": "one"}})).await.expect(201);
    world.post(CONFIG_MAPS, &json!({"metadata": {"name": "two"}})).await.expect(403);
    world.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "free"}})).await.expect(201);
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "other"}})).await.expect(201);
    let elsewhere = "/apis/example.dev/v1/namespaces/other/widgets";
    for name in ["x", "y", "z"] {
        world.post(elsewhere, &widget_named(name)).await.expect(201);
    }
    world.delete(&format!("{WIDGETS}/a"), &Value::Null).await.expect(200);
    world.post(WIDGETS, &widget_named("c")).await.expect(201);
    let all = json!({"count/widgets.example.dev": "2", "configmaps": "1"});
    eventually("the usage", async || used(&world).await == all).await;
    world.delete(WIDGETS, &Value::Null).await.expect(200);
    eventually("nothing is used", async || used(&world).await["count/widgets.example.dev"] == "0").await;
    let table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = world.send("GET", QUOTAS, &[table], "").await.expect(200);
    assert_eq!(table["rows"][0]["cells"][1], "configmaps: 1/1, count/widgets.example.dev: 0/2");
}

#[tokio::test]
async fn what_an_object_needs_is_measured() {
    let world = world(json!({"space": "10Gi"})).await;
    world.post("/apis/example.dev/v1/gadgets", &json!({"metadata": {"name": "gib"}, "unit": "1Gi"})).await.expect(201);
    let sized = |name: &str, size: u64, replicas: u64, unit: &str| json!({"metadata": {"name": name, "annotations": {"unit": unit}}, "spec": {"size": size, "replicas": replicas}});
    world.post(WIDGETS, &sized("a", 2, 3, "gib")).await.expect(201);
    let refused = world.post(WIDGETS, &sized("b", 5, 1, "gib")).await.expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with("exceeded quota: limits, requested: space=5Gi, used: space=6Gi, limited: space=10Gi"),
        "{message}"
    );
    let a = format!("{WIDGETS}/a");
    world.merge(&a, &json!({"spec": {"replicas": 5}})).await.expect(200);
    let refused = world.merge(&a, &json!({"spec": {"replicas": 6}})).await.expect(403);
    assert!(refused["message"].as_str().unwrap().contains("requested: space=2Gi, used: space=10Gi"), "{refused}");
    world.merge(&format!("{a}/scale"), &json!({"spec": {"replicas": 6}})).await.expect(403);
    world.merge(&format!("{a}/status"), &json!({"status": {"phase": "Up"}})).await.expect(200);
    world.merge(&a, &json!({"spec": {"replicas": 1}})).await.expect(200);
    world.post(WIDGETS, &sized("b", 5, 1, "gib")).await.expect(201);
    eventually("the usage", async || used(&world).await == json!({"space": "7Gi"})).await;
    // What cannot be measured yet uses nothing, and is measured as soon as it can be.
    world.post(WIDGETS, &sized("c", 3, 1, "later")).await.expect(201);
    world
        .post("/apis/example.dev/v1/gadgets", &json!({"metadata": {"name": "later"}, "unit": "1Gi"}))
        .await
        .expect(201);
    let refused = world.post(WIDGETS, &sized("d", 1, 1, "gib")).await.expect(403);
    assert!(refused["message"].as_str().unwrap().contains("used: space=10Gi"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_never_get_more_than_there_is() {
    let world = world(json!({"count/widgets.example.dev": "25", "space": "1000"})).await;
    for round in 0..4 {
        let creates = (0..100).map(|number| {
            let world = &world;
            async move { world.post(WIDGETS, &widget_named(&format!("w{round}-{number}"))).await.status.as_u16() }
        });
        let codes = futures::future::join_all(creates).await;
        let created = codes.iter().filter(|code| **code == 201).count();
        assert!(codes.iter().all(|code| matches!(code, 201 | 403)), "{codes:?}");
        assert_eq!(created, 25, "as many as there is room for: a refusal without need would be wrong too");
        let stored = world.get(WIDGETS).await.expect(200);
        assert_eq!(stored["items"].as_array().unwrap().len(), 25);
        world.delete(WIDGETS, &Value::Null).await.expect(200);
    }
    // Changes at once, against the other limit.
    for number in 0..20 {
        world.widget(&format!("w{number}")).await;
    }
    let grow = (0..20).map(|number| {
        let world = &world;
        let patch = json!({"spec": {"size": 90}});
        async move { world.merge(&format!("{WIDGETS}/w{number}"), &patch).await.status.as_u16() }
    });
    let grown = futures::future::join_all(grow).await.into_iter().filter(|code| *code == 200).count();
    assert_eq!(grown, 11, "20 + 11 * 89 = 999");
}

#[tokio::test]
async fn a_quota_that_cannot_hold_is_refused() {
    let world = World::with(|builder| builder.evaluator(Arc::new(Space))).await;
    for (hard, part) in [
        (json!({"count/chairs.example.dev": "1"}), "spec.hard[count/chairs.example.dev]: Unsupported value"),
        (json!({"cpu": "1"}), r#"supported values: "count/RESOURCE.GROUP" of a kind that is served, "space""#),
        (json!({"space": "much"}), "must be a quantity"),
        (json!({"space": "-1"}), "must be a quantity"),
        // Objects without a namespace are in none that has a quota.
        (json!({"count/gadgets.example.dev": "1"}), "Unsupported value"),
    ] {
        let refused = world.post(QUOTAS, &quota("limits", &hard)).await.expect(422);
        assert!(refused["message"].as_str().unwrap().contains(part), "{hard}: {refused}");
    }
    world
        .post(QUOTAS, &quota("limits", &json!({"space": "1", "count/events": 5, "resourcequotas": 1})))
        .await
        .expect(201);
    let refused = world.post(QUOTAS, &quota("more", &json!({"space": "1"}))).await.expect(403);
    assert!(
        refused["message"].as_str().unwrap().contains("requested: resourcequotas=1, used: resourcequotas=1"),
        "{refused}"
    );
    // The status is the server's.
    let forged = json!({"status": {"used": {"space": "0"}}});
    world.merge(&format!("{QUOTAS}/limits"), &forged).await.expect(200);
    eventually("the usage", async || used(&world).await["resourcequotas"] == "1").await;
    world.delete("/api/v1/namespaces/default/resourcequotas/limits", &Value::Null).await.expect(200);
    world.post(WIDGETS, &widget_named("free")).await.expect(201);
}
