//! Who may do what: roles, bindings, reviews, accounts and their tokens, acting as others.

use axum::body::Body;
use serde_json::{Value, json};

use apiserver::store::NewToken;

use crate::world::{Answer, WIDGETS, World, eventually, widget_named};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const DEFAULT: &str = "/api/v1/namespaces/default";

/// Somebody with a token.
struct Person<'a> {
    world: &'a World,
    token: String,
}

impl Person<'_> {
    async fn send(&self, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
        let authorization = format!("Authorization: Bearer {}", self.token);
        let mut all = vec![authorization.as_str()];
        all.extend(headers);
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.world.send_as_is(method, path, &all, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &Value::Null).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[], body).await
    }

    async fn whoami(&self) -> Value {
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        self.post(review, &json!({})).await.expect(201)["status"]["userInfo"].clone()
    }

    async fn can(&self, attributes: Value) -> bool {
        let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let body = json!({"spec": {"resourceAttributes": attributes}});
        self.post(review, &body).await.expect(201)["status"]["allowed"] == true
    }
}

async fn person<'a>(world: &'a World, user: &str, groups: &[&str]) -> Person<'a> {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    let new = NewToken { user: user.into(), groups, ..NewToken::default() };
    Person { world, token: world.store.tokens().create(new).await.unwrap().0 }
}

fn role(name: &str, rules: &Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, role: (&str, &str), subjects: &Value) -> Value {
    json!({
        "metadata": {"name": name}, "subjects": subjects,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
    })
}

fn user(name: &str) -> Value {
    json!([{"kind": "User", "name": name}])
}

/// Waits until the roles that gather have gathered.
async fn world() -> World {
    let world = World::new().await;
    eventually("the default roles", async || {
        let admin = world.get(&format!("{RBAC}/clusterroles/admin")).await;
        admin.status == 200 && admin.json()["rules"].as_array().is_some_and(|rules| rules.len() > 5)
    })
    .await;
    world
}

#[tokio::test]
async fn nobody_may_anything_but_ask() {
    let world = world().await;
    world.widget("w").await;
    let eve = person(&world, "eve", &[]).await;
    let refused = eve.get(&format!("{WIDGETS}/w")).await.expect(403);
    assert_eq!(
        refused["message"],
        "widgets.example.dev \"w\" is forbidden: User \"eve\" cannot get resource \"widgets\" in API group \"example.dev\" in the namespace \"default\""
    );
    for (method, path) in [
        ("GET", WIDGETS),
        ("GET", "/apis/example.dev/v1/widgets"),
        ("POST", WIDGETS),
        ("DELETE", WIDGETS),
        ("GET", &format!("{WIDGETS}?watch=true")),
        ("PUT", &format!("{WIDGETS}/w/status")),
        ("PATCH", &format!("{WIDGETS}/w/scale")),
        ("GET", "/api/v1/namespaces"),
        ("GET", DEFAULT),
        ("POST", &format!("{DEFAULT}/serviceaccounts/default/token")),
        ("GET", &format!("{RBAC}/clusterroles")),
        ("GET", "/metrics"),
        ("GET", "/nothing/of/that/name"),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
        ("POST", "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"),
    ] {
        assert_eq!(eve.send(method, path, &[], &json!({})).await.status, 403, "{method} {path}");
        assert_eq!(world.send_as_is(method, path, &[], "{}").await.status, 401, "{method} {path} without a token");
    }
    for path in ["/api", "/apis", "/api/v1", "/apis/example.dev", "/apis/example.dev/v1", "/openapi/v3", "/version"] {
        assert_eq!(eve.get(path).await.status, 200, "{path}");
    }
    for path in ["/version", "/version/", "/livez", "/readyz", "/healthz", "/livez/ping"] {
        let answer = world.send_as_is("GET", path, &[], "").await;
        assert_ne!(answer.status, 401, "{path}");
        assert_ne!(answer.status, 403, "{path}");
    }
    assert_eq!(world.send_as_is("GET", "/version", &["Authorization: Bearer wrong"], "").await.status, 401);
    assert_eq!(eve.whoami().await, json!({"username": "eve", "groups": ["system:authenticated"]}));
}

#[tokio::test]
async fn a_binding_counts_from_when_it_was_answered_until_it_is_gone() {
    let world = world().await;
    world.widget("w").await;
    let ann = person(&world, "ann", &["dev"]).await;
    let rules = json!([{"verbs": ["get", "list"], "apiGroups": ["example.dev"], "resources": ["widgets"]}]);
    world.post(&format!("{RBAC}/namespaces/default/roles"), &role("reader", &rules)).await.expect(201);
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    for (round, subjects) in [user("ann"), json!([{"kind": "Group", "name": "dev"}])].iter().enumerate() {
        assert_eq!(ann.get(WIDGETS).await.status, 403, "{round}");
        world.post(&bindings, &binding("read", ("Role", "reader"), subjects)).await.expect(201);
        assert_eq!(ann.get(WIDGETS).await.status, 200, "{round}");
        assert_eq!(ann.get(&format!("{WIDGETS}/w")).await.status, 200);
        assert_eq!(ann.get(&format!("{WIDGETS}?watch=true")).await.status, 403);
        assert_eq!(ann.get("/apis/example.dev/v1/widgets").await.status, 403, "across namespaces is more");
        assert_eq!(ann.get("/apis/example.dev/v1/namespaces/kube-system/widgets").await.status, 403);
        world.delete(&format!("{bindings}/read"), &Value::Null).await.expect(200);
    }
    assert_eq!(ann.get(WIDGETS).await.status, 403);
    // Whoever has a role in a namespace that lets them see it sees it, and not the list of all.
    world.post(&bindings, &binding("view", ("ClusterRole", "view"), &user("ann"))).await.expect(201);
    assert_eq!(ann.get(DEFAULT).await.status, 200);
    assert_eq!(ann.get("/api/v1/namespaces").await.status, 403);
    assert_eq!(ann.get("/api/v1/namespaces/kube-system").await.status, 403);
    assert_eq!(ann.get(&format!("{DEFAULT}/configmaps")).await.status, 200);
    assert_eq!(ann.get(&format!("{DEFAULT}/secrets")).await.status, 403);
}

#[tokio::test]
async fn nobody_gives_away_what_they_do_not_have() {
    let world = world().await;
    let bob = person(&world, "bob", &[]).await;
    let (roles, bindings) =
        (format!("{RBAC}/namespaces/default/roles"), format!("{RBAC}/namespaces/default/rolebindings"));
    let secrets = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]);
    let maps = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}]);
    let manager = json!([
        {"verbs": ["*"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"]},
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["configmaps"]},
    ]);
    // A star would have `escalate` and `bind` in it.
    let mut manager = manager;
    manager[0]["verbs"] = json!(["get", "list", "create", "update", "patch", "delete"]);
    world.post(&roles, &role("manager", &manager)).await.expect(201);
    world.post(&roles, &role("secrets", &secrets)).await.expect(201);
    world.post(&bindings, &binding("bob", ("Role", "manager"), &user("bob"))).await.expect(201);

    bob.post(&roles, &role("maps", &maps)).await.expect(201);
    let refused = bob.post(&roles, &role("more", &secrets)).await.expect(403);
    assert_eq!(
        refused["message"],
        "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"bob\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
    );
    let merge = ["Content-Type: application/merge-patch+json"];
    let change = json!({"rules": secrets});
    assert_eq!(bob.send("PATCH", &format!("{roles}/maps"), &merge, &change).await.status, 403);
    // What changes no rule is no escalation, also on a role that is more than one has.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(bob.send("PATCH", &format!("{roles}/secrets"), &merge, &label).await.status, 200);

    bob.post(&bindings, &binding("maps", ("Role", "maps"), &user("carol"))).await.expect(201);
    bob.post(&bindings, &binding("secrets", ("Role", "secrets"), &user("bob"))).await.expect(403);
    bob.post(&bindings, &binding("admin", ("ClusterRole", "cluster-admin"), &user("bob"))).await.expect(403);
    bob.post(&bindings, &binding("later", ("Role", "not-there-yet"), &user("bob"))).await.expect(403);
    let more = json!({"subjects": [{"kind": "User", "name": "bob"}]});
    world.post(&bindings, &binding("of-admin", ("Role", "secrets"), &user("ops"))).await.expect(201);
    assert_eq!(bob.send("PATCH", &format!("{bindings}/of-admin"), &merge, &more).await.status, 403);

    // The verbs that say otherwise.
    let escalate = json!([
        {"verbs": ["escalate"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"]},
        {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "resourceNames": ["secrets"]},
    ]);
    world.post(&roles, &role("trusted", &escalate)).await.expect(201);
    world.post(&bindings, &binding("trusted", ("Role", "trusted"), &user("bob"))).await.expect(201);
    bob.post(&roles, &role("more", &secrets)).await.expect(201);
    bob.post(&bindings, &binding("secrets", ("Role", "secrets"), &user("carol"))).await.expect(201);
    bob.post(&bindings, &binding("more", ("Role", "more"), &user("carol"))).await.expect(403);
    // A dry run is judged as the write would be.
    let dry = format!("{bindings}?dryRun=All");
    bob.post(&dry, &binding("dry", ("ClusterRole", "cluster-admin"), &user("bob"))).await.expect(403);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let world = world().await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    world.post(&bindings, &binding("b", ("ClusterRole", "view"), &user("ann"))).await.expect(201);
    let other = json!({"roleRef": {"name": "edit"}});
    let refused = world.merge(&format!("{bindings}/b"), &other).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("cannot change roleRef"), "{refused}");
    // A role that a binding refers to need not be there, and an administrator may bind it.
    world.post(&bindings, &binding("later", ("Role", "later"), &user("ann"))).await.expect(201);
    for (path, body, field) in [
        ("roles", role("r", &json!([{"verbs": [], "apiGroups": [""], "resources": ["pods"]}])), "rules[0].verbs"),
        ("roles", role("r", &json!([{"verbs": ["get"], "resources": ["pods"]}])), "rules[0].apiGroups"),
        ("roles", role("r", &json!([{"verbs": ["get"], "nonResourceURLs": ["/a"]}])), "rules[0].nonResourceURLs"),
        ("rolebindings", binding("x", ("Pod", "x"), &user("a")), "roleRef.kind"),
        ("rolebindings", binding("x", ("Role", ""), &user("a")), "roleRef.name"),
        ("rolebindings", binding("x", ("Role", "r"), &json!([{"kind": "Robot", "name": "r"}])), "subjects[0].kind"),
    ] {
        let refused = world.post(&format!("{RBAC}/namespaces/default/{path}"), &body).await.expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], field, "{refused}");
    }
    let global = json!([{"kind": "ServiceAccount", "name": "bot"}]);
    let refused =
        world.post(&format!("{RBAC}/clusterrolebindings"), &binding("x", ("ClusterRole", "view"), &global)).await;
    assert_eq!(refused.expect(422)["details"]["causes"][0]["field"], "subjects[0].namespace");
}

#[tokio::test]
async fn default_roles_come_back_and_gather() {
    let world = world().await;
    let view = format!("{RBAC}/clusterroles/view");
    let extra = json!({
        "metadata": {"name": "widgets-view", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"verbs": ["get"], "apiGroups": ["example.dev"], "resources": ["widgets"]}],
    });
    world.post(&format!("{RBAC}/clusterroles"), &extra).await.expect(201);
    let has = async |role: &str| world.get(&format!("{RBAC}/clusterroles/{role}")).await.text.contains("example.dev");
    for role in ["view", "edit", "admin"] {
        eventually("the new rule is gathered", async || has(role).await).await;
    }
    world.delete(&format!("{RBAC}/clusterroles/widgets-view"), &Value::Null).await.expect(200);
    eventually("the rule has gone again", async || !has("admin").await).await;

    // What an administrator takes away of the defaults comes back with the next start, unless they said that it should
    // not; what they add stays.
    let (basic, discovery) =
        (format!("{RBAC}/clusterroles/system:basic-user"), format!("{RBAC}/clusterroles/system:discovery"));
    world
        .merge(&basic, &json!({"rules": [{"verbs": ["get"], "apiGroups": ["x"], "resources": ["y"]}]}))
        .await
        .expect(200);
    let keep =
        json!({"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
    world.merge(&discovery, &keep).await.expect(200);
    world.delete(&format!("{RBAC}/clusterrolebindings/cluster-admin"), &Value::Null).await.expect(200);
    let again = world.again().await;
    eventually("the defaults are back", async || {
        let rules = again.get(&basic).await.json()["rules"].as_array().unwrap().len();
        rules == 3 && again.get(&format!("{RBAC}/clusterrolebindings/cluster-admin")).await.status == 200
    })
    .await;
    assert_eq!(again.get(&discovery).await.json()["rules"], json!([]));
    assert_eq!(again.get(&view).await.json()["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
}

#[tokio::test]
async fn an_account_has_tokens_for_as_long_as_it_is_there() {
    let world = world().await;
    let accounts = format!("{DEFAULT}/serviceaccounts");
    eventually("the default account", async || world.get(&format!("{accounts}/default")).await.status == 200).await;
    let bot = json!({"metadata": {"name": "bot"}});
    let made = world.post(&accounts, &bot).await.expect(201);
    let uid = made["metadata"]["uid"].as_str().unwrap().to_owned();
    let request = format!("{accounts}/bot/token");
    let answer = world.post(&request, &json!({"spec": {"expirationSeconds": 3600}})).await.expect(201);
    assert_eq!(answer["kind"], "TokenRequest");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"].as_str().unwrap().to_owned();
    let robot = Person { world: &world, token: token.clone() };
    let who = robot.whoami().await;
    assert_eq!(who["username"], "system:serviceaccount:default:bot");
    assert_eq!(
        who["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    assert_eq!(who["uid"], uid.as_str());
    assert!(who["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap().starts_with("JTI="));

    // In a binding of its namespace its own need not be named.
    let subjects = json!([{"kind": "ServiceAccount", "name": "bot"}]);
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    assert_eq!(robot.get(&format!("{DEFAULT}/configmaps")).await.status, 403);
    world.post(&bindings, &binding("bot", ("ClusterRole", "edit"), &subjects)).await.expect(201);
    assert_eq!(robot.get(&format!("{DEFAULT}/configmaps")).await.status, 200);
    assert_eq!(robot.send("POST", &request, &[], &json!({})).await.status, 403, "edit makes no tokens");

    // The token's review, by somebody who may ask and by itself.
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let ask = |spec: Value| json!({"spec": spec});
    let review = world.post(reviews, &ask(json!({"token": token}))).await.expect(201);
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(review["status"]["user"]["uid"], uid.as_str());
    assert_eq!(robot.post(reviews, &ask(json!({"token": token}))).await.expect(201)["status"]["authenticated"], true);
    assert_eq!(robot.post(reviews, &ask(json!({"token": "another"}))).await.status, 403);
    let other = world.post(&request, &json!({"spec": {"audiences": ["vault"]}})).await.expect(201);
    let other = other["status"]["token"].as_str().unwrap().to_owned();
    assert_eq!(Person { world: &world, token: other.clone() }.get("/api").await.status, 401, "it is for others");
    let status = |answer: Answer| answer.expect(201)["status"].clone();
    assert_eq!(status(world.post(reviews, &ask(json!({"token": other}))).await)["authenticated"], false);
    let vault = status(world.post(reviews, &ask(json!({"token": other, "audiences": ["vault", "x"]}))).await);
    assert_eq!((&vault["authenticated"], &vault["audiences"]), (&json!(true), &json!(["vault"])));

    // Bound to a Secret as well.
    let secret = json!({"metadata": {"name": "holder"}});
    world.post(&format!("{DEFAULT}/secrets"), &secret).await.expect(201);
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "holder"}}});
    let bound = world.post(&request, &bound).await.expect(201)["status"]["token"].as_str().unwrap().to_owned();
    let bound = Person { world: &world, token: bound };
    assert_eq!(bound.get("/api").await.status, 200);
    world.delete(&format!("{DEFAULT}/secrets/holder"), &Value::Null).await.expect(200);
    assert_eq!(bound.get("/api").await.status, 401);

    for (spec, field) in [
        (json!({"expirationSeconds": 60}), "spec.expirationSeconds"),
        (json!({"boundObjectRef": {"kind": "Pod", "name": "p"}}), "spec.boundObjectRef.kind"),
    ] {
        let refused = world.post(&request, &json!({"spec": spec})).await.expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], field);
    }
    assert_eq!(world.post(&format!("{accounts}/nobody/token"), &json!({})).await.status, 404);
    assert_eq!(world.get(&request).await.status, 405);

    // An account of the same name is another account.
    world.delete(&format!("{accounts}/bot"), &Value::Null).await.expect(200);
    assert_eq!(robot.get("/api").await.status, 401);
    world.post(&accounts, &bot).await.expect(201);
    assert_eq!(robot.get("/api").await.status, 401);
    // Without the key there is no token.
    let fresh = world.post(&request, &json!({})).await.expect(201)["status"]["token"].as_str().unwrap().to_owned();
    let fresh = Person { world: &world, token: fresh };
    assert_eq!(fresh.get("/api").await.status, 200);
    world.delete("/api/v1/namespaces/kube-system/secrets/service-account-key", &Value::Null).await.expect(200);
    assert_eq!(fresh.get("/api").await.status, 401);
    // What every namespace has comes back.
    world.delete(&format!("{accounts}/default"), &Value::Null).await.expect(200);
    eventually("the default account again", async || world.get(&format!("{accounts}/default")).await.status == 200)
        .await;
}

#[tokio::test]
async fn who_may_acts_as_somebody_else() {
    let world = world().await;
    let as_user = |headers: &'static [&'static str]| {
        let review = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        world.send("POST", review, headers, "{}")
    };
    let bob = as_user(&[
        "Impersonate-User: bob",
        "Impersonate-Group: dev",
        "Impersonate-Uid: u1",
        "Impersonate-Extra-Reason: test",
    ]);
    assert_eq!(
        bob.await.expect(201)["status"]["userInfo"],
        json!({"username": "bob", "groups": ["dev", "system:authenticated"], "uid": "u1", "extra": {"reason": ["test"]}})
    );
    let account = as_user(&["Impersonate-User: system:serviceaccount:default:x"]).await.expect(201);
    assert!(account["status"]["userInfo"]["groups"].to_string().contains("system:serviceaccounts:default"));
    assert_eq!(as_user(&["Impersonate-Group: dev"]).await.status, 400);
    // What an administrator may as somebody else is what that one may.
    assert_eq!(world.send("GET", WIDGETS, &["Impersonate-User: bob"], "").await.status, 403);
    assert_eq!(world.send("GET", "/version", &["Impersonate-User: system:anonymous"], "").await.status, 200);
    assert_eq!(world.send("GET", "/apis", &["Impersonate-User: system:anonymous"], "").await.status, 403);

    let eve = person(&world, "eve", &[]).await;
    let refused = eve.send("GET", "/api", &["Impersonate-User: ada"], &Value::Null).await.expect(403);
    assert_eq!(
        refused["message"],
        "users \"ada\" is forbidden: User \"eve\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    // Of a group, and of no other.
    let rules = json!([
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"]},
        {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["groups"], "resourceNames": ["dev"]},
    ]);
    world.post(&format!("{RBAC}/clusterroles"), &role("actor", &rules)).await.expect(201);
    world
        .post(&format!("{RBAC}/clusterrolebindings"), &binding("actor", ("ClusterRole", "actor"), &user("eve")))
        .await
        .expect(201);
    let dev = ["Impersonate-User: zoe", "Impersonate-Group: dev"];
    assert_eq!(eve.send("GET", "/api", &dev, &Value::Null).await.status, 200);
    let masters = ["Impersonate-User: zoe", "Impersonate-Group: system:masters"];
    assert_eq!(eve.send("GET", "/api", &masters, &Value::Null).await.status, 403);
}

#[tokio::test]
async fn reviews_answer_for_oneself_and_for_others() {
    let world = world().await;
    let ann = person(&world, "ann", &[]).await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    world.post(&bindings, &binding("b", ("ClusterRole", "view"), &user("ann"))).await.expect(201);
    assert!(ann.can(json!({"verb": "list", "resource": "configmaps", "namespace": "default"})).await);
    assert!(!ann.can(json!({"verb": "list", "resource": "secrets", "namespace": "default"})).await);
    assert!(!ann.can(json!({"verb": "list", "resource": "configmaps"})).await);
    for version in ["v1beta1", "v1alpha1"] {
        let path = format!("/apis/authentication.k8s.io/{version}/selfsubjectreviews");
        let review = ann.post(&path, &json!({})).await.expect(201);
        assert_eq!(review["apiVersion"], format!("authentication.k8s.io/{version}"));
        assert_eq!(review["status"]["userInfo"]["username"], "ann");
    }
    let rules = ann
        .post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &json!({"spec": {"namespace": "default"}}))
        .await
        .expect(201);
    assert!(rules["status"]["resourceRules"].to_string().contains("configmaps"));
    assert!(rules["status"]["nonResourceRules"].to_string().contains("/openapi/*"));
    assert_eq!(rules["status"]["incomplete"], false);

    let about = |attributes: Value| json!({"spec": {"user": "ann", "resourceAttributes": attributes}});
    let maps = json!({"verb": "list", "resource": "configmaps", "namespace": "default"});
    let global = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    assert_eq!(world.post(global, &about(maps.clone())).await.expect(201)["status"]["allowed"], true);
    let local = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    assert_eq!(world.post(local, &about(maps.clone())).await.expect(201)["status"]["allowed"], true);
    assert_eq!(world.post(local, &about(json!({"verb": "get", "resource": "x", "namespace": "y"}))).await.status, 422);
    assert_eq!(world.post(global, &json!({"spec": {"resourceAttributes": maps}})).await.status, 422);
    let path = json!({"spec": {"user": "x", "groups": ["system:authenticated"], "nonResourceAttributes": {"verb": "get", "path": "/api"}}});
    assert_eq!(world.post(global, &path).await.expect(201)["status"]["allowed"], true);
    // An administrator of the namespace may ask there, and there only.
    world.post(&bindings, &binding("bob", ("ClusterRole", "admin"), &user("bob"))).await.expect(201);
    let bob = person(&world, "bob", &[]).await;
    assert_eq!(bob.post(local, &about(maps.clone())).await.expect(201)["status"]["allowed"], true);
    assert_eq!(bob.post(global, &about(maps)).await.status, 403);
}

#[tokio::test]
async fn a_new_namespace_gets_what_every_namespace_has() {
    let world = World::with(|builder| builder.ca("the certificate")).await;
    world.post("/api/v1/namespaces", &json!({"metadata": {"name": "acme"}})).await.expect(201);
    let acme = "/api/v1/namespaces/acme";
    eventually("its account", async || world.get(&format!("{acme}/serviceaccounts/default")).await.status == 200).await;
    eventually("its certificate", async || {
        let map = world.get(&format!("{acme}/configmaps/kube-root-ca.crt")).await;
        map.status == 200 && map.json()["data"]["ca.crt"] == "the certificate"
    })
    .await;
    // And it goes away as a whole.
    world.delete(acme, &Value::Null).await;
    eventually("it is gone", async || world.get(acme).await.status == 404).await;
    assert_eq!(world.delete("/api/v1/namespaces/kube-system", &Value::Null).await.status, 403);
}

#[tokio::test]
async fn nobody_creates_by_a_patch_what_they_may_only_change() {
    let world = world().await;
    let ann = person(&world, "ann", &[]).await;
    let rules = json!([{"verbs": ["get", "patch", "update"], "apiGroups": ["example.dev"], "resources": ["widgets"]}]);
    world.post(&format!("{RBAC}/namespaces/default/roles"), &role("patcher", &rules)).await.expect(201);
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    world.post(&bindings, &binding("b", ("Role", "patcher"), &user("ann"))).await.expect(201);
    let apply = ["Content-Type: application/apply-patch+yaml"];
    let path = format!("{WIDGETS}/new?fieldManager=ann");
    let status = ann.send("PATCH", &path, &apply, &widget_named("new")).await.status;
    assert!([403, 415].contains(&status.as_u16()), "{status}");
    assert_eq!(world.get(&format!("{WIDGETS}/new")).await.status, 404);
}

/// Kubernetes takes the name from the selector, so that who may see one object can follow it.
#[tokio::test]
async fn who_may_get_one_object_may_follow_it() {
    let world = world().await;
    world.widget("web").await;
    world.widget("other").await;
    let rule = json!({"apiGroups": ["example.dev"], "resources": ["widgets"], "resourceNames": ["web"], "verbs": ["get", "list", "watch"]});
    world.post(&format!("{RBAC}/namespaces/default/roles"), &role("one", &json!([rule]))).await.expect(201);
    let one = binding("one", ("Role", "one"), &user("ann"));
    world.post(&format!("{RBAC}/namespaces/default/rolebindings"), &one).await.expect(201);
    let ann = person(&world, "ann", &[]).await;
    let list = ann.get(&format!("{WIDGETS}?fieldSelector=metadata.name%3Dweb")).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let watch = format!("{WIDGETS}?watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dweb");
    assert_eq!(ann.get(&watch).await.status, 200);
    for refused in ["", "?fieldSelector=metadata.name%3Dother", "?fieldSelector=metadata.name%21%3Dweb"] {
        assert_eq!(ann.get(&format!("{WIDGETS}{refused}")).await.status, 403, "{refused}");
    }
    let delete = format!("{WIDGETS}?fieldSelector=metadata.name%3Dweb");
    assert_eq!(ann.send("DELETE", &delete, &[], &Value::Null).await.status, 403);
}

/// A role is taken apart to be compared with what its writer has; that must not be a way to keep the server busy.
#[tokio::test]
async fn nobody_writes_a_role_that_is_endless() {
    let world = world().await;
    let owner = binding("ann", ("ClusterRole", "admin"), &user("ann"));
    world.post(&format!("{RBAC}/namespaces/default/rolebindings"), &owner).await.expect(201);
    let ann = person(&world, "ann", &[]).await;
    let many: Vec<String> = (0..5_000).map(|number| format!("x{number}")).collect();
    let rule = json!({"apiGroups": many, "resources": many, "verbs": many});
    let roles = format!("{RBAC}/namespaces/default/roles");
    let refused = ann.post(&format!("{roles}?dryRun=All"), &role("big", &json!([rule]))).await.expect(403);
    assert!(refused["message"].as_str().unwrap().contains("more than 10000 combinations"), "{refused}");
    let rules: Vec<Value> =
        (0..1_001).map(|n| json!({"apiGroups": [""], "resources": [format!("r{n}")], "verbs": ["get"]})).collect();
    let refused = world.post(&roles, &role("long", &json!(rules))).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("rules: Too many: 1001"), "{refused}");
}
