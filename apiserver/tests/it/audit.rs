//! The audit log: who changed what, and that no secret gets into it.

use serde_json::{Value, json};

use apiserver::store::NewToken;

use crate::world::{WIDGETS, World, eventually, widget_named};

const LOG: &str = "/apis/audit.k8s.io/v1/auditevents";
const IN_DEFAULT: &str = "/apis/audit.k8s.io/v1/namespaces/default/auditevents";

/// What an administrator reads, the newest first.
async fn records(world: &World, path: &str) -> Vec<Value> {
    world.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

/// A record in a few words.
fn brief(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let paths: Vec<String> = record["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| change["path"].as_str().unwrap().to_owned())
        .filter(|path| !path.starts_with("metadata."))
        .collect();
    let part = text("/objectRef/subresource");
    let part = if part.is_empty() { part } else { format!("/{part}") };
    format!(
        "{} {} {}/{}{part} {} {}",
        text("/user/username"),
        text("/verb"),
        text("/objectRef/resource"),
        text("/objectRef/name"),
        record["responseStatus"]["code"],
        paths.join(",")
    )
    .trim()
    .to_owned()
}

#[tokio::test]
async fn every_mutation_is_told_with_who_and_what() {
    let world = World::new().await;
    world.widget("w").await;
    world.merge(&format!("{WIDGETS}/w"), &json!({"spec": {"size": 2}})).await.expect(200);
    world.merge(&format!("{WIDGETS}/w"), &json!({"spec": {"size": 2}})).await.expect(200);
    world.post(&format!("{WIDGETS}?dryRun=All"), &widget_named("dry")).await.expect(201);
    world.merge(&format!("{WIDGETS}/w/status"), &json!({"status": {"phase": "Ready"}})).await.expect(200);
    world.merge(&format!("{WIDGETS}/w/scale"), &json!({"spec": {"replicas": 3}})).await.expect(200);
    let answer =
        world.send("DELETE", &format!("{WIDGETS}/w"), &["User-Agent: tester/1", "Audit-Id: my-request"], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("audit-id")), (200, "my-request"));
    let all = records(&world, IN_DEFAULT).await;
    let widgets: Vec<String> = all
        .iter()
        .map(brief)
        .filter(|line| line.contains("widgets"))
        .map(|line| line.replace("update", "patch"))
        .collect();
    assert_eq!(
        widgets,
        [
            "ada delete widgets/w 200 spec.colour,spec.replicas,spec.size,status.phase",
            "ada patch widgets/w/scale 200 spec.replicas",
            "ada patch widgets/w/status 200 status.phase",
            "ada patch widgets/w 200 spec.size",
            "ada create widgets/w 201 spec.colour,spec.replicas,spec.size",
        ],
        "what changed nothing, and dry runs, are not told"
    );
    let deletion = all.iter().find(|record| record["verb"] == "delete").unwrap();
    assert_eq!((&deletion["auditID"], &deletion["userAgent"]), (&json!("my-request"), &json!("tester/1")));
    assert_eq!(deletion["apiVersion"], "audit.k8s.io/v1");
    let sized = all.iter().find(|record| brief(record).ends_with("spec.size") && record["verb"] != "create").unwrap();
    assert_eq!(sized["changes"], json!([{"path": "spec.size", "from": 1, "to": 2}]));
}

#[tokio::test]
async fn what_was_refused_is_told_and_who_acted_as_whom() {
    let world = World::new().await;
    let new = NewToken { user: "eve".into(), ..NewToken::default() };
    let (token, _) = world.store.tokens().create(new).await.unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}).to_string();
    let path = "/api/v1/namespaces/default/secrets";
    assert_eq!(world.send_as_is("POST", path, &[&bearer], secret.clone()).await.status, 403);
    assert_eq!(world.send_as_is("POST", "/api/paas/none", &[&bearer], "{}").await.status, 403);
    assert_eq!(world.send("POST", path, &["Impersonate-User: eve"], secret.clone()).await.status, 403);
    assert_eq!(world.send("POST", path, &[], secret.clone()).await.status, 201);
    assert_eq!(world.send("POST", path, &[], secret).await.status, 409);
    let change = json!({"stringData": {"password": "hunter3"}, "data": {"more": "aHVudGVyNA=="}});
    world.merge(&format!("{path}/s"), &change).await.expect(200);
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    eventually("the account", async || world.get(account).await.status == 200).await;
    let made = world.post(&format!("{account}/token"), &json!({})).await.expect(201);
    let secret_token = made["status"]["token"].as_str().unwrap();
    let expected = [
        "eve create secrets/ 403",
        "eve post / 403",
        "ada create secrets/ 403",
        "ada create secrets/s 201 data.password,type",
        "ada create secrets/ 409",
        "ada patch secrets/s 200 data.more,data.password",
        "ada create serviceaccounts/default/token 201",
    ];
    // Refusals are written a moment later.
    eventually("all of them", async || {
        let lines: Vec<String> = records(&world, LOG).await.iter().map(brief).collect();
        expected.iter().all(|line| lines.contains(&(*line).to_owned()))
    })
    .await;
    let text = world.get(&format!("{LOG}?limit=1000")).await.text;
    for secret in ["hunter", "aHVudGVy", secret_token] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    let all = records(&world, LOG).await;
    let acted = all.iter().find(|record| record.get("impersonatedUser").is_some()).unwrap();
    assert_eq!((&acted["user"]["username"], &acted["impersonatedUser"]["username"]), (&json!("ada"), &json!("eve")));
    assert!(acted["responseStatus"]["message"].as_str().unwrap().contains("cannot create"));
}

#[tokio::test]
async fn the_log_is_asked_by_those_who_may() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.widget(name).await;
    }
    let answer = world.get(&format!("{IN_DEFAULT}?resource=widgets.example.dev&limit=2")).await.expect(200);
    let name = |record: &Value| record["objectRef"]["name"].as_str().unwrap().to_owned();
    let names = |answer: &Value| answer["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>();
    assert_eq!(names(&answer), ["e", "d"]);
    let token = answer["metadata"]["continue"].as_str().unwrap();
    let next =
        world.get(&format!("{IN_DEFAULT}?resource=widgets.example.dev&limit=3&continue={token}")).await.expect(200);
    assert_eq!(names(&next), ["c", "b", "a"]);
    assert!(next["metadata"].get("continue").is_none());
    assert!(records(&world, &format!("{LOG}?user=nobody")).await.is_empty());
    assert!(records(&world, &format!("{LOG}?since=2100-01-01T00:00:00Z")).await.is_empty());
    assert_eq!(records(&world, &format!("{LOG}?since=3600&verb=create&resource=widgets.example.dev")).await.len(), 5);
    assert!(records(&world, "/apis/audit.k8s.io/v1/namespaces/other/auditevents").await.is_empty());
    for wrong in ["limit=x", "continue=x", "since=yesterday"] {
        assert_eq!(world.get(&format!("{LOG}?{wrong}")).await.status, 400, "{wrong}");
    }
    let table = "Accept: application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = world.send("GET", IN_DEFAULT, &[table], "").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][1], "ada");

    let new = NewToken { user: "eve".into(), ..NewToken::default() };
    let (token, _) = world.store.tokens().create(new).await.unwrap();
    let bearer = format!("Authorization: Bearer {token}");
    let status = async |path: &str| world.send_as_is("GET", path, &[&bearer], "").await.status.as_u16();
    assert_eq!((status(LOG).await, status(IN_DEFAULT).await), (403, 403));
    let rules = json!([{"verbs": ["list"], "apiGroups": ["audit.k8s.io"], "resources": ["auditevents"]}]);
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    world.post(&format!("{rbac}/roles"), &json!({"metadata": {"name": "auditor"}, "rules": rules})).await.expect(201);
    let binding = json!({
        "metadata": {"name": "eve"}, "subjects": [{"kind": "User", "name": "eve"}],
        "roleRef": {"kind": "Role", "name": "auditor"},
    });
    world.post(&format!("{rbac}/rolebindings"), &binding).await.expect(201);
    assert_eq!((status(LOG).await, status(IN_DEFAULT).await), (403, 200));
    let other = format!("{IN_DEFAULT}?namespace=kube-system");
    let seen = world.send_as_is("GET", &other, &[&bearer], "").await.expect(200);
    assert!(!seen.to_string().contains("kube-system"), "the path decides: {seen}");
    assert_eq!(world.send("POST", LOG, &[], "{}").await.status, 405);
}

/// What is wrong with a request is often told by quoting it.
#[tokio::test]
async fn a_refusal_does_not_quote_what_was_sent() {
    let world = World::new().await;
    world.widget("w").await;
    let typed = |path: &str| format!("{WIDGETS}{path}?fieldValidation=Strict");
    world.merge(&typed("/w"), &json!({"spec": {"password": "hunter2", "size": 1}})).await.expect(422);
    world.merge(&typed("/w"), &json!({"spec": {"colour": "hunter2"}})).await.expect(422);
    let mut wrong = widget_named("x");
    wrong["spec"]["size"] = json!("hunter2");
    world.post(WIDGETS, &wrong).await.expect(422);
    world.send("POST", WIDGETS, &[], r#"{"spec": hunter2"#).await.expect(400);
    let refused = async || {
        let found = records(&world, IN_DEFAULT).await;
        let refused = found.iter().filter(|record| record["responseStatus"]["code"].as_u64() >= Some(400));
        refused.map(Value::to_string).collect::<Vec<String>>()
    };
    eventually("they are noted", async || refused().await.len() == 4).await;
    let all = refused().await.join("\n");
    assert!(!all.contains("hunter2"), "{all}");
    assert!(all.contains("spec.colour") && all.contains("FieldValueNotSupported"), "which field, and why: {all}");
}

/// Otherwise a stranger could push everybody's doings out of the log.
#[tokio::test]
async fn what_strangers_are_refused_is_not_noted() {
    let world = World::new().await;
    for path in ["/livez/x", "/version/x"] {
        let answer = world.send_as_is("POST", path, &[], "").await;
        assert!(matches!(answer.status.as_u16(), 401 | 403), "{}", answer.text);
    }
    world.widget("w").await;
    let impersonating = ["Impersonate-User: root"];
    let new = NewToken { user: "eve".into(), ..NewToken::default() };
    let (token, _) = world.store.tokens().create(new).await.unwrap();
    let authorization = format!("Authorization: Bearer {token}");
    let headers = [authorization.as_str(), impersonating[0]];
    assert_eq!(world.send_as_is("POST", WIDGETS, &headers, "{}").await.status, 403);
    eventually("who wanted to be somebody else is noted", async || {
        let all = records(&world, LOG).await;
        all.iter().any(|record| record["verb"] == "impersonate" && record["user"]["username"] == "eve")
    })
    .await;
    let all = records(&world, LOG).await;
    assert!(!all.iter().any(|record| record["user"]["username"] == "system:anonymous"), "{all:?}");
}
