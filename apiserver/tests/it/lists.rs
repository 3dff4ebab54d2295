//! Lists: pages, selectors, revisions, shapes, compression.

use std::io::Read as _;

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{WIDGETS, World, widget_named};

const TABLE: &str = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn some(world: &World, count: usize) {
    for number in 0..count {
        let mut widget = widget_named(&format!("w{number}"));
        widget["metadata"]["labels"] = json!({"parity": if number % 2 == 0 { "even" } else { "odd" }});
        widget["spec"]["colour"] = json!(if number < 2 { "green" } else { "red" });
        world.post(WIDGETS, &widget).await.expect(201);
    }
}

#[tokio::test]
async fn an_empty_list_has_a_revision_and_items() {
    let world = World::new().await;
    let list = world.get(WIDGETS).await.expect(200);
    let revision = world.store.revision().to_string();
    assert_eq!(
        list,
        json!({"kind": "WidgetList", "apiVersion": "example.dev/v1", "metadata": {"resourceVersion": revision}, "items": []})
    );
    let elsewhere = world.get("/apis/example.dev/v1/namespaces/nowhere/widgets").await.expect(200);
    assert_eq!(elsewhere["items"], json!([]), "a list in a namespace that is not there is empty");
}

#[tokio::test]
async fn odd_addresses_of_real_clients_are_understood() {
    let world = World::new().await;
    some(&world, 2).await;
    for path in [
        format!("{WIDGETS}/"),
        format!("{WIDGETS}?"),
        format!("{WIDGETS}?&limit=500"),
        format!("{WIDGETS}?limit=500&unknown=1"),
        "/apis/example.dev/v1/widgets".into(),
        format!("{WIDGETS}?resourceVersion=0"),
    ] {
        assert_eq!(names(&world.get(&path).await.expect(200)), ["w0", "w1"], "{path}");
    }
    for path in ["/api/", "/apis/", "/version/", "/apis/example.dev/", "/apis/example.dev/v1/", "/api/v1/"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    let head = world.send("HEAD", &format!("{WIDGETS}/w0"), &[], Body::empty()).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn selectors_select() {
    let world = World::new().await;
    some(&world, 5).await;
    for (query, expected) in [
        ("labelSelector=parity%3Deven", vec!["w0", "w2", "w4"]),
        ("labelSelector=parity!%3Deven", vec!["w1", "w3"]),
        ("labelSelector=parity%20in%20(odd,other)", vec!["w1", "w3"]),
        ("labelSelector=!parity", vec![]),
        ("fieldSelector=metadata.name%3Dw3", vec!["w3"]),
        ("fieldSelector=metadata.name%3Dw3,metadata.name%3Dw3", vec!["w3"]),
        ("fieldSelector=metadata.name%3Dw3,metadata.name%3Dw4", vec![]),
        ("fieldSelector=metadata.namespace%3Dother", vec![]),
        ("fieldSelector=spec.colour%3Dgreen", vec!["w0", "w1"]),
        ("fieldSelector=spec.colour!%3Dgreen&labelSelector=parity%3Dodd", vec!["w3"]),
    ] {
        let list = world.get(&format!("{WIDGETS}?{query}")).await.expect(200);
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let world = World::new().await;
    some(&world, 5).await;
    let first = world.get(&format!("{WIDGETS}?limit=2")).await.expect(200);
    assert_eq!(names(&first), ["w0", "w1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.delete(&format!("{WIDGETS}/w3"), &Value::Null).await.expect(200);
    world.widget("w1a").await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = world.get(&format!("{WIDGETS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&second), ["w2", "w3"], "what happened since the first page does not show");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let last = world.get(&format!("{WIDGETS}?limit=2&continue={token}")).await.expect(200);
    assert_eq!(names(&last), ["w4"]);
    assert_eq!(last["metadata"].get("continue"), None);
    let odd = world.get(&format!("{WIDGETS}?limit=1&labelSelector=parity%3Dodd")).await.expect(200);
    assert_eq!(names(&odd), ["w1"]);
    assert_eq!(odd["metadata"].get("continue"), None, "nothing more is selected");
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then = format!("{WIDGETS}?resourceVersion={exact}&resourceVersionMatch=Exact");
    assert_eq!(names(&world.get(&then).await.expect(200)), ["w0", "w1", "w2", "w3", "w4"]);
    let newer = format!("{WIDGETS}?resourceVersion={exact}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&world.get(&newer).await.expect(200)), ["w0", "w1", "w1a", "w2", "w4"]);
}

#[tokio::test]
async fn a_revision_that_is_gone_gives_a_way_to_go_on_and_one_to_come_a_timeout() {
    let world = World::with_short_memory().await;
    some(&world, 3).await;
    let first = world.get(&format!("{WIDGETS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    for number in 0..40 {
        world.merge(&format!("{WIDGETS}/w0"), &json!({"spec": {"size": number + 2}})).await.expect(200);
    }
    let gone = world.get(&format!("{WIDGETS}?limit=1&continue={token}")).await.expect(410);
    assert_eq!(gone["reason"], "Expired");
    let fresh = gone["metadata"]["continue"].as_str().unwrap();
    let rest = world.get(&format!("{WIDGETS}?continue={fresh}")).await.expect(200);
    assert_eq!(names(&rest), ["w1", "w2"]);
    // From there on the pages are of one moment again.
    let next = world.get(&format!("{WIDGETS}?limit=1&continue={fresh}")).await.expect(200);
    let token = next["metadata"]["continue"].as_str().unwrap();
    world.widget("w1a").await;
    assert_eq!(names(&world.get(&format!("{WIDGETS}?continue={token}")).await.expect(200)), ["w2"]);
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let then = format!("{WIDGETS}?resourceVersion={exact}&resourceVersionMatch=Exact");
    assert_eq!(world.get(&then).await.expect(410)["reason"], "Expired");
    let future = world.get(&format!("{WIDGETS}?resourceVersion=999999")).await;
    assert_eq!(future.header("retry-after"), "1");
    let future = future.expect(504);
    assert_eq!(future["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn tables_and_metadata_are_made_by_the_server() {
    let world = World::new().await;
    some(&world, 1).await;
    let table = world.send("GET", WIDGETS, &[TABLE], Body::empty()).await.expect(200);
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let headings: Vec<&str> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(headings, ["Name", "Size", "Phase", "Colour", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "w0");
    assert_eq!(table["rows"][0]["cells"][1], 1);
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert!(table["metadata"]["resourceVersion"].is_string());
    let one =
        world.send("GET", &format!("{WIDGETS}/w0?includeObject=Object"), &[TABLE], Body::empty()).await.expect(200);
    assert_eq!(one["rows"][0]["object"]["spec"]["size"], 1);
    let none = world.send("GET", &format!("{WIDGETS}?includeObject=None"), &[TABLE], Body::empty()).await.expect(200);
    assert!(none["rows"][0].get("object").is_none_or(Value::is_null));
    world.send("GET", &format!("{WIDGETS}?includeObject=Some"), &[TABLE], Body::empty()).await.expect(400);

    let partial = "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = world.send("GET", WIDGETS, &[partial], Body::empty()).await.expect(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    let item = &list["items"][0];
    assert_eq!(
        (&item["kind"], item.get("spec"), &item["metadata"]["name"]),
        (&json!("PartialObjectMetadata"), None, &json!("w0"))
    );
    let refused = world.send("GET", WIDGETS, &["Accept: application/vnd.kubernetes.protobuf"], Body::empty()).await;
    assert_eq!(refused.expect(406)["reason"], "NotAcceptable");
    let json_second = "Accept: application/vnd.kubernetes.protobuf, application/json";
    assert_eq!(names(&world.send("GET", WIDGETS, &[json_second], Body::empty()).await.expect(200)), ["w0"]);
    assert!(world.get(&format!("{WIDGETS}/w0?pretty=true")).await.text.contains("\n  \"kind\": \"Widget\""));
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_can_read_it() {
    let world = World::new().await;
    for number in 0..20 {
        let mut widget = widget_named(&format!("w{number}"));
        widget["spec"]["parts"] = json!([{"name": "x".repeat(10_000)}]);
        world.post(WIDGETS, &widget).await.expect(201);
    }
    let plain = world.get(WIDGETS).await;
    assert_eq!(plain.header("content-encoding"), "");
    let short = world.send("GET", &format!("{WIDGETS}/w1"), &["Accept-Encoding: gzip"], Body::empty()).await;
    assert_eq!(short.header("content-encoding"), "");
    let packed = world.bytes(WIDGETS, &["Accept-Encoding: gzip"]).await;
    assert!(packed.len() < plain.text.len() / 10);
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text);
}
