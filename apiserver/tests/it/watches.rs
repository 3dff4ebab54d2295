//! Watches: where they start, what they show, how they end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{WIDGETS, World, widget_named};

async fn revision(world: &World) -> String {
    world.get(WIDGETS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_watch_shows_every_change_after_its_revision_once_and_in_order() {
    let world = World::new().await;
    world.widget("before").await;
    let from = revision(&world).await;
    let mut watch = world.watch(&format!("{WIDGETS}?watch=true&resourceVersion={from}"), &[]).await;
    let web = format!("{WIDGETS}/web");
    let added = world.widget("web").await;
    let modified = world.merge(&web, &json!({"spec": {"size": 2}})).await.expect(200);
    world.delete(&web, &Value::Null).await.expect(200);
    assert_eq!(watch.next().await.unwrap(), json!({"type": "ADDED", "object": added}));
    assert_eq!(watch.next().await.unwrap(), json!({"type": "MODIFIED", "object": modified}));
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    let stamp = |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(stamp(&deleted["object"]) > stamp(&modified), "a deletion has a revision of its own");
    assert_eq!(deleted["object"]["spec"], modified["spec"]);

    // Whoever comes later and starts from the same revision sees the same.
    let mut late = world.watch(&format!("{WIDGETS}?watch=1&resourceVersion={from}"), &[]).await;
    assert_eq!(
        [late.brief().await, late.brief().await, late.brief().await],
        ["ADDED web", "MODIFIED web", "DELETED web"]
    );
}

#[tokio::test]
async fn a_watch_without_a_revision_begins_with_what_is() {
    let world = World::new().await;
    world.widget("a").await;
    world.widget("b").await;
    let mut plain = world.watch(&format!("{WIDGETS}?watch=true"), &[]).await;
    assert_eq!([plain.brief().await, plain.brief().await], ["ADDED a", "ADDED b"]);
    world.widget("c").await;
    assert_eq!(plain.brief().await, "ADDED c");
    let mut old = world.watch("/apis/example.dev/v1/watch/namespaces/default/widgets/b?timeoutSeconds=60", &[]).await;
    assert_eq!(old.brief().await, "ADDED b");
    world.merge(&format!("{WIDGETS}/a"), &json!({"spec": {"size": 2}})).await.expect(200);
    world.merge(&format!("{WIDGETS}/b"), &json!({"spec": {"size": 2}})).await.expect(200);
    assert_eq!(old.brief().await, "MODIFIED b");
}

#[tokio::test]
async fn a_streaming_list_marks_its_end() {
    let world = World::new().await;
    world.widget("a").await;
    let from = revision(&world).await;
    // As kube-rs asks, and as kubectl asks.
    for start in ["&resourceVersion=0", ""] {
        let query = format!(
            "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan{start}"
        );
        let mut watch = world.watch(&format!("{WIDGETS}?&{query}"), &[]).await;
        assert_eq!(watch.brief().await, "ADDED a");
        assert_eq!(
            watch.next().await.unwrap(),
            json!({"type": "BOOKMARK", "object": {"kind": "Widget", "apiVersion": "example.dev/v1", "metadata": {
                "resourceVersion": from, "creationTimestamp": null,
                "annotations": {"k8s.io/initial-events-end": "true"}}}})
        );
    }
    let query = "watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=0";
    let mut later = world.watch(&format!("{WIDGETS}?{query}"), &[]).await;
    world.widget("b").await;
    assert_eq!(later.brief().await, "ADDED b", "the initial state was not wanted");
}

#[tokio::test]
async fn an_expired_start_is_told_in_the_stream() {
    let world = World::with_short_memory().await;
    world.widget("a").await;
    let from = revision(&world).await;
    for number in 0..40 {
        world.merge(&format!("{WIDGETS}/a"), &json!({"spec": {"size": number + 2}})).await.expect(200);
    }
    let mut watch = world.watch(&format!("{WIDGETS}?watch=true&resourceVersion={from}"), &[]).await;
    let line = watch.next().await.unwrap();
    assert_eq!(line["type"], "ERROR");
    let status = &line["object"];
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert!(status["message"].as_str().unwrap().starts_with(&format!("too old resource version: {from} (")));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let world = World::new().await;
    world.widget("a").await;
    let from = revision(&world).await;
    let query = format!("watch=true&labelSelector=shown%3Dyes&resourceVersion={from}");
    let mut watch = world.watch(&format!("{WIDGETS}?{query}"), &[]).await;
    let a = format!("{WIDGETS}/a");
    world.widget("unrelated").await;
    world.merge(&a, &json!({"metadata": {"labels": {"shown": "yes"}}})).await.expect(200);
    world.merge(&a, &json!({"spec": {"size": 2}})).await.expect(200);
    let left =
        world.merge(&a, &json!({"metadata": {"labels": {"shown": "no"}}, "spec": {"size": 3}})).await.expect(200);
    world.merge(&a, &json!({"spec": {"size": 4}})).await.expect(200);
    world.merge(&a, &json!({"metadata": {"labels": {"shown": "yes"}}})).await.expect(200);
    world.delete(&a, &Value::Null).await.expect(200);
    assert_eq!([watch.brief().await, watch.brief().await], ["ADDED a", "MODIFIED a"]);
    let line = watch.next().await.unwrap();
    assert_eq!(line["type"], "DELETED");
    assert_eq!(line["object"]["spec"]["size"], 2, "the last state that was selected");
    assert_eq!(
        line["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"],
        "under the new revision"
    );
    assert_eq!([watch.brief().await, watch.brief().await], ["ADDED a", "DELETED a"]);
}

#[tokio::test]
async fn tables_and_metadata_can_be_watched() {
    let world = World::new().await;
    world.widget("a").await;
    let accept = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let mut watch = world.watch(&format!("{WIDGETS}?watch=true"), &[accept]).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "a");
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    world.widget("b").await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["rows"][0]["cells"][0], "b");
    assert!(second["object"]["columnDefinitions"].as_array().is_none_or(Vec::is_empty), "columns come once");

    let accept = "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let mut watch = world.watch(&format!("{WIDGETS}?watch=true"), &[accept]).await;
    let line = watch.next().await.unwrap();
    assert_eq!((&line["object"]["kind"], line["object"].get("spec")), (&json!("PartialObjectMetadata"), None));
}

#[tokio::test]
async fn both_faces_of_an_event_are_watched_and_selected() {
    let world = World::new().await;
    let mut core =
        world.watch("/api/v1/namespaces/default/events?watch=true&fieldSelector=involvedObject.name%3Dweb", &[]).await;
    let mut new = world.watch("/apis/events.k8s.io/v1/namespaces/default/events?watch=true", &[]).await;
    let event = |name: &str, about: &str| {
        json!({
            "metadata": {"name": name}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "Do", "reason": "Done",
            "type": "Normal", "note": "well", "reportingController": "example.dev/t", "reportingInstance": "one",
            "regarding": {"apiVersion": "example.dev/v1", "kind": "Widget", "name": about, "namespace": "default"}
        })
    };
    let events = "/apis/events.k8s.io/v1/namespaces/default/events";
    world.post(events, &event("other.1", "other")).await.expect(201);
    let stored = world.post(events, &event("web.1", "web")).await.expect(201);
    assert_eq!((&stored["note"], &stored["regarding"]["name"]), (&json!("well"), &json!("web")));
    let line = core.next().await.unwrap();
    assert_eq!(
        (&line["object"]["message"], &line["object"]["involvedObject"]["name"]),
        (&json!("well"), &json!("web"))
    );
    assert_eq!(line["object"]["apiVersion"], "v1");
    assert_eq!([new.brief().await, new.brief().await], ["ADDED other.1", "ADDED web.1"]);
    let patched = world
        .merge(
            &format!("{events}/web.1"),
            &json!({"series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:00.000000Z"}}),
        )
        .await
        .expect(200);
    assert_eq!((&patched["apiVersion"], &patched["series"]["count"]), (&json!("events.k8s.io/v1"), &json!(2)));
    let line = new.next().await.unwrap();
    assert_eq!((&line["type"], &line["object"]["series"]["count"]), (&json!("MODIFIED"), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_comes_before_the_end() {
    let world = World::new().await;
    world.widget("a").await;
    let from = revision(&world).await;
    let query = format!("watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={from}");
    let mut watch = world.watch(&format!("{WIDGETS}?{query}"), &[]).await;
    // Another kind moves on: the bookmark must carry the store's revision, so that a quiet kind does not fall behind.
    world.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "c"}})).await.expect(201);
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["resourceVersion"], world.store.revision().to_string());
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn watches_end_when_the_server_stops_and_are_counted_while_they_live() {
    let world = World::new().await;
    let mut watch = world.watch(&format!("{WIDGETS}?watch=true"), &[]).await;
    let open = r#"apiserver_longrunning_requests{resource="widgets.example.dev"} 1"#;
    assert!(world.get("/metrics").await.text.contains(open));
    world.stop();
    assert!(watch.next().await.is_none());
    drop(watch);
    assert!(!world.get("/metrics").await.text.contains(open));
}

#[tokio::test]
async fn a_thousand_changes_arrive_in_order_at_every_watcher() {
    let world = World::new().await;
    let from = revision(&world).await;
    let path = format!("{WIDGETS}?watch=true&resourceVersion={from}");
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(world.watch(&path, &[]).await);
    }
    let writes = (0..200).map(|number| {
        let world = &world;
        async move {
            world.post(WIDGETS, &widget_named(&format!("w{number}"))).await.expect(201);
            for size in 2..6 {
                world.merge(&format!("{WIDGETS}/w{number}"), &json!({"spec": {"size": size}})).await.expect(200);
            }
        }
    });
    let all = tokio::time::timeout(Duration::from_mins(1), futures::future::join_all(writes));
    all.await.unwrap();
    let mut seen = Vec::new();
    for watch in &mut watches {
        let mut revisions = Vec::new();
        for _ in 0..1000 {
            let line = watch.next().await.unwrap();
            revisions.push(line["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap());
        }
        assert!(revisions.is_sorted_by(|a, b| a < b));
        seen.push(revisions);
    }
    assert!(seen.iter().all(|revisions| *revisions == seen[0]));
}
