//! Server-side apply and field ownership over HTTP.

use serde_json::{Value, json};

use crate::world::{Answer, WIDGETS, World, widget_named};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const APPLY: &str = "Content-Type: application/apply-patch+yaml";

/// Applies to `path`, which may have a query already.
async fn apply(world: &World, path: &str, manager: &str, body: &Value) -> Answer {
    let mark = if path.contains('?') { '&' } else { '?' };
    world.send("PATCH", &format!("{path}{mark}fieldManager={manager}"), &[APPLY], body.to_string()).await
}

fn web() -> String {
    format!("{WIDGETS}/web")
}

fn widget(spec: &Value) -> Value {
    json!({"apiVersion": "example.dev/v1", "kind": "Widget", "metadata": {"name": "web"}, "spec": spec})
}

/// `manager operation subresource: fields`, a line each.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let line = |entry: &Value| {
        let text = |name: &str| entry[name].as_str().unwrap_or("").to_owned();
        assert_eq!(text("fieldsType"), "FieldsV1");
        assert!(!text("time").is_empty() && !text("apiVersion").is_empty(), "{entry}");
        format!("{} {} {}: {}", text("manager"), text("operation"), text("subresource"), entry["fieldsV1"])
    };
    entries.iter().map(line).collect()
}

#[track_caller]
fn assert_owner(object: &Value, line: &str) {
    let owners = owners(object);
    assert!(owners.iter().any(|owner| owner == line), "{line} is not in {owners:#?}");
}

fn revision(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or("")
}

#[tokio::test]
async fn applying_makes_changes_and_removes() {
    let world = World::new().await;
    let first = widget(&json!({"size": 1, "parts": [{"name": "a"}]}));
    let made = apply(&world, &web(), "ada", &first).await.expect(201);
    assert_eq!(made["spec"], json!({"size": 1, "parts": [{"name": "a"}], "colour": "red", "replicas": 1}));
    assert_eq!(owners(&made), [r#"ada Apply : {"f:spec":{"f:parts":{},"f:size":{}}}"#]);
    // Again is nothing, not even a revision.
    let again = apply(&world, &web(), "ada", &first).await.expect(200);
    assert_eq!(again, made);
    let changed = apply(&world, &web(), "ada", &widget(&json!({"size": 2, "colour": "green"}))).await.expect(200);
    assert_eq!(changed["spec"], json!({"size": 2, "colour": "green", "replicas": 1}));
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(owners(&changed), [r#"ada Apply : {"f:spec":{"f:colour":{},"f:size":{}}}"#]);
    // What is no longer applied gets its default again.
    let less = apply(&world, &web(), "ada", &widget(&json!({"size": 2}))).await.expect(200);
    assert_eq!(less["spec"], json!({"size": 2, "colour": "red", "replicas": 1}));
}

#[tokio::test]
async fn others_are_asked_before_what_they_own_is_changed() {
    let world = World::new().await;
    apply(&world, &web(), "ada", &widget(&json!({"size": 1, "colour": "green"}))).await.expect(201);
    let shared = apply(&world, &web(), "bob", &widget(&json!({"size": 1}))).await.expect(200);
    assert_eq!(owners(&shared).len(), 2, "the same value is no conflict");
    let refused = apply(&world, &web(), "eve", &widget(&json!({"size": 3}))).await.expect(409);
    assert_eq!(refused["reason"], "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 2 conflicts: conflicts with \"ada\":\n- .spec.size\nconflicts with \"bob\":\n- .spec.size"
    );
    assert_eq!(
        refused["details"],
        json!({"causes": [
            {"reason": "FieldManagerConflict", "message": "conflict with \"ada\"", "field": ".spec.size"},
            {"reason": "FieldManagerConflict", "message": "conflict with \"bob\"", "field": ".spec.size"},
        ]})
    );
    let forced = apply(&world, &format!("{}?force=true", web()), "eve", &widget(&json!({"size": 3}))).await.expect(200);
    assert_eq!(forced["spec"]["size"], 3);
    assert_eq!(
        owners(&forced),
        [r#"ada Apply : {"f:spec":{"f:colour":{}}}"#, r#"eve Apply : {"f:spec":{"f:size":{}}}"#]
    );
    // A dry run conflicts too, and changes nothing.
    apply(&world, &format!("{}?dryRun=All", web()), "bob", &widget(&json!({"size": 9}))).await.expect(409);
    assert_eq!(world.get(&web()).await.expect(200), forced);
}

#[tokio::test]
async fn every_way_of_writing_is_remembered() {
    let world = World::new().await;
    let agent = "User-Agent: tool/v1.2 (linux)";
    let made = world.send("POST", WIDGETS, &[agent], widget_named("web").to_string()).await.expect(201);
    assert_eq!(
        owners(&made),
        [r#"tool Update : {"f:spec":{".":{},"f:colour":{},"f:replicas":{},"f:size":{}}}"#],
        "who creates owns the defaults too"
    );
    let merge = "Content-Type: application/merge-patch+json";
    let patch = json!({"spec": {"size": 2}}).to_string();
    let patched = world.send("PATCH", &format!("{}?fieldManager=merger", web()), &[merge], patch).await.expect(200);
    assert_owner(&patched, r#"merger Update : {"f:spec":{"f:size":{}}}"#);
    let mut whole = patched.clone();
    whole["metadata"]["labels"] = json!({"a": "b"});
    whole["status"] = json!({"phase": "ignored here"});
    let put = world.put(&format!("{}?fieldManager=putter", web()), &whole).await.expect(200);
    assert_owner(&put, r#"putter Update : {"f:metadata":{"f:labels":{".":{},"f:a":{}}}}"#);
    let json_patch = json!([{"op": "replace", "path": "/spec/colour", "value": "green"}]);
    let patched = world.json_patch(&format!("{}?fieldManager=patcher", web()), &json_patch).await.expect(200);
    assert_owner(&patched, r#"patcher Update : {"f:spec":{"f:colour":{}}}"#);
    let status = json!({"metadata": {"labels": {"not": "here"}}, "status": {"phase": "Up"}});
    let path = format!("{}/status?fieldManager=reporter", web());
    let reported = world.merge(&path, &status).await.expect(200);
    assert_owner(&reported, r#"reporter Update status: {"f:status":{".":{},"f:phase":{}}}"#);
    world.merge(&format!("{}/scale?fieldManager=scaler", web()), &json!({"spec": {"replicas": 4}})).await.expect(200);
    let scaled = world.get(&web()).await.expect(200);
    assert_owner(&scaled, r#"scaler Update scale: {"f:spec":{"f:replicas":{}}}"#);
    assert!(!owners(&scaled).iter().any(|owner| owner.starts_with("tool") && owner.contains("replicas")), "{scaled}");
    let strategic = "Content-Type: application/strategic-merge-patch+json";
    world.post(CONFIG_MAPS, &json!({"metadata": {"name": "c"}, "data": {"a": "1"}})).await.expect(201);
    let patch = json!({"data": {"b": "2"}}).to_string();
    let path = format!("{CONFIG_MAPS}/c?fieldManager=strategist");
    let patched = world.send("PATCH", &path, &[strategic], patch).await.expect(200);
    assert_owner(&patched, r#"strategist Update : {"f:data":{"f:b":{}}}"#);
    assert!(owners(&patched).iter().any(|owner| owner.starts_with("unknown Update")), "{patched}");
    // A change of nothing by somebody new is no change.
    let before = world.get(&web()).await.expect(200);
    let same = world.merge(&format!("{}?fieldManager=idle", web()), &json!({"spec": {"size": 2}})).await.expect(200);
    assert_eq!(same, before);
}

#[tokio::test]
async fn what_is_applied_must_say_what_it_is_and_who_applies_it() {
    let world = World::new().await;
    let good = widget(&json!({"size": 1}));
    let nobody = world.send("PATCH", &web(), &[APPLY], good.to_string()).await.expect(422);
    assert_eq!(
        nobody["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let message =
        async |body: Value, status| apply(&world, &web(), "ada", &body).await.expect(status)["message"].clone();
    let with = |pointer: &str, value: Value| {
        let mut body = good.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[name] = value;
        body
    };
    assert_eq!(message(with("/metadata/managedFields", json!([])), 400).await, "metadata.managedFields must be nil");
    assert_eq!(message(with("/kind", json!("Gadget")), 400).await, "invalid object type: example.dev/v1, Kind=Gadget");
    assert_eq!(message(json!({"metadata": {"name": "web"}}), 400).await, "invalid object type: /, Kind=");
    assert!(message(with("/metadata/name", json!("other")), 400).await.as_str().unwrap().contains("does not match"));
    assert_eq!(
        message(with("/metadata/uid", json!("1-2-3")), 409).await,
        "Operation cannot be fulfilled on widgets.example.dev \"web\": uid mismatch: the provided object specified uid 1-2-3, and no existing object was found"
    );
    assert!(message(json!("text"), 400).await.as_str().unwrap().starts_with("error decoding YAML: "));
    assert_eq!(
        message(with("/spec/size", json!("large")), 400).await,
        "failed to create typed patch object (default/web; example.dev/v1, Kind=Widget): .spec.size: expected numeric (int or float), got string",
        "and not 422, at which Flux deletes and makes anew what it may force"
    );
    assert_eq!(world.get(&web()).await.status, 404);
    // There is no part of what is not there.
    apply(&world, &format!("{}/status", web()), "ada", &good).await.expect(404);
    apply(&world, &web(), "ada", &good).await.expect(201);
    apply(&world, &web(), "ada", &with("/metadata/resourceVersion", json!("1"))).await.expect(409);
    apply(&world, &web(), "ada", &with("/metadata/uid", json!("1-2-3"))).await.expect(409);
    let elsewhere = "/apis/example.dev/v1/namespaces/nowhere/widgets/web";
    let missing = apply(&world, elsewhere, "ada", &good).await.expect(404);
    assert_eq!(missing["message"], "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn unknown_and_double_fields_are_met_as_asked() {
    let world = World::new().await;
    let body = widget(&json!({"size": 1, "sise": 2}));
    let strict = apply(&world, &format!("{}?fieldValidation=Strict", web()), "ada", &body).await.expect(400);
    assert_eq!(
        strict["message"],
        "failed to create typed patch object (default/web; example.dev/v1, Kind=Widget): .spec.sise: field not declared in schema"
    );
    let warned = apply(&world, &web(), "ada", &body).await;
    assert_eq!(warned.header("warning"), r#"299 - "unknown field \"spec.sise\"""#);
    assert_eq!(owners(&warned.expect(201)), [r#"ada Apply : {"f:spec":{"f:size":{}}}"#]);
    let ignored = apply(&world, &format!("{}?fieldValidation=Ignore", web()), "ada", &body).await;
    assert_eq!(ignored.header("warning"), "");
    ignored.expect(200);
    let double = "apiVersion: example.dev/v1\nkind: Widget\nmetadata: {name: web}\nspec:\n  size: 1\n  size: 2\n";
    let path = format!("{}?fieldManager=ada&fieldValidation=Strict", web());
    let strict = world.send("PATCH", &path, &[APPLY], double).await.expect(400);
    assert_eq!(strict["message"], "error strict decoding YAML: duplicate field \"spec.size\"");
    let yaml = world.send("PATCH", &format!("{}?fieldManager=ada", web()), &[APPLY], double).await;
    assert_eq!(yaml.header("warning"), r#"299 - "duplicate field \"spec.size\"""#);
    assert_eq!(yaml.expect(200)["spec"]["size"], 2);
}

#[tokio::test]
async fn parts_of_objects_are_applied_through_their_addresses() {
    let world = World::new().await;
    apply(&world, &web(), "ada", &widget(&json!({"size": 1, "replicas": 2}))).await.expect(201);
    let mut report = widget(&json!({"size": 7}));
    report["status"] = json!({"phase": "Up"});
    let reported = apply(&world, &format!("{}/status", web()), "reporter", &report).await.expect(200);
    assert_eq!((&reported["spec"]["size"], &reported["status"]), (&json!(1), &json!({"phase": "Up"})));
    assert_owner(&reported, r#"reporter Apply status: {"f:status":{"f:phase":{}}}"#);
    // On the object itself, status is not applied and not owned.
    let mut both = report.clone();
    both["spec"] = json!({"size": 1});
    both["status"]["phase"] = json!("Down");
    let both = apply(&world, &web(), "eve", &both).await.expect(200);
    assert_eq!(both["status"], json!({"phase": "Up"}));
    assert_owner(&both, r#"eve Apply : {"f:spec":{"f:size":{}}}"#);
    report["status"] = json!({});
    let silent = apply(&world, &format!("{}/status", web()), "reporter", &report).await.expect(200);
    assert_eq!(silent["status"], json!({}));

    let scale = |replicas: Value| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": replicas}});
    let path = format!("{}/scale", web());
    let refused = apply(&world, &path, "scaler", &scale(json!(5))).await.expect(409);
    assert_eq!(refused["message"], "Apply failed with 1 conflict: conflict with \"ada\": .spec.replicas");
    let scaled = apply(&world, &format!("{path}?force=true"), "scaler", &scale(json!(5))).await.expect(200);
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    let scaled = world.get(&web()).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 5);
    assert_owner(&scaled, r#"scaler Apply scale: {"f:spec":{"f:replicas":{}}}"#);
    apply(&world, &path, "scaler", &scale(json!(-1))).await.expect(422);
    apply(&world, &path, "scaler", &widget(&json!({"replicas": 3}))).await.expect(400);
}

#[tokio::test]
async fn entries_can_be_cleaned_up_by_clients() {
    let world = World::new().await;
    let made = world.widget("web").await;
    let replace = |value: Value| json!([{"op": "replace", "path": "/metadata/managedFields", "value": value}]);
    // Flux hands the entries of one manager to another like this.
    let mut entries = made["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("flux");
    entries[0]["operation"] = json!("Apply");
    let handed = world.json_patch(&web(), &replace(entries)).await.expect(200);
    assert!(owners(&handed)[0].starts_with("flux Apply : "), "{handed}");
    assert_ne!(revision(&handed), revision(&made));
    // Leaving them out keeps them.
    let mut without = handed.clone();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(world.put(&web(), &without).await.expect(200), handed);
    // A part of the object cannot change them.
    let status = json!({"metadata": {"managedFields": [{}]}, "status": {"phase": "Up"}});
    let reported = world.merge(&format!("{}/status", web()), &status).await.expect(200);
    assert_eq!(owners(&reported).len(), 2, "{reported}");
    let removed = world.merge(&web(), &json!({"metadata": {"managedFields": [{}]}})).await.expect(200);
    assert_eq!(removed["metadata"].get("managedFields"), None);
    let changed = world.merge(&web(), &json!({"spec": {"size": 5}})).await.expect(200);
    assert_eq!(changed["metadata"].get("managedFields"), None, "nobody asked for them again");
    let refused = apply(&world, &web(), "ada", &widget(&json!({"size": 6}))).await.expect(409);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("conflict with \"before-first-apply\" using example.dev/v1 at 20"), "{message}");
    assert!(message.ends_with("Z: .spec.size"), "{message}");
}

#[tokio::test]
async fn core_kinds_are_applied_by_their_types() {
    let world = World::new().await;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}});
    let made = apply(&world, "/api/v1/namespaces/shop", "ada", &namespace).await.expect(201);
    assert_eq!(made["status"]["phase"], "Active");
    assert!(!owners(&made)[0].contains("f:status") && !owners(&made)[0].contains("f:spec"), "{made}");
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": value}});
    let path = "/api/v1/namespaces/shop/secrets/s";
    let made = apply(&world, path, "ada", &secret("a")).await.expect(201);
    assert_eq!(made["data"], json!({"key": "YQ=="}));
    assert_eq!(owners(&made), [r#"ada Apply : {"f:data":{"f:key":{}}}"#]);
    apply(&world, path, "bob", &secret("b")).await.expect(409);
    let mut none = secret("a");
    none.as_object_mut().unwrap().remove("stringData");
    let emptied = apply(&world, path, "ada", &none).await.expect(200);
    assert!(emptied.get("data").is_none_or(|data| data == &json!({})), "{emptied}");
    let owner = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s",
        "finalizers": ["example.dev/hold"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "6d6d2f38-5b4c-4b8c-9d3c-2f8f0d4f3b11"}]}});
    let bound = apply(&world, path, "binder", &owner).await.expect(200);
    assert!(owners(&bound).iter().any(|line| line.contains(r#""v:\"example.dev/hold\"":{}"#)), "{bound}");
    let freed = apply(&world, path, "binder", &none).await.expect(200);
    assert!(
        freed["metadata"].get("finalizers").is_none() && freed["metadata"].get("ownerReferences").is_none(),
        "{freed}"
    );
}

/// What Flux compares: everything but status and what the server notes in metadata.
fn without_noise(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove("status");
    for name in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"] {
        object["metadata"].as_object_mut().unwrap().remove(name);
    }
    object
}

#[tokio::test]
async fn a_dry_run_shows_what_a_later_get_shows() {
    let world = World::new().await;
    let objects = [
        (web(), widget(&json!({"size": 1, "parts": [], "colour": null}))),
        (
            format!("{CONFIG_MAPS}/c"),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {}, "creationTimestamp": null},
                   "data": {"a": "1"}, "binaryData": {}}),
        ),
        (
            "/api/v1/namespaces/default/secrets/s".to_owned(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "1"}, "type": ""}),
        ),
        (
            "/apis/example.dev/v1/gadgets/g".to_owned(),
            json!({"apiVersion": "example.dev/v1", "kind": "Gadget", "metadata": {"name": "g"}, "any": {"thing": [1, {"a": {}}], "no": null}}),
        ),
    ];
    for (path, object) in objects {
        let dry = format!("{path}?dryRun=All&force=true");
        let would = apply(&world, &dry, "flux", &object).await.expect(201);
        assert_eq!(revision(&would), "", "nothing is there yet");
        assert_eq!(world.get(&path).await.status, 404);
        let made = apply(&world, &format!("{path}?force=true"), "flux", &object).await.expect(201);
        assert_eq!(without_noise(&would), without_noise(&made));
        let would = apply(&world, &dry, "flux", &object).await.expect(200);
        let found = world.get(&path).await.expect(200);
        assert_eq!(found, made);
        assert_eq!(would, found, "applied already: nothing would change");
        // Somebody else adds something: the dry run has it too.
        world.merge(&path, &json!({"metadata": {"annotations": {"other": "one"}}})).await.expect(200);
        let would = apply(&world, &dry, "flux", &object).await.expect(200);
        assert_eq!(would, world.get(&path).await.expect(200));
    }
}

#[tokio::test]
async fn clients_learn_that_they_can_apply() {
    let world = World::new().await;
    let document = world.get("/openapi/v3/apis/example.dev/v1").await.expect(200);
    for path in ["", "/status", "/scale"] {
        let patch = &document["paths"][format!("/apis/example.dev/v1/namespaces/{{namespace}}/widgets/{{name}}{path}")]
            ["patch"];
        assert!(patch["requestBody"]["content"]["application/apply-patch+yaml"].is_object(), "{path}: {patch}");
        for parameter in ["fieldManager", "force", "fieldValidation", "dryRun"] {
            assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == parameter), "{parameter}");
        }
    }
    let core = world.get("/openapi/v3/api/v1").await.expect(200);
    let metadata = &core["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"]["properties"];
    assert_eq!(metadata["finalizers"]["x-kubernetes-list-type"], "set");
    assert_eq!(metadata["ownerReferences"]["x-kubernetes-list-map-keys"], json!(["uid"]));
    let answer = world.send("PATCH", &web(), &["Content-Type: text/plain"], "x").await.expect(415);
    assert!(answer["message"].as_str().unwrap().contains("application/apply-patch+yaml"), "{answer}");
}
