//! Limits as callers meet them.

use std::sync::Arc;

use apiserver::auth::{Attributes, Authorizer, Rule};
use apiserver::store::NewToken;
use apiserver::{Identity, Limits};
use futures::future::BoxFuture;
use serde_json::json;

use crate::world::{WIDGETS, World};

/// Everybody may everything, so that limits meet somebody who is no administrator.
struct Everybody;

impl Authorizer for Everybody {
    fn allows<'a>(&'a self, _identity: &'a Identity, _attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        Box::pin(async { true })
    }

    fn rules<'a>(&'a self, _identity: &'a Identity, _namespace: &'a str) -> BoxFuture<'a, Vec<Rule>> {
        Box::pin(async { Vec::new() })
    }
}

async fn world(limits: Limits) -> World {
    World::with(|builder| builder.limits(limits).authorizer(Arc::new(Everybody))).await
}

async fn bearer(world: &World, user: &str) -> String {
    let new = NewToken { user: user.into(), ..NewToken::default() };
    format!("Authorization: Bearer {}", world.store.tokens().create(new).await.unwrap().0)
}

#[tokio::test(start_paused = true)]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let world = world(Limits { requests_per_second: 1, requests_burst: 3, ..Limits::default() }).await;
    let (eve, bob) = (bearer(&world, "eve").await, bearer(&world, "bob").await);
    for _ in 0..3 {
        world.send_as_is("GET", WIDGETS, &[&eve], "").await.expect(200);
    }
    let refused = world.send_as_is("GET", WIDGETS, &[&eve], "").await;
    assert_eq!(refused.header("retry-after"), "1");
    let status = refused.expect(429);
    assert_eq!((&status["reason"], &status["details"]), (&json!("TooManyRequests"), &json!({"retryAfterSeconds": 1})));
    world.send_as_is("GET", "/readyz", &[&eve], "").await.header("audit-id");
    assert_eq!(world.send_as_is("GET", "/readyz", &[&eve], "").await.status, 200, "probes have no limit");
    world.send_as_is("GET", WIDGETS, &[&bob], "").await.expect(200);
    for _ in 0..20 {
        world.get(WIDGETS).await.expect(200);
    }
    let metrics = world.get("/metrics").await.text;
    assert!(metrics.contains(r#"apiserver_flowcontrol_rejected_requests_total{reason="rate"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"apiserver_current_inflight_requests{request_kind="readOnly"} 1"#), "{metrics}");
}

#[tokio::test]
async fn watches_of_one_user_are_counted() {
    let world = world(Limits { watches_per_user: 2, ..Limits::default() }).await;
    let eve = bearer(&world, "eve").await;
    let path = format!("{WIDGETS}?watch=true");
    let first = world.watch_as_is(&path, &[&eve]).await;
    let _second = world.watch_as_is(&path, &[&eve]).await;
    let refused = world.send_as_is("GET", &path, &[&eve], "").await;
    assert_eq!(refused.header("retry-after"), "5");
    refused.expect(429);
    let _administrators = world.watch(&path, &[]).await;
    drop(first);
    let _again = world.watch_as_is(&path, &[&eve]).await;
}

#[tokio::test]
async fn parts_of_the_process_are_not_held_up_by_users() {
    let limits = Limits { requests_per_second: 1, requests_burst: 1, requests_in_flight: 1, ..Limits::default() };
    let world = world(limits).await;
    let client = kube::Client::new(world.local(), "default");
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> = kube::Api::all(client);
    let many = (0..200).map(|_| namespaces.get("default"));
    assert!(futures::future::join_all(many).await.iter().all(Result::is_ok));
}
