//! Who may ask, discovery, OpenAPI, health, reviews, admission hooks, panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use apiserver::admission::{Admission, Operation, Request};
use apiserver::kind::{FieldError, FieldErrorReason};
use apiserver::store::{Key, NewToken, Write};
use axum::body::Body;
use axum::routing::get;
use axum::{Extension, Router};
use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{WIDGETS, World, eventually, widget_named};

const NOTHING: &[&str] = &[];

#[tokio::test]
async fn only_public_paths_are_open_to_strangers() {
    let world = World::new().await;
    for path in ["/version", "/livez", "/readyz", "/healthz"] {
        assert_eq!(world.send_as_is("GET", path, NOTHING, "").await.status, 200, "{path}");
    }
    for path in ["/api", "/apis", "/metrics", "/openapi/v3", WIDGETS, "/nonsense"] {
        for headers in
            [NOTHING, &["Authorization: Bearer wrong"], &["Authorization: Basic YTpi"], &["Authorization: Bearer "]]
        {
            let answer = world.send_as_is("GET", path, headers, "").await;
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{path}");
            assert_eq!(answer.expect(401)["reason"], "Unauthorized");
        }
    }
}

#[tokio::test]
async fn who_has_no_role_may_nothing_but_ask() {
    let world = World::new().await;
    let new = NewToken { user: "eve".into(), groups: vec!["people".into()], ..NewToken::default() };
    let (token, made) = world.store.tokens().create(new).await.unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let answer = world.send_as_is("GET", WIDGETS, &[&bearer], "").await.expect(403);
    assert_eq!(
        answer["message"],
        r#"widgets.example.dev is forbidden: User "eve" cannot list resource "widgets" in API group "example.dev" in the namespace "default""#
    );
    assert_eq!(answer["details"], json!({"group": "example.dev", "kind": "widgets"}));
    for (method, path) in [
        ("POST", WIDGETS.to_owned()),
        ("PUT", format!("{WIDGETS}/a")),
        ("PATCH", format!("{WIDGETS}/a/status")),
        ("DELETE", format!("{WIDGETS}/a")),
        ("DELETE", WIDGETS.to_owned()),
        ("GET", format!("{WIDGETS}/a/scale")),
        ("GET", format!("{WIDGETS}?watch=true")),
        ("GET", "/api/v1/namespaces/default/secrets/a".to_owned()),
        ("GET", "/metrics".to_owned()),
    ] {
        let body = widget_named("a").to_string();
        assert_eq!(world.send_as_is(method, &path, &[&bearer], body).await.status, 403, "{method} {path}");
    }
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let answer = world.send_as_is("POST", me, &[&bearer], "{}").await.expect(201);
    assert_eq!(answer["status"]["userInfo"], json!({"username": "eve", "groups": ["people", "system:authenticated"]}));
    let may = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let question =
        json!({"spec": {"resourceAttributes": {"verb": "get", "group": "example.dev", "resource": "widgets"}}});
    assert_eq!(
        world.send_as_is("POST", may, &[&bearer], question.to_string()).await.expect(201)["status"]["allowed"],
        false
    );
    assert_eq!(world.post(may, &question).await.expect(201)["status"]["allowed"], true);
    let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let question = json!({"spec": {"namespace": "default"}});
    let answer = world.send_as_is("POST", rules, &[&bearer], question.to_string()).await.expect(201);
    let verbs: Vec<&serde_json::Value> =
        answer["status"]["resourceRules"].as_array().unwrap().iter().map(|rule| &rule["verbs"]).collect();
    assert_eq!(verbs, [&json!(["create"]), &json!(["create"])], "reviews are all there is: {answer}");
    assert_eq!(world.post(rules, &question).await.expect(201)["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    world.post(may, &json!({"spec": {}})).await.expect(422);
    assert_eq!(world.get(may).await.status, 405);

    world.store.tokens().revoke(&made.id).await.unwrap();
    world.send_as_is("GET", "/api", &[&bearer], "").await.expect(401);
}

#[tokio::test]
async fn discovery_comes_in_both_forms_and_is_cached() {
    let world = World::new().await;
    let plain = world.get("/apis").await.expect(200);
    assert_eq!(plain["kind"], "APIGroupList");
    let resources = world.get("/apis/example.dev/v1").await.expect(200);
    let names: Vec<&str> =
        resources["resources"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert!(
        ["widgets", "widgets/status", "widgets/scale", "gadgets"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    assert_eq!(world.get("/api").await.expect(200)["versions"], json!(["v1"]));
    world.get("/apis/nowhere.dev").await.expect(404);
    world.get("/apis/example.dev/v9").await.expect(404);
    let accept = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for path in ["/api", "/apis"] {
        let answer = world.send("GET", path, &[accept], "").await;
        assert_eq!(
            answer.header("content-type"),
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
        );
        assert_eq!(answer.header("vary"), "Accept");
        let etag = format!("If-None-Match: {}", answer.header("etag"));
        assert_eq!(answer.expect(200)["kind"], "APIGroupDiscoveryList");
        assert_eq!(world.send("GET", path, &[accept, &etag], "").await.status, 304);
    }
}

#[tokio::test]
async fn openapi_documents_are_addressed_by_their_hash() {
    let world = World::new().await;
    let index = world.get("/openapi/v3").await.expect(200);
    let address = index["paths"]["apis/example.dev/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = world.get(address).await;
    assert!(document.header("cache-control").contains("immutable"));
    let etag = format!("If-None-Match: {}", document.header("etag"));
    let document = document.expect(200);
    let patch = &document["paths"]["/apis/example.dev/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Widget");
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert_eq!(world.send("GET", address, &[&etag], "").await.status, 304);
    let old = world.get("/openapi/v3/apis/example.dev/v1?hash=OLD").await;
    assert_eq!((old.status.as_u16(), old.header("location")), (301, address));
    world.get("/openapi/v3/apis/nowhere.dev/v1").await.expect(404);
}

#[tokio::test]
async fn the_old_openapi_comes_in_both_its_forms() {
    let world = World::new().await;
    let json = world.get("/openapi/v2").await;
    assert_eq!((json.header("content-type"), json.header("vary")), ("application/json", "Accept"));
    let etag = format!("If-None-Match: {}", json.header("etag"));
    let document = json.expect(200);
    assert_eq!(document["swagger"], "2.0");
    assert_eq!(
        document["definitions"]["dev.example.v1.Widget"]["x-kubernetes-group-version-kind"],
        json!([{"group": "example.dev", "version": "v1", "kind": "Widget"}])
    );
    assert_eq!(world.send("GET", "/openapi/v2", &[&etag], "").await.status, 304);
    for asked in ["spec.v2@v1.0", "spec.v2.v1.0"] {
        let accept = format!("Accept: application/com.github.proto-openapi.{asked}+protobuf");
        let answer = world.send("GET", "/openapi/v2?timeout=32s", &[&accept], "").await;
        assert_eq!(
            answer.header("content-type"),
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            "Go cannot read the other name"
        );
        assert!(answer.text.starts_with("\n\u{3}2.0\u{12}"), "field 1 is the version, field 2 the info");
        assert_ne!(format!("If-None-Match: {}", answer.header("etag")), etag);
    }
}

#[tokio::test]
async fn readiness_is_what_others_say() {
    let ready = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&ready);
    let world = World::with(move |builder| {
        builder.readiness(
            "leader",
            move || {
                if asked.load(Ordering::SeqCst) { Ok(()) } else { Err("no leader yet".into()) }
            },
        )
    })
    .await;
    let answer = world.get("/readyz").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text.contains("[-]leader failed: no leader yet"), "{}", answer.text);
    assert_eq!(world.get("/livez").await.text, "ok");
    assert_eq!(world.get("/readyz?exclude=leader").await.text, "ok");
    assert_eq!(world.get("/readyz/ping").await.text, "ok");
    assert_eq!(world.get("/readyz/leader").await.status, 500);
    world.get("/readyz/nobody").await.expect(404);
    ready.store(true, Ordering::SeqCst);
    assert_eq!(world.get("/readyz").await.text, "ok");
    assert_eq!(world.get("/readyz?verbose").await.text, "[+]ping ok\n[+]leader ok\nreadyz check passed\n");
}

/// Widgets may not be red while they are large, get a label, and stay while they are green; large ones panic.
struct Rules;

impl Admission for Rules {
    fn mutate(&self, request: &Request<'_>, new: &mut Value) {
        if request.kind.kind == "Widget" && request.subresource.is_none() {
            new["metadata"]["labels"]["seen"] = json!("yes");
        }
    }

    fn validate<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Vec<FieldError>> {
        Box::pin(async move {
            assert!(request.new.is_none_or(|new| new["spec"]["size"] != 99), "a panic on purpose");
            let green = request.old.is_some_and(|old| old["spec"]["colour"] == "green");
            if request.operation == Operation::Delete && green {
                let message = "it is green".to_owned();
                return vec![FieldError { field: String::new(), reason: FieldErrorReason::Forbidden, message }];
            }
            Vec::new()
        })
    }
}

#[tokio::test]
async fn hooks_judge_and_a_panic_stays_in_its_request() {
    let world = World::with(|builder| builder.admission(Arc::new(Rules))).await;
    let stored = world.widget("web").await;
    assert_eq!(stored["metadata"]["labels"]["seen"], "yes");
    let web = format!("{WIDGETS}/web");
    world.merge(&web, &json!({"spec": {"colour": "green"}})).await.expect(200);
    let refused = world.delete(&web, &Value::Null).await.expect(403);
    assert_eq!(refused["message"], r#"widgets.example.dev "web" is forbidden: it is green"#);
    let answer = world.merge(&web, &json!({"spec": {"size": 99}})).await.expect(500);
    assert_eq!(answer["reason"], "InternalError");
    world.get(&web).await.expect(200);
    assert!(world.get("/metrics").await.text.contains("apiserver_panics_total 1"));
}

#[tokio::test]
async fn routes_of_others_share_the_guard() {
    let world = World::new().await;
    let whoami = get(|Extension(identity): Extension<apiserver::Identity>| async move { identity.user });
    let router = world.server.router().merge(world.server.protect(Router::new().route("/api-of-others", whoami)));
    let ask = async |token: Option<&str>| {
        let mut request = http::Request::get("/api-of-others");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    assert_eq!(ask(Some(&world.token)).await, (200, "ada".to_owned()));
    assert_eq!(ask(None).await.0, 401);
}

#[tokio::test]
async fn an_audit_id_is_echoed() {
    let world = World::new().await;
    let answer = world.send("GET", "/version", &["Audit-Id: abc-1"], "").await;
    assert_eq!(answer.header("audit-id"), "abc-1");
    assert_eq!(answer.json()["major"], "1");
}

#[tokio::test]
async fn the_kinds_are_shown_as_definitions_that_nobody_writes() {
    let world = World::new().await;
    let all = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let one = format!("{all}/widgets.example.dev");
    eventually("the definitions", async || world.get(all).await.json()["items"].as_array().unwrap().len() == 2).await;
    let shown = world.get(&one).await.expect(200);
    let read: CustomResourceDefinition = serde_json::from_value(shown.clone()).unwrap();
    let again = apiserver::kind::Kind::from_crd(&read, "t").unwrap();
    assert_eq!((again.kind.as_str(), again.status, again.columns.len()), ("Widget", true, 4));
    assert_eq!(again.scale.unwrap().label_selector_path.as_deref(), Some(".status.selector"));
    let mut watch = world.watch(&format!("{all}?watch=true"), &[]).await;
    assert_eq!([watch.brief().await, watch.brief().await], ["ADDED gadgets.example.dev", "ADDED widgets.example.dev"]);
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(world.send(method, &one, &[], shown.to_string()).await.status, 405, "{method}");
    }
    world.post(all, &shown).await.expect(405);
    world.delete(all, &Value::Null).await.expect(405);
    // A restart makes what is missing, and changes nothing else.
    let other = "gadgets.example.dev";
    let key = Key::new(world.store.kind("core_definitions").unwrap(), "", other);
    let expected_revision = world.store.get(&key).unwrap().revision;
    world.store.write(Write::Remove { key: key.clone(), expected_revision, body: None }).await.unwrap();
    let next = world.again().await;
    eventually("it is made again", async || next.get(&format!("{all}/{other}")).await.status == 200).await;
    assert_eq!(next.get(&one).await.expect(200), shown);
}
