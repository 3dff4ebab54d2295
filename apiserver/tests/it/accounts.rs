//! People with passwords: signing in, sessions, tokens of their programs, and how all of that ends.

use std::time::Duration;

use apiserver::accounts;
use apiserver::auth::rbac::defaults::DefaultRole;
use apiserver::auth::{AUTHENTICATED, Rule, UNAUTHENTICATED};
use apiserver::clock::Clock;
use apiserver::kind::Kind;
use apiserver::store::{AuditQuery, NewToken, Purpose, Settings, Store};
use apiserver::{Kinds, Server, core_kinds};
use axum::Router;
use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::world::{Answer, PATIENCE, eventually};

const MEMBERS: &str = "/apis/example.dev/v1/members";
const SESSIONS: &str = "/api/paas/v1/sessions";
const TOKENS: &str = "/api/paas/v1/tokens";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GOOD: &str = "correct horse battery";
const OTHER: &str = "staple horse battery";

/// A server that knows people.
struct Town {
    server: Server,
    router: Router,
    store: Store,
    clock: Clock,
    admin: String,
    shutdown: CancellationToken,
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn member() -> Kind {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "members.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Cluster",
            "names": {"plural": "members", "singular": "member", "kind": "Member"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "properties": {
                        "groups": {"type": "array", "items": {"type": "string"}},
                        "disabled": {"type": "boolean"},
                    },
                }}}},
            }],
        },
    });
    Kind::from_crd(&serde_json::from_value(definition).unwrap(), "example_members").unwrap()
}

fn kinds() -> Kinds {
    let mut kinds = core_kinds::all();
    kinds.extend([member(), apiserver::definitions::kind()]);
    Kinds::new(kinds).unwrap()
}

impl Town {
    async fn new() -> Self {
        let clock = Clock::settable(Timestamp::from_second(1_800_000_000).unwrap());
        let settings = Settings { clock: clock.clone(), ..Settings::default() };
        let store = Store::open_in_memory(kinds().tables(), settings).await.unwrap();
        let new = NewToken { user: "ada".into(), groups: vec!["system:masters".into()], ..NewToken::default() };
        let (admin, _) = store.tokens().create(new).await.unwrap();
        let shutdown = CancellationToken::new();
        let account = ["/api/paas/v1/sessions/current", TOKENS, "/api/paas/v1/tokens/*", "/api/paas/v1/users/*"];
        let account = Rule::on_paths(&account, &["get", "post", "put", "delete"]);
        let roles = [
            DefaultRole::new("account", vec![account]).given_to(&[AUTHENTICATED]),
            DefaultRole::new("sign-in", vec![Rule::on_paths(&[accounts::SESSIONS], &["post"])])
                .given_to(&[UNAUTHENTICATED]),
        ];
        let settings = accounts::Settings {
            group: "example.dev".into(),
            version: "v1".into(),
            plural: "members".into(),
            namespace: "kube-system".into(),
            secret_type: "example.dev/password".into(),
            secret_name: |uid| format!("member-{uid}"),
            acting: Vec::new(),
        };
        let server = Server::builder(store.clone(), kinds(), clock.clone(), prometheus::Registry::new())
            .roles(roles)
            .accounts(settings)
            .shutdown(shutdown.clone())
            .build()
            .unwrap();
        let running = server.clone();
        apiserver::task::spawn("server", async move { running.run().await.unwrap() });
        let town = Self { router: server.router(), server, store, clock, admin, shutdown };
        eventually("the default roles", async || {
            let view = town.send("GET", &format!("{RBAC}/clusterroles/view"), &town.admin, &Value::Null).await;
            view.status == 200 && view.json()["rules"].as_array().is_some_and(|rules| !rules.is_empty())
        })
        .await;
        town
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, usize::MAX)).await.unwrap().unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    async fn admin(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, &self.admin, &body).await
    }

    /// Makes somebody with a password.
    async fn member(&self, name: &str, groups: &[&str]) -> Value {
        let body = json!({"metadata": {"name": name}, "spec": {"groups": groups}});
        let made = self.admin("POST", MEMBERS, body).await.expect(201);
        self.password(name, GOOD).await;
        made
    }

    async fn password(&self, name: &str, password: &str) {
        let answer = self.admin("PUT", &of(name), json!({"password": password})).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    async fn sign_in(&self, name: &str, password: &str) -> Answer {
        self.send("POST", SESSIONS, "", &json!({"username": name, "password": password})).await
    }

    /// A session's secret.
    async fn session(&self, name: &str) -> String {
        text(&self.sign_in(name, GOOD).await.expect(201)["token"])
    }

    async fn whoami(&self, token: &str) -> Answer {
        self.send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", token, &json!({})).await
    }

    async fn opens(&self, token: &str) -> bool {
        let status = self.whoami(token).await.status.as_u16();
        assert!(status == 201 || status == 401, "{status}");
        status == 201
    }

    async fn bind(&self, role: &str, user: &str) {
        let body = json!({
            "metadata": {"name": format!("{role}-{user}")},
            "subjects": [{"kind": "User", "name": user}], "roleRef": {"kind": "ClusterRole", "name": role},
        });
        self.admin("POST", &format!("{RBAC}/namespaces/default/rolebindings"), body).await.expect(201);
    }

    /// All records of the audit log, as text.
    async fn audit(&self) -> String {
        let query = AuditQuery { limit: 1_000, ..AuditQuery::default() };
        let lines = self.store.audit(query).await.unwrap();
        lines.into_iter().map(|line| line.record).collect::<Vec<_>>().join("\n")
    }
}

/// Where somebody's password is set.
fn of(name: &str) -> String {
    format!("/api/paas/v1/users/{name}/password")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn somebody_signs_in_and_out() {
    let town = Town::new().await;
    let ann = town.member("ann", &["dev"]).await;
    let answer = town.sign_in("ann", GOOD).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let session = answer.expect(201);
    assert_eq!(
        session["user"],
        json!({"username": "ann", "uid": ann["metadata"]["uid"], "groups": ["dev", "system:authenticated"]})
    );
    assert_eq!(session["expires"], "2027-01-22T08:00:00Z", "a week");
    let token = text(&session["token"]);
    assert!(token.starts_with("berth_session_") && token.len() == "berth_session_".len() + 43, "{token}");
    let me = town.whoami(&token).await.expect(201)["status"]["userInfo"].clone();
    assert_eq!(me["username"], "ann");
    assert_eq!(me["uid"], ann["metadata"]["uid"]);
    assert_eq!(me["groups"], json!(["dev", "system:authenticated"]));
    assert!(text(&me["extra"]["authentication.kubernetes.io/credential-id"][0]).starts_with("SESSION="));
    // A role counts as anybody's, and groups are those of now.
    assert_eq!(town.send("GET", CONFIG_MAPS, &token, &Value::Null).await.status, 403);
    town.bind("view", "ann").await;
    assert_eq!(town.send("GET", CONFIG_MAPS, &token, &Value::Null).await.status, 200);
    let mut next = town.admin("GET", &format!("{MEMBERS}/ann"), Value::Null).await.expect(200);
    next["spec"]["groups"] = json!(["ops"]);
    town.admin("PUT", &format!("{MEMBERS}/ann"), next).await.expect(200);
    assert_eq!(town.whoami(&token).await.expect(201)["status"]["userInfo"]["groups"][0], "ops");
    // One session ends, and not the other.
    let other = town.session("ann").await;
    assert_eq!(town.send("DELETE", "/api/paas/v1/sessions/current", &token, &Value::Null).await.status, 204);
    assert!(!town.opens(&token).await && town.opens(&other).await);
    assert_eq!(town.send("DELETE", "/api/paas/v1/sessions/current", &town.admin, &Value::Null).await.status, 400);
    assert_eq!(town.send("DELETE", "/api/paas/v1/sessions/current", "", &Value::Null).await.status, 401);
    // An old credential does not keep anybody from signing in.
    let again = town.send("POST", SESSIONS, &token, &json!({"username": "ann", "password": GOOD})).await;
    assert_eq!(again.status, 201);
}

#[tokio::test]
async fn nobody_else_signs_in_and_is_not_told_why() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.member("gone", &[]).await;
    town.admin("POST", MEMBERS, json!({"metadata": {"name": "new"}, "spec": {}})).await.expect(201);
    let locked = json!({"metadata": {"name": "locked"}, "spec": {"disabled": true}});
    town.admin("POST", MEMBERS, locked).await.expect(201);
    town.password("locked", GOOD).await;
    town.admin("DELETE", &format!("{MEMBERS}/gone"), Value::Null).await.expect(200);
    let mut texts = std::collections::BTreeSet::new();
    for (name, password) in [
        ("ann", OTHER),
        ("ann", ""),
        ("ann", &"x".repeat(129)),
        ("nobody", GOOD),
        ("new", GOOD),
        ("new", ""),
        ("locked", GOOD),
        ("gone", GOOD),
        ("", GOOD),
        ("ada", GOOD),
        ("system:admin", GOOD),
        (&"a".repeat(300), GOOD),
    ] {
        let answer = town.sign_in(name, password).await;
        assert_eq!(answer.status, 401, "{name} {password}: {}", answer.text);
        texts.insert(answer.text);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    for bad in [json!({}), json!({"username": "ann"}), json!({"username": "ann", "password": 1}), json!([GOOD])] {
        let answer = town.send("POST", SESSIONS, "", &bad).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert!(!answer.text.contains(GOOD));
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let status = town.send(method, SESSIONS, &town.admin, &Value::Null).await.status;
        assert_eq!(status, 405, "{method}");
    }
    // What was typed where the name belongs is not noted unless it is a name.
    town.sign_in("hunter2hunter2", GOOD).await;
    town.sign_in("ann", OTHER).await;
    eventually("the refusals are noted", async || {
        town.audit().await.contains(r#""objectRef":{"apiGroup":"example.dev","apiVersion":"v1","name":"ann","resource":"members","subresource":"session"}"#)
    })
    .await;
    let audit = town.audit().await;
    for secret in [GOOD, OTHER, "hunter2", "argon2"] {
        assert!(!audit.contains(secret), "{secret} in {audit}");
    }
}

#[tokio::test(start_paused = true)]
async fn guessing_is_slowed_down() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    for _ in 0..5 {
        assert_eq!(town.sign_in("ann", OTHER).await.status, 401);
    }
    for password in [OTHER, GOOD] {
        let answer = town.sign_in("ann", password).await;
        assert_eq!(answer.status, 429, "{}", answer.text);
        assert!((1..=2).contains(&answer.header("retry-after").parse::<u32>().unwrap()));
    }
    // So is guessing the present password of a session that was left open.
    let bob = town.member("bob", &[]).await;
    assert_eq!(bob["metadata"]["name"], "bob");
    let session = town.session("bob").await;
    for _ in 0..5 {
        let body = json!({"current": OTHER, "password": "tea in the afternoon"});
        let answer = town.send("PUT", &of("bob"), &session, &body).await;
        assert_eq!(answer.expect(422)["details"]["causes"][0]["field"], "current");
    }
    let body = json!({"current": GOOD, "password": "tea in the afternoon"});
    assert_eq!(town.send("PUT", &of("bob"), &session, &body).await.status, 429);
}

#[tokio::test]
async fn another_password_ends_everything_that_was_begun_under_the_one_before() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.member("bob", &[]).await;
    let (session, other, bob) = (town.session("ann").await, town.session("ann").await, town.session("bob").await);
    let token = town.send("POST", TOKENS, &session, &json!({"description": "ci"})).await.expect(201);
    let token = text(&token["token"]);
    assert!(town.opens(&token).await);
    for (body, field) in [
        (json!({"password": OTHER}), "current"),
        (json!({"password": "12345678", "current": GOOD}), "password"),
        (json!({"password": "short", "current": GOOD}), "password"),
        (json!({"password": "ann-2026", "current": GOOD}), "password"),
    ] {
        let refused = town.send("PUT", &of("ann"), &session, &body).await.expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], field);
    }
    assert!(town.opens(&session).await);
    let answer = town.send("PUT", &of("ann"), &session, &json!({"password": OTHER, "current": GOOD})).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
    for dead in [&session, &other, &token] {
        assert!(!town.opens(dead).await);
    }
    assert!(town.opens(&bob).await, "the others stay");
    assert_eq!(town.sign_in("ann", GOOD).await.status, 401);
    assert_eq!(town.sign_in("ann", OTHER).await.status, 201);
    // Also back to the first one.
    town.password("ann", GOOD).await;
    assert!(!town.opens(&session).await);
    let audit = town.audit().await;
    assert!(audit.contains(r#""subresource":"password""#), "{audit}");
    for secret in [GOOD, OTHER, "argon2", token.as_str(), session.as_str()] {
        assert!(!audit.contains(secret), "{secret} in {audit}");
    }
}

#[tokio::test]
async fn who_is_locked_out_is_out_at_once_and_for_good() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    let session = town.session("ann").await;
    let token = town.send("POST", TOKENS, &session, &json!({"description": "ci"})).await.expect(201);
    let token = text(&token["token"]);
    let set = async |disabled: bool| {
        let mut next = town.admin("GET", &format!("{MEMBERS}/ann"), Value::Null).await.expect(200);
        next["spec"]["disabled"] = json!(disabled);
        town.admin("PUT", &format!("{MEMBERS}/ann"), next).await.expect(200);
    };
    set(true).await;
    assert!(!town.opens(&session).await && !town.opens(&token).await);
    assert_eq!(town.sign_in("ann", GOOD).await.status, 401);
    // Let in again in the same moment: what there was has ended nevertheless.
    set(false).await;
    eventually("what was begun before is revoked", async || !town.opens(&session).await && !town.opens(&token).await)
        .await;
    town.clock.advance(Duration::from_secs(1));
    let new = town.session("ann").await;
    assert!(town.opens(&new).await);
    // Whoever comes later under the same name has nothing of what was.
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let count = async || {
        let list = town.admin("GET", secrets, Value::Null).await.expect(200);
        list["items"].as_array().unwrap().iter().filter(|secret| secret["type"] == "example.dev/password").count()
    };
    assert_eq!(count().await, 1);
    town.admin("DELETE", &format!("{MEMBERS}/ann"), Value::Null).await.expect(200);
    assert!(!town.opens(&new).await);
    town.admin("POST", MEMBERS, json!({"metadata": {"name": "ann"}, "spec": {}})).await.expect(201);
    assert!(!town.opens(&new).await);
    assert_eq!(town.sign_in("ann", GOOD).await.status, 401);
    eventually("the password is collected", async || count().await == 0).await;
    town.password("ann", GOOD).await;
    assert!(!town.opens(&new).await);
}

#[tokio::test]
async fn what_is_open_ends_with_its_session() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.bind("view", "ann").await;
    let session = town.session("ann").await;
    let open = async |session: &str, acting_as: Option<&str>| {
        let mut request = Request::builder()
            .uri(format!("{CONFIG_MAPS}?watch=true&timeoutSeconds=3600"))
            .header("authorization", format!("Bearer {session}"));
        if let Some(user) = acting_as {
            request = request.header("impersonate-user", user);
        }
        let response = town.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body()
    };
    let watch = open(&session, None).await;
    town.send("DELETE", "/api/paas/v1/sessions/current", &session, &Value::Null).await;
    let end = axum::body::to_bytes(watch, usize::MAX);
    tokio::time::timeout(PATIENCE, end).await.expect("it ends").unwrap();
    // Also what somebody opened as somebody else.
    town.member("root", &["system:masters"]).await;
    let session = town.session("root").await;
    let watch = open(&session, Some("ann")).await;
    town.send("DELETE", "/api/paas/v1/sessions/current", &session, &Value::Null).await;
    let end = axum::body::to_bytes(watch, usize::MAX);
    tokio::time::timeout(PATIENCE, end).await.expect("it ends").unwrap();
}

/// Parts of the process ask on for a user, whose session may have ended since.
#[tokio::test]
async fn nobody_is_asked_for_whose_session_has_ended() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.bind("view", "ann").await;
    let session = town.session("ann").await;
    let id = town.store.tokens().list().iter().find(|token| token.user == "ann").unwrap().id.clone();
    let identity = apiserver::Identity { credential: Some(id.as_str().into()), ..apiserver::Identity::new("ann", []) };
    let local = town.server.local(identity);
    let ask =
        async || local.clone().oneshot(Request::get(CONFIG_MAPS).body(Body::empty()).unwrap()).await.unwrap().status();
    assert_eq!(ask().await, 200);
    town.send("DELETE", "/api/paas/v1/sessions/current", &session, &Value::Null).await;
    assert_eq!(ask().await, 401);
}

#[tokio::test]
async fn what_lies_about_does_not_shut_out_its_owner() {
    let town = Town::new().await;
    town.member("root", &["system:masters"]).await;
    town.member("ann", &[]).await;
    let session = town.session("root").await;
    let token = text(&town.send("POST", TOKENS, &session, &json!({"description": "all"})).await.expect(201)["token"]);
    let set =
        async |token: &str, name: &str, body: Value| town.send("PUT", &of(name), token, &body).await.status.as_u16();
    // A token of somebody who may do everything: not their own password, nor others'.
    for name in ["root", "ann"] {
        assert_eq!(set(&token, name, json!({"password": OTHER, "current": GOOD})).await, 403, "{name}");
    }
    let sessions = town.store.tokens().list();
    let id = &sessions.iter().find(|known| known.user == "root" && known.purpose == Purpose::Session).unwrap().id;
    assert_eq!(town.send("DELETE", &format!("{TOKENS}/{id}"), &token, &Value::Null).await.status, 403);
    assert!(town.opens(&session).await);
    // In a session one's own takes the present one, also from who may set everybody's.
    assert_eq!(set(&session, "root", json!({"password": OTHER})).await, 422);
    assert_eq!(set(&session, "root", json!({"password": OTHER, "current": OTHER})).await, 422);
    assert_eq!(set(&session, "ann", json!({"password": OTHER})).await, 204);
    assert_eq!(set(&session, "root", json!({"password": OTHER, "current": GOOD})).await, 204);
    assert!(!town.opens(&session).await && !town.opens(&token).await);
}

#[tokio::test]
async fn a_review_takes_no_token_for_more_than_it_is() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    let session = town.session("ann").await;
    let review = async |caller: &str, token: &str| {
        let body = json!({"spec": {"token": token}});
        let answer = town.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", caller, &body).await;
        answer.expect(201)["status"]["authenticated"] == true
    };
    let scope = json!({"verbs": ["get"], "resources": ["configmaps"]});
    let narrow = town.send("POST", TOKENS, &session, &json!({"description": "a", "scope": scope})).await.expect(201);
    let wide = town.send("POST", TOKENS, &session, &json!({"description": "b"})).await.expect(201);
    assert!(review(&town.admin, &session).await && review(&town.admin, &text(&wide["token"])).await);
    assert!(!review(&town.admin, &text(&narrow["token"])).await);
}

#[tokio::test]
async fn a_session_ends_when_it_is_old_or_not_used() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    let (used, idle) = (town.session("ann").await, town.session("ann").await);
    let hours = |hours| Duration::from_hours(hours);
    for _ in 0..8 {
        town.clock.advance(hours(20));
        assert!(town.opens(&used).await);
        // That it was used is noted in its own time.
        eventually("the use is noted", async || {
            town.store.tokens().list().iter().any(|token| token.last_used == Some(town.clock.now()))
        })
        .await;
    }
    assert!(!town.opens(&idle).await, "a day without use");
    town.clock.advance(hours(8));
    assert!(!town.opens(&used).await, "a week after all");
    // The oldest makes room.
    let first = town.session("ann").await;
    for _ in 0..64 {
        town.clock.advance(Duration::from_secs(1));
        town.session("ann").await;
    }
    assert!(!town.opens(&first).await);
}

#[tokio::test]
async fn a_token_does_what_it_is_good_for_and_nothing_else() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.bind("edit", "ann").await;
    let session = town.session("ann").await;
    let scope = json!({"verbs": ["get", "list"], "resources": ["configmaps"], "namespaces": ["default"]});
    let wanted = json!({"description": "reads", "scope": scope, "expires": "2027-02-01T00:00:00Z"});
    let answer = town.send("POST", TOKENS, &session, &wanted).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let made = answer.expect(201);
    assert_eq!((&made["scope"], &made["expires"]), (&scope, &json!("2027-02-01T00:00:00Z")));
    let token = text(&made["token"]);
    assert!(token.starts_with("berth_token_"), "{token}");
    let body = json!({"metadata": {"name": "a"}});
    assert_eq!(town.send("GET", CONFIG_MAPS, &token, &Value::Null).await.status, 200);
    for (method, path) in [
        ("GET", format!("{CONFIG_MAPS}?watch=true")),
        ("POST", CONFIG_MAPS.to_owned()),
        ("DELETE", format!("{CONFIG_MAPS}/a")),
        ("GET", "/api/v1/namespaces/default/secrets".to_owned()),
        ("GET", "/api/v1/namespaces/kube-system/configmaps".to_owned()),
        ("GET", "/api/v1/configmaps".to_owned()),
        ("GET", TOKENS.to_owned()),
        ("POST", TOKENS.to_owned()),
        ("DELETE", "/api/paas/v1/sessions/current".to_owned()),
        ("PUT", of("ann")),
    ] {
        assert_eq!(town.send(method, &path, &token, &body).await.status, 403, "{method} {path}");
    }
    let can = async |verb: &str| {
        let attributes = json!({"verb": verb, "resource": "configmaps", "namespace": "default"});
        let review = json!({"spec": {"resourceAttributes": attributes}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        town.send("POST", path, &token, &review).await.expect(201)["status"]["allowed"].clone()
    };
    assert_eq!((can("get").await, can("create").await), (json!(true), json!(false)));
    // It never does more than its user may now.
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    town.admin("DELETE", &format!("{bindings}/edit-ann"), Value::Null).await.expect(200);
    assert_eq!(town.send("GET", CONFIG_MAPS, &token, &Value::Null).await.status, 403);
    town.bind("edit", "ann").await;
    // One without a scope does what its user may, but for making others.
    let wide = town.send("POST", TOKENS, &session, &json!({"description": "all"})).await.expect(201);
    assert_eq!((&wide["scope"], &wide["expires"]), (&Value::Null, &json!("2027-04-15T08:00:00Z")), "90 days");
    let wide = text(&wide["token"]);
    assert_eq!(town.send("POST", CONFIG_MAPS, &wide, &body).await.status, 201);
    for caller in [&wide, &town.admin] {
        assert_eq!(town.send("POST", TOKENS, caller, &json!({"description": "more"})).await.status, 403);
    }
    town.clock.set("2027-02-01T00:00:00Z".parse().unwrap());
    assert!(!town.opens(&token).await, "its time is over");
    assert!(town.opens(&wide).await);
}

#[tokio::test]
async fn tokens_are_asked_for_sensibly() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    let session = town.session("ann").await;
    for (wanted, field) in [
        (json!({"description": " "}), "description"),
        (json!({"description": "x".repeat(201)}), "description"),
        (json!({"description": "a", "expires": "2020-01-01T00:00:00Z"}), "expires"),
        (json!({"description": "a", "expires": "2028-02-01T00:00:00Z"}), "expires"),
        (json!({"description": "a", "scope": {"verbs": ["read"], "resources": ["*"]}}), "scope.verbs"),
        (json!({"description": "a", "scope": {"verbs": ["get"], "resources": ["things"]}}), "scope.resources"),
    ] {
        let refused = town.send("POST", TOKENS, &session, &wanted).await.expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], field, "{wanted}");
    }
    for wanted in [json!({}), json!({"description": "a", "groups": ["x"]}), json!({"description": "a", "scope": {}})] {
        assert_eq!(town.send("POST", TOKENS, &session, &wanted).await.status, 400, "{wanted}");
    }
    for n in 0..64 {
        town.send("POST", TOKENS, &session, &json!({"description": format!("token {n}")})).await.expect(201);
    }
    assert_eq!(town.send("POST", TOKENS, &session, &json!({"description": "one more"})).await.status, 403);
}

#[tokio::test]
async fn everybody_looks_after_their_own_tokens_and_administrators_after_all() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.member("bob", &[]).await;
    let (ann, bob) = (town.session("ann").await, town.session("bob").await);
    let make = async |session: &str, description: &str| {
        town.clock.advance(Duration::from_secs(1));
        let made = town.send("POST", TOKENS, session, &json!({"description": description})).await.expect(201);
        (text(&made["id"]), text(&made["token"]))
    };
    let (first, secret) = make(&ann, "first").await;
    let (second, _) = make(&ann, "second").await;
    let (bobs, _) = make(&bob, "bob's").await;
    let names = |list: &Value| -> Vec<String> {
        assert!(!list.to_string().contains("berth_token_"), "a secret is shown once");
        list["items"].as_array().unwrap().iter().map(|token| text(&token["description"])).collect()
    };
    let list =
        async |caller: &str, query: &str| town.send("GET", &format!("{TOKENS}{query}"), caller, &Value::Null).await;
    assert_eq!(names(&list(&ann, "").await.expect(200)), ["first", "second"]);
    assert_eq!(names(&list(&ann, "?user=ann").await.expect(200)), ["first", "second"]);
    assert_eq!(names(&list(&town.admin, "?user=bob").await.expect(200)), ["bob's"]);
    assert_eq!(names(&list(&town.admin, "?all=true").await.expect(200)), ["first", "second", "bob's"]);
    for query in ["?user=bob", "?all=true", "?user=nobody"] {
        assert_eq!(list(&ann, query).await.status, 403, "{query}");
    }
    assert_eq!(list(&ann, "?whose=bob").await.status, 400);
    // Of the same name is not the same.
    let new = NewToken { user: "ann".into(), ..NewToken::default() };
    let (namesake, _) = town.store.tokens().create(new).await.unwrap();
    assert!(names(&list(&namesake, "").await.expect(200)).is_empty());
    assert_eq!(list(&namesake, "?user=ann").await.status, 403);
    let end = async |caller: &str, id: &str| {
        town.send("DELETE", &format!("{TOKENS}/{id}"), caller, &Value::Null).await.status.as_u16()
    };
    for id in [bobs.as_str(), "nothing"] {
        assert_eq!(end(&ann, id).await, 403, "{id}: neither is told from the other");
    }
    assert_eq!(end(&namesake, &first).await, 403);
    assert!(town.opens(&secret).await);
    assert_eq!(end(&ann, &first).await, 204);
    assert!(!town.opens(&secret).await);
    assert_eq!(
        (end(&town.admin, &second).await, end(&town.admin, &bobs).await, end(&town.admin, "x").await),
        (204, 204, 404)
    );
    let standing = town.store.tokens().list().iter().find(|token| token.user == "ada").unwrap().id.clone();
    assert_eq!(end(&town.admin, &standing).await, 404, "the platform's own are none of these");
    let listed = list(&ann, "").await.expect(200);
    assert!(
        listed["items"].as_array().unwrap().iter().all(|token| token["valid"] == false && !token["revoked"].is_null())
    );
    let audit = town.audit().await;
    assert!(
        audit.contains(r#""path":"token""#) && audit.contains("bob's") && !audit.contains("berth_token_"),
        "{audit}"
    );
}

#[tokio::test]
async fn nobody_makes_themselves_more_than_they_are() {
    let town = Town::new().await;
    town.member("ann", &[]).await;
    town.member("root", &["system:masters"]).await;
    let session = town.session("ann").await;
    let rule = json!({"apiGroups": ["example.dev"], "resources": ["members", "members/password"], "verbs": ["*"]});
    let clerk = json!({"metadata": {"name": "clerk"}, "rules": [rule]});
    town.admin("POST", &format!("{RBAC}/clusterroles"), clerk).await.expect(201);
    let binding = json!({
        "metadata": {"name": "clerk"}, "subjects": [{"kind": "User", "name": "ann"}],
        "roleRef": {"kind": "ClusterRole", "name": "clerk"},
    });
    town.admin("POST", &format!("{RBAC}/clusterrolebindings"), binding).await.expect(201);
    let put = async |name: &str, groups: Value| {
        let body = json!({"metadata": {"name": name}, "spec": {"groups": groups}});
        town.send("POST", MEMBERS, &session, &body).await
    };
    put("cy", json!([])).await.expect(201);
    let refused = put("dee", json!(["ops", "system:masters"])).await.expect(403);
    assert!(text(&refused["message"]).contains(r#"the group "ops""#), "{refused}");
    let patch = json!({"metadata": {"name": "ann"}, "spec": {"groups": ["system:masters"]}});
    let request = Request::builder()
        .method("PATCH")
        .uri(format!("{MEMBERS}/ann"))
        .header("authorization", format!("Bearer {session}"))
        .header("content-type", "application/merge-patch+json")
        .body(Body::from(patch.to_string()))
        .unwrap();
    assert_eq!(town.router.clone().oneshot(request).await.unwrap().status(), 403);
    // A group that somebody has already stays when something else changes.
    let mut root = town.admin("GET", &format!("{MEMBERS}/root"), Value::Null).await.expect(200);
    root["metadata"]["labels"] = json!({"seen": "yes"});
    town.send("PUT", &format!("{MEMBERS}/root"), &session, &root).await.expect(200);
    // Whoever sets a password can sign in with it.
    for name in ["root", "cy", "nobody"] {
        let answer = town.send("PUT", &of(name), &session, &json!({"password": OTHER})).await;
        assert_eq!(answer.status, 403, "{name}: {}", answer.text);
    }
    let rule = json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["cy"]});
    let actor = json!({"metadata": {"name": "actor"}, "rules": [rule]});
    town.admin("POST", &format!("{RBAC}/clusterroles"), actor).await.expect(201);
    let binding = json!({
        "metadata": {"name": "actor"}, "subjects": [{"kind": "User", "name": "ann"}],
        "roleRef": {"kind": "ClusterRole", "name": "actor"},
    });
    town.admin("POST", &format!("{RBAC}/clusterrolebindings"), binding).await.expect(201);
    assert_eq!(town.send("PUT", &of("cy"), &session, &json!({"password": OTHER})).await.status, 204);
    assert_eq!(town.send("PUT", &of("root"), &session, &json!({"password": OTHER})).await.status, 403);
    assert_eq!(town.admin("PUT", &of("nobody"), json!({"password": OTHER})).await.status, 404);
    // Acting as somebody gives no lasting credential of theirs.
    let known = town.store.tokens().list();
    let id = &known.iter().find(|token| token.user == "ann").unwrap().id;
    let request = Request::builder()
        .method("POST")
        .uri(TOKENS)
        .header("authorization", format!("Bearer {}", town.admin))
        .header("impersonate-user", "ann")
        .header("impersonate-extra-authentication.kubernetes.io%2fcredential-id", format!("SESSION={id}"))
        .header("content-type", "application/json")
        .body(Body::from(json!({"description": "x"}).to_string()))
        .unwrap();
    assert_eq!(town.router.clone().oneshot(request).await.unwrap().status(), 403);
    let member = town.admin("GET", &format!("{MEMBERS}/root"), Value::Null).await.text;
    assert!(!member.contains("argon2"), "a hash is no part of a person");
}
