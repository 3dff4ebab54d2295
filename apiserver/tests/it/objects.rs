//! One object: created, read, replaced, patched, deleted; and everything that is refused.

use http::StatusCode;
use serde_json::{Value, json};

use crate::world::{WIDGETS, World, widget_named};

#[tokio::test]
async fn a_new_object_gets_what_the_server_decides() {
    let world = World::new().await;
    let mut sent = widget_named("web");
    sent["metadata"]["uid"] = json!("mine");
    sent["metadata"]["generation"] = json!(77);
    sent["metadata"]["labels"] = json!({});
    sent["status"] = json!({"phase": "Invented"});
    let stored = world.post(WIDGETS, &sent).await.expect(201);
    let metadata = &stored["metadata"];
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["namespace"], "default");
    assert_ne!(metadata["uid"], "mine");
    assert!(metadata["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(metadata.get("labels"), None);
    assert_eq!(stored.get("status"), None, "status is a subresource");
    assert_eq!(stored["spec"], json!({"size": 1, "colour": "red", "replicas": 1}), "defaults are stored");
    let read = world.get(&format!("{WIDGETS}/web")).await;
    assert_eq!(read.header("content-type"), "application/json");
    assert_eq!(read.header("cache-control"), "no-cache, private");
    assert_eq!(read.header("audit-id").len(), 36);
    assert_eq!(read.expect(200), stored);
}

#[tokio::test]
async fn type_and_content_type_may_be_left_out_and_yaml_is_read() {
    let world = World::new().await;
    let body = json!({"metadata": {"name": "bare"}, "spec": {"size": 2}});
    assert_eq!(world.post(WIDGETS, &body).await.expect(201)["kind"], "Widget");
    let yaml = "metadata:\n  name: soft\nspec:\n  size: 3\n";
    let answer = world.send("POST", WIDGETS, &["Content-Type: application/yaml"], yaml).await.expect(201);
    assert_eq!(answer["spec"]["size"], 3);
    let read = world.send("GET", &format!("{WIDGETS}/soft"), &["Accept: application/yaml"], "").await;
    assert_eq!(read.header("content-type"), "application/yaml");
    assert!(read.text.contains("name: soft\n"), "{}", read.text);
}

#[tokio::test]
async fn names_are_generated() {
    let world = World::new().await;
    let body = json!({"metadata": {"generateName": "web-"}, "spec": {"size": 2}});
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let name = world.post(WIDGETS, &body).await.expect(201)["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 20);
}

/// Every refusal that clients and people meet: code, reason, and a piece of the message.
#[tokio::test]
async fn refusals_say_what_is_wrong() {
    let world = World::new().await;
    world.widget("web").await;
    let with = |path: &str, value: Value| {
        let mut body = widget_named("other");
        *body.pointer_mut(path).unwrap() = value;
        body.to_string()
    };
    let json_patch = "application/json-patch+json";
    let merge = "application/merge-patch+json";
    let plain = "application/json";
    // `@` is the collection of widgets.
    let table: Vec<(&str, &str, &str, String, u16, &str, &str)> = vec![
        ("GET", "@/nope", plain, String::new(), 404, "NotFound", r#"widgets.example.dev "nope" not found"#),
        (
            "GET",
            "/apis/example.dev/v1/chairs",
            plain,
            String::new(),
            404,
            "NotFound",
            "could not find the requested resource",
        ),
        ("GET", "/nonsense", plain, String::new(), 404, "NotFound", "could not find the requested resource"),
        (
            "POST",
            "@",
            plain,
            widget_named("web").to_string(),
            409,
            "AlreadyExists",
            r#"widgets.example.dev "web" already exists"#,
        ),
        ("POST", "@", plain, "{".into(), 400, "BadRequest", ""),
        ("POST", "@", plain, "[]".into(), 400, "BadRequest", "not a Widget"),
        (
            "POST",
            "@",
            plain,
            with("/kind", json!("Chair")),
            400,
            "BadRequest",
            "does not match the expected kind (Widget)",
        ),
        (
            "POST",
            "@",
            plain,
            with("/metadata", json!({"name": "x", "namespace": "y"})),
            400,
            "BadRequest",
            "does not match the namespace",
        ),
        (
            "POST",
            "@",
            plain,
            with("/metadata", json!({"name": "x", "resourceVersion": "5"})),
            400,
            "BadRequest",
            "resourceVersion should not be set",
        ),
        ("POST", "@", plain, with("/metadata", json!({})), 422, "Invalid", "name or generateName is required"),
        ("POST", "@", plain, with("/metadata/name", json!("A_b")), 422, "Invalid", "lowercase RFC 1123 subdomain"),
        ("POST", "@", plain, with("/spec", json!({})), 422, "Invalid", "spec.size: Required value"),
        ("POST", "@", plain, with("/spec/size", json!("big")), 422, "Invalid", "spec.size: Invalid value: "),
        ("POST", "@", plain, with("/spec/size", json!(-1)), 422, "Invalid", "should be greater than or equal to 0"),
        (
            "POST",
            "@",
            "text/csv",
            with("/kind", json!("Widget")),
            415,
            "UnsupportedMediaType",
            "application/json, application/yaml",
        ),
        (
            "POST",
            "@",
            "application/vnd.kubernetes.protobuf",
            "k8s".into(),
            415,
            "UnsupportedMediaType",
            "application/json, application/yaml",
        ),
        (
            "POST",
            "/apis/example.dev/v1/namespaces/nowhere/widgets",
            plain,
            with("/kind", json!("Widget")),
            404,
            "NotFound",
            r#"namespaces "nowhere" not found"#,
        ),
        (
            "POST",
            "/apis/example.dev/v1/widgets",
            plain,
            with("/kind", json!("Widget")),
            405,
            "MethodNotAllowed",
            "does not allow this method",
        ),
        ("POST", "@?dryRun=Some", plain, with("/kind", json!("Widget")), 422, "Invalid", r#"supported values: "All""#),
        ("POST", "@?fieldValidation=Maybe", plain, with("/kind", json!("Widget")), 422, "Invalid", "fieldValidation"),
        (
            "POST",
            "@?fieldValidation=Strict",
            plain,
            with("/spec", json!({"size": 1, "a": 1})),
            400,
            "BadRequest",
            r#"strict decoding error: unknown field "spec.a""#,
        ),
        (
            "POST",
            "@?fieldValidation=Strict",
            plain,
            r#"{"metadata":{"name":"a"},"spec":{"size":1,"size":2}}"#.into(),
            400,
            "BadRequest",
            r#"duplicate field "spec.size""#,
        ),
        ("PUT", "@/nope", plain, widget_named("nope").to_string(), 404, "NotFound", "not found"),
        (
            "PUT",
            "@/web",
            plain,
            widget_named("other").to_string(),
            400,
            "BadRequest",
            "does not match the name on the URL",
        ),
        (
            "PUT",
            "@/web",
            plain,
            with("/metadata", json!({"name": "web", "resourceVersion": "1"})),
            409,
            "Conflict",
            "Operation cannot be fulfilled on widgets.example.dev \"web\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            "PUT",
            "@/web",
            plain,
            with("/metadata", json!({"name": "web", "uid": "old"})),
            409,
            "Conflict",
            "Precondition failed: UID in precondition: old",
        ),
        (
            "PATCH",
            "@/web",
            "application/strategic-merge-patch+json",
            "{}".into(),
            415,
            "UnsupportedMediaType",
            "application/merge-patch+json",
        ),
        (
            "PATCH",
            "@/web",
            "application/apply-patch+yaml",
            "{}".into(),
            422,
            "Invalid",
            "fieldManager: Required value: is required for apply patch",
        ),
        ("PATCH", "@/web", plain, "{}".into(), 415, "UnsupportedMediaType", "application/json-patch+json"),
        ("PATCH", "@/web", merge, "[".into(), 400, "BadRequest", ""),
        ("PATCH", "@/web", merge, "[]".into(), 400, "BadRequest", ""),
        (
            "PATCH",
            "@/web",
            json_patch,
            r#"[{"op":"test","path":"/spec/size","value":9}]"#.into(),
            422,
            "Invalid",
            "test",
        ),
        ("PATCH", "@/web", json_patch, r#"[{"op":"remove","path":"/spec/nope"}]"#.into(), 422, "Invalid", ""),
        (
            "PATCH",
            "@/web",
            merge,
            r#"{"metadata":{"resourceVersion":"1"}}"#.into(),
            409,
            "Conflict",
            "the object has been modified",
        ),
        ("PATCH", "@/web", merge, r#"{"spec":{"size":-4}}"#.into(), 422, "Invalid", "spec.size: Invalid value: -4"),
        ("PATCH", "@/web?force=true", merge, "{}".into(), 422, "Invalid", "may not be specified for non-apply patch"),
        ("PATCH", "@/web?fieldManager=LONG", merge, "{}".into(), 422, "Invalid", "fieldManager"),
        (
            "PATCH",
            "@/web?fieldValidation=Strict",
            merge,
            r#"{"spec":{"a":1}}"#.into(),
            422,
            "Invalid",
            r#"unknown field \"spec.a\""#,
        ),
        (
            "DELETE",
            "@/web",
            plain,
            r#"{"preconditions":{"uid":"old"}}"#.into(),
            409,
            "Conflict",
            "Precondition failed: UID in precondition: old",
        ),
        (
            "DELETE",
            "@/web",
            plain,
            r#"{"preconditions":{"resourceVersion":"1"}}"#.into(),
            409,
            "Conflict",
            "Precondition failed: ResourceVersion",
        ),
        (
            "DELETE",
            "@/web",
            plain,
            r#"{"propagationPolicy":"Sideways"}"#.into(),
            422,
            "Invalid",
            r#""Background", "Foreground", "Orphan""#,
        ),
        (
            "DELETE",
            "@/web",
            plain,
            r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#.into(),
            422,
            "Invalid",
            "cannot be both set",
        ),
        ("DELETE", "@/web", plain, r#"{"kind":"Widget"}"#.into(), 400, "BadRequest", "DeleteOptions"),
        ("GET", "@?labelSelector=a%3D%3D%3Db", plain, String::new(), 400, "BadRequest", "unable to parse requirement"),
        (
            "GET",
            "@?fieldSelector=spec.size%3D1",
            plain,
            String::new(),
            400,
            "BadRequest",
            "field label not supported: spec.size",
        ),
        ("GET", "@?continue=nonsense", plain, String::new(), 400, "BadRequest", "continue key is not valid"),
        ("GET", "@/web/status/x", plain, String::new(), 404, "NotFound", "could not find"),
        ("GET", "/apis/example.dev/v1/gadgets/x/scale", plain, String::new(), 404, "NotFound", "could not find"),
        ("DELETE", "/version", plain, String::new(), 405, "MethodNotAllowed", "does not allow this method"),
    ];
    for (method, path, content_type, body, code, reason, piece) in table {
        let path = path.replace('@', WIDGETS).replace("LONG", &"x".repeat(129));
        let answer = world.send(method, &path, &[&format!("Content-Type: {content_type}")], body.clone()).await;
        let context = format!("{method} {path} {body}\n{}", answer.text);
        assert_eq!(answer.status.as_u16(), code, "{context}");
        let status = answer.json();
        assert_eq!(
            (&status["kind"], &status["apiVersion"], &status["status"]),
            (&json!("Status"), &json!("v1"), &json!("Failure")),
            "{context}"
        );
        assert_eq!((&status["code"], &status["reason"]), (&json!(code), &json!(reason)), "{context}");
        assert!(answer.text.contains(piece) || status["message"].as_str().unwrap().contains(piece), "{context}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{context}");
    }
}

#[tokio::test]
async fn a_missing_object_and_an_invalid_one_look_like_in_kubernetes() {
    let world = World::new().await;
    let missing = world.get(&format!("{WIDGETS}/x")).await.expect(404);
    assert_eq!(
        missing,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
               "message": "widgets.example.dev \"x\" not found", "reason": "NotFound",
               "details": {"name": "x", "group": "example.dev", "kind": "widgets"}, "code": 404})
    );
    let mut bad = widget_named("x");
    bad["spec"]["size"] = json!(-1);
    let invalid = world.post(WIDGETS, &bad).await.expect(422);
    assert_eq!(invalid["details"]["kind"], "Widget");
    assert_eq!(invalid["details"]["causes"][0]["field"], "spec.size");
    assert_eq!(invalid["details"]["causes"][0]["reason"], "FieldValueInvalid");
    assert!(
        invalid["message"]
            .as_str()
            .unwrap()
            .starts_with("Widget.example.dev \"x\" is invalid: spec.size: Invalid value")
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    let mut body = widget_named("large");
    body["spec"]["parts"] = json!([{"name": "x".repeat(3 * 1024 * 1024)}]);
    assert_eq!(world.post(WIDGETS, &body).await.expect(413)["reason"], "RequestEntityTooLarge");
    body["spec"]["parts"] = json!([{"name": "x".repeat(2 * 1024 * 1024)}]);
    assert!(world.post(WIDGETS, &body).await.expect(422)["message"].as_str().unwrap().contains("Too long"));
}

#[tokio::test]
async fn unknown_fields_are_dropped_with_a_warning_or_in_silence() {
    let world = World::new().await;
    let mut body = widget_named("a");
    body["spec"]["extra"] = json!(1);
    let answer = world.post(WIDGETS, &body).await;
    assert_eq!(answer.header("warning"), r#"299 - "unknown field \"spec.extra\"""#);
    assert_eq!(answer.expect(201)["spec"].get("extra"), None);
    body["metadata"]["name"] = json!("b");
    let answer = world.post(&format!("{WIDGETS}?fieldValidation=Ignore"), &body).await;
    assert_eq!((answer.status, answer.header("warning")), (StatusCode::CREATED, ""));
}

#[tokio::test]
async fn generation_counts_what_is_wanted_and_nothing_else() {
    let world = World::new().await;
    world.widget("web").await;
    let web = format!("{WIDGETS}/web");
    let generation = async |answer: Value| answer["metadata"]["generation"].as_i64().unwrap();
    let labelled = world.merge(&web, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(generation(labelled).await, 1);
    let sized = world.merge(&web, &json!({"spec": {"size": 2}, "status": {"phase": "Up"}})).await.expect(200);
    assert_eq!(sized.get("status"), None, "status cannot be written on the object itself");
    assert_eq!(generation(sized).await, 2);
    let status = json!({"spec": {"size": 9}, "metadata": {"labels": {"c": "d"}}, "status": {"phase": "Up"}});
    let reported = world.merge(&format!("{web}/status"), &status).await.expect(200);
    assert_eq!(reported["spec"]["size"], 2, "nothing but status is written through /status");
    assert_eq!(reported["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(reported["status"]["phase"], "Up");
    assert_eq!(generation(reported.clone()).await, 2);
    let mut replaced = reported.clone();
    replaced["status"]["phase"] = json!("Down");
    replaced["spec"]["size"] = json!(3);
    let replaced = world.put(&web, &replaced).await.expect(200);
    assert_eq!((&replaced["status"]["phase"], &replaced["spec"]["size"]), (&json!("Up"), &json!(3)));
    assert_eq!(generation(replaced).await, 3);
}

#[tokio::test]
async fn a_write_that_changes_nothing_is_not_one() {
    let world = World::new().await;
    let stored = world.widget("web").await;
    let revision = world.store.revision();
    let web = format!("{WIDGETS}/web");
    assert_eq!(world.merge(&web, &json!({"spec": {"size": 1}})).await.expect(200), stored);
    assert_eq!(world.put(&web, &stored).await.expect(200), stored);
    let mut bare = widget_named("web");
    bare["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
    assert_eq!(world.put(&web, &bare).await.expect(200), stored, "what is left out is defaulted again");
    assert_eq!(
        world
            .json_patch(&web, &json!([{"op": "test", "path": "/metadata/finalizers", "value": null}]))
            .await
            .expect(200),
        stored
    );
    assert_eq!(world.store.revision(), revision);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let world = World::new().await;
    let revision = world.store.revision();
    let all = format!("{WIDGETS}?dryRun=All");
    let would = world.post(&all, &widget_named("web")).await.expect(201);
    assert_eq!(would["metadata"].get("resourceVersion"), None);
    assert!(would["metadata"]["uid"].is_string() && would["metadata"]["creationTimestamp"].is_string());
    assert_eq!(world.store.revision(), revision);
    let stored = world.widget("web").await;
    let kept = |mut object: Value| {
        for field in ["uid", "creationTimestamp", "resourceVersion"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        for entry in object["metadata"]["managedFields"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().remove("time").expect("an entry has a time");
        }
        object
    };
    assert_eq!(kept(would), kept(stored.clone()), "a dry run shows what a get shows later");
    world.post(&all, &widget_named("web")).await.expect(409);
    let web = format!("{WIDGETS}/web?dryRun=All");
    let would = world.merge(&web, &json!({"spec": {"size": 4}})).await.expect(200);
    assert_eq!((&would["spec"]["size"], &would["metadata"]["generation"]), (&json!(4), &json!(2)));
    world.merge(&web, &json!({"spec": {"size": -4}})).await.expect(422);
    assert_eq!(world.delete(&web, &Value::Null).await.expect(200)["status"], "Success");
    world.delete(&format!("{WIDGETS}/web"), &json!({"dryRun": ["All"]})).await.expect(200);
    assert_eq!(world.get(&format!("{WIDGETS}/web")).await.expect(200), stored);
}

#[tokio::test]
async fn deletion_without_and_with_finalizers() {
    let world = World::new().await;
    let stored = world.widget("web").await;
    let web = format!("{WIDGETS}/web");
    let gone = world.delete(&web, &json!({"propagationPolicy": "Background"})).await.expect(200);
    assert_eq!(
        gone,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
               "details": {"name": "web", "group": "example.dev", "kind": "widgets", "uid": stored["metadata"]["uid"]}})
    );
    world.get(&web).await.expect(404);

    let again = world.widget("web").await;
    assert_ne!(again["metadata"]["uid"], stored["metadata"]["uid"]);
    world.merge(&web, &json!({"metadata": {"finalizers": ["example.dev/hold"]}})).await.expect(200);
    let marked = world.delete(&web, &Value::Null).await.expect(200);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(marked["metadata"]["generation"], 2);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(world.delete(&web, &Value::Null).await.expect(200), marked, "deleting again changes nothing");
    let more = json!({"metadata": {"finalizers": ["example.dev/hold", "example.dev/more"]}});
    assert!(world.merge(&web, &more).await.expect(422)["message"].as_str().unwrap().contains("no new finalizers"));
    let kept = world.merge(&web, &json!({"metadata": {"deletionTimestamp": null}})).await.expect(200);
    assert_eq!(kept["metadata"]["deletionTimestamp"], marked["metadata"]["deletionTimestamp"]);
    world.merge(&web, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    world.get(&web).await.expect(404);
}

#[tokio::test]
async fn a_json_patch_adds_the_first_finalizer_as_kube_rs_does() {
    let world = World::new().await;
    world.widget("web").await;
    let patch = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["example.dev/hold"]}
    ]);
    let web = format!("{WIDGETS}/web");
    assert_eq!(world.json_patch(&web, &patch).await.expect(200)["metadata"]["finalizers"], json!(["example.dev/hold"]));
    world.json_patch(&web, &patch).await.expect(422);
}

#[tokio::test]
async fn scale_is_a_window_on_two_fields() {
    let world = World::new().await;
    let stored = world.widget("web").await;
    let scale = format!("{WIDGETS}/web/scale");
    let status = json!({"status": {"replicas": 1, "selector": "app=web"}});
    world.merge(&format!("{WIDGETS}/web/status"), &status).await.expect(200);
    let read = world.get(&scale).await.expect(200);
    assert_eq!((&read["kind"], &read["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&read["spec"], &read["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 1, "selector": "app=web"}))
    );
    assert_eq!(read["metadata"]["uid"], stored["metadata"]["uid"]);
    assert_eq!(world.merge(&scale, &json!({"spec": {"replicas": 2}})).await.expect(200)["spec"]["replicas"], 2);
    let changed = world.get(&format!("{WIDGETS}/web")).await.expect(200);
    assert_eq!((&changed["spec"]["replicas"], &changed["metadata"]["generation"]), (&json!(2), &json!(2)));
    world.put(&scale, &read).await.expect(409);
    let mut fresh = world.get(&scale).await.expect(200);
    fresh["spec"]["replicas"] = json!(5);
    assert_eq!(world.put(&scale, &fresh).await.expect(200)["spec"]["replicas"], 5);
    world.merge(&scale, &json!({"spec": {"replicas": -2}})).await.expect(422);
    world.merge(&scale, &json!({"spec": {"replicas": "many"}})).await.expect(422);
}

#[tokio::test]
async fn concurrent_patches_are_all_carried_out() {
    let world = World::new().await;
    world.widget("web").await;
    let web = format!("{WIDGETS}/web");
    let patches = (0..4).map(|n| {
        let patch = json!({"metadata": {"labels": {format!("n{n}"): "x"}}});
        let (world, web) = (&world, &web);
        async move { world.merge(web, &patch).await.expect(200) }
    });
    futures::future::join_all(patches).await;
    let labels = world.get(&web).await.expect(200)["metadata"]["labels"].clone();
    assert_eq!(labels.as_object().unwrap().len(), 4, "{labels}");
}

#[tokio::test]
async fn malformed_metadata_is_refused_and_never_our_fault() {
    let world = World::new().await;
    world.widget("web").await;
    let mut wrong = Vec::new();
    for metadata in [
        json!(5),
        json!([]),
        json!({"name": 5}),
        json!({"name": "x", "namespace": 5}),
        json!({"name": "x", "labels": 5}),
        json!({"name": "x", "labels": {"a": 5}}),
        json!({"name": "x", "labels": {"a": {}}}),
        json!({"name": "x", "labels": {"a b": "c"}}),
        json!({"name": "x", "annotations": ["a"]}),
        json!({"name": "x", "annotations": {"a": true}}),
        json!({"name": "x", "annotations": {"a": "x".repeat(300 * 1024)}}),
        json!({"name": "x", "finalizers": "a"}),
        json!({"name": "x", "finalizers": [5]}),
        json!({"name": "x", "finalizers": ["no-slash or space"]}),
        json!({"name": "x", "ownerReferences": {"a": 1}}),
        json!({"name": "x", "ownerReferences": [5]}),
        json!({"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "a"}]}),
        json!({"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": 7}]}),
        json!({"name": "x", "ownerReferences": [{"apiVersion": "v1", "kind": "Secret", "name": "a", "uid": "u", "controller": "yes"}]}),
        json!({"name": "x".repeat(254)}),
        json!({"name": "x/y"}),
        json!({"name": ""}),
    ] {
        let mut body = widget_named("x");
        body["metadata"] = metadata.clone();
        let created = world.post(WIDGETS, &body).await;
        if !matches!(created.status.as_u16(), 400 | 422) {
            wrong.push(format!("create {metadata}: {}", created.text));
        }
        let patched = world.merge(&format!("{WIDGETS}/web"), &json!({"metadata": metadata})).await;
        if !matches!(patched.status.as_u16(), 200 | 400 | 422) {
            wrong.push(format!("patch {metadata}: {}", patched.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let answer = world.post(WIDGETS, &json!({"metadata": {"name": "deep"}, "spec": {"size": 1.5}})).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    let nested = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let answer = world.send("POST", WIDGETS, &[], nested).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
}

/// Whoever names no state wins in the end, however many write the same object.
#[tokio::test]
async fn writes_that_name_no_revision_do_not_conflict() {
    let world = World::new().await;
    world.widget("w").await;
    let patches = (0..40).map(|number| {
        let world = &world;
        async move {
            let labels = json!({"metadata": {"labels": {format!("l{number}"): "x"}}});
            world.merge(&format!("{WIDGETS}/w"), &labels).await.status.as_u16()
        }
    });
    let statuses = futures::future::join_all(patches).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let labels = world.get(&format!("{WIDGETS}/w")).await.expect(200)["metadata"]["labels"].clone();
    assert_eq!(labels.as_object().unwrap().len(), 40);
}

#[tokio::test]
async fn a_put_of_a_custom_kind_says_which_state_it_replaces() {
    let world = World::new().await;
    world.widget("w").await;
    for revision in [Value::Null, json!(""), json!("0")] {
        let mut body = widget_named("w");
        body["metadata"]["resourceVersion"] = revision;
        let refused = world.put(&format!("{WIDGETS}/w"), &body).await.expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], "metadata.resourceVersion");
    }
    let core = json!({"metadata": {"name": "c"}, "data": {"a": "b"}});
    world.post("/api/v1/namespaces/default/configmaps", &core).await.expect(201);
    world.put("/api/v1/namespaces/default/configmaps/c", &core).await.expect(200);
}

/// What tools that do not know a kind send along.
#[tokio::test]
async fn a_namespace_of_what_has_none_is_dropped() {
    let world = World::new().await;
    let gadget = json!({"metadata": {"name": "g", "namespace": "shop"}});
    let made = world.post("/apis/example.dev/v1/gadgets", &gadget).await.expect(201);
    assert_eq!(made["metadata"].get("namespace"), None);
}

#[tokio::test]
async fn namespaces_are_deleted_one_by_one() {
    let world = World::new().await;
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "a"}})).await.expect(201);
    world.send("DELETE", "/api/v1/namespaces", &[], "").await.expect(405);
    assert_eq!(world.get("/api/v1/namespaces/a").await.expect(200)["status"]["phase"], "Active");
}

#[tokio::test]
async fn owners_and_finalizers_merge_and_may_stand_twice() {
    let world = World::new().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid});
    let map = json!({"metadata": {"name": "c", "finalizers": ["a.dev/x", "a.dev/x"], "ownerReferences": [owner("1"), owner("1"), owner("2")]}});
    let answer = world.post(&format!("{maps}?dryRun=All"), &map).await;
    assert!(answer.header("warning").contains("duplicate UID(s) observed: 1"), "{:?}", answer.headers);
    assert_eq!(answer.expect(201)["metadata"]["ownerReferences"], json!([owner("1"), owner("2")]));
    let map = json!({"metadata": {"name": "c", "finalizers": ["a.dev/x"]}});
    world.post(maps, &map).await.expect(201);
    let patch = json!({"metadata": {"finalizers": ["b.dev/y"]}});
    let strategic = ["Content-Type: application/strategic-merge-patch+json"];
    let path = format!("{maps}/c");
    let patched = world.send("PATCH", &path, &strategic, patch.to_string()).await.expect(200);
    assert_eq!(patched["metadata"]["finalizers"], json!(["a.dev/x", "b.dev/y"]));
    let clean = json!({"metadata": {"finalizers": null}});
    world.merge(&path, &clean).await.expect(200);
}

#[tokio::test]
async fn small_courtesies() {
    let world = World::new().await;
    let waits = json!({"metadata": {"name": "w", "finalizers": ["a.dev/x"]}, "spec": {"size": 1}});
    world.post(WIDGETS, &waits).await.expect(201);
    let path = format!("{WIDGETS}/w");
    // A key that stands twice is told in a patch too.
    let twice = r#"{"spec": {"size": 1, "size": 2}}"#;
    let merge = ["Content-Type: application/merge-patch+json"];
    let told = world.send("PATCH", &path, &merge, twice).await;
    assert!(told.header("warning").contains("duplicate field"), "{:?}", told.headers);
    world.send("PATCH", &format!("{path}?fieldValidation=Strict"), &merge, twice).await.expect(422);
    // A field may have any name.
    let odd = world.send("PATCH", &path, &merge, r#"{"spec": {"größe": 1}}"#).await;
    assert!(odd.headers.get("warning").unwrap().as_bytes().windows(2).any(|two| two == "ö".as_bytes()));
    // An old client's grace period, and a name that is not free yet.
    world.send("DELETE", &path, &[], r#"{"gracePeriodSeconds": -1}"#).await.expect(200);
    let taken = world.post(WIDGETS, &waits).await.expect(409);
    assert!(taken["message"].as_str().unwrap().starts_with("object is being deleted: widgets"), "{taken}");
    world.merge(&path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
}
