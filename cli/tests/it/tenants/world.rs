//! A server with three projects of two customers, those who work in them, and one object of each kind in each.

use std::path::Path;
use std::time::Duration;

use http::Request;
use kube::Client;
use kube::client::Body;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::policy::{ROLES, Resource};
use crate::berth::{Server, free_port};

/// Everything here is answered within milliseconds; a slow machine gets this long.
const PATIENCE: Duration = Duration::from_mins(1);
/// In every object of the other customer, and in nothing that these people may see.
pub(super) const TAG: &str = "tag-5b1f7c9e2d";
/// The customer's project, in which its people have their roles.
pub(super) const OWN: &str = "acme";
/// Another project of the same customer, in which the same people may only look.
pub(super) const SECOND: &str = "acme-second";
/// The project of another customer.
pub(super) const OTHER: &str = "bolt";
/// The name of what is there in the customer's projects.
pub(super) const MINE: &str = "mine";
/// The name of what is there in the other's, which can be guessed.
pub(super) const GUESS: &str = "guess";

/// Whoever has no credential.
const ANONYMOUS: &str = "anonymous";

/// Somebody with a credential, or with none.
pub(super) struct Person {
    client: Client,
    pub(super) name: String,
    /// The role in the customer's project, and the one in its second project.
    pub(super) role: Option<&'static str>,
    pub(super) second: Option<&'static str>,
    /// The verbs that the credential is good for, and only in the customer's project; all that the role has, otherwise.
    pub(super) scope: Option<&'static [&'static str]>,
}

impl Person {
    /// With the credential of a kubeconfig, or with that of another kind in its place.
    async fn with(file: &Path, credential: Option<Value>, name: &str) -> Self {
        let mut config = Kubeconfig::read_from(file).unwrap();
        if let Some(credential) = credential {
            let credential: AuthInfo = serde_json::from_value(credential).unwrap();
            config.auth_infos.iter_mut().for_each(|named| named.auth_info = Some(credential.clone()));
        }
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        Self { client, name: name.to_owned(), role: None, second: None, scope: None }
    }

    pub(super) fn is_anonymous(&self) -> bool {
        self.name == ANONYMOUS
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> (u16, String) {
        // A body of a deletion would stand above its query, which says that nothing is to be done.
        let none = matches!(method, "GET" | "DELETE") || body.is_null();
        let body = if none { Vec::new() } else { body.to_string().into_bytes() };
        let mut request = Request::builder().method(method).uri(path).header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let answer = async {
            let response = self.client.send(request).await.unwrap();
            let status = response.status().as_u16();
            let bytes = response.into_body().collect_bytes().await.unwrap();
            (status, String::from_utf8_lossy(&bytes).into_owned())
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_elapsed| panic!("too slow: {method} {path}"))
    }

    pub(super) async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send(method, path, "application/json", &[], body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

pub(super) struct World {
    folder: tempfile::TempDir,
    server: Server,
    pub(super) admin: Person,
    /// Those of the customer's project, and two who have nothing in it: one without a role, one without a credential.
    pub(super) people: Vec<Person>,
    pub(super) anonymous: Person,
    /// The owner of the other's project.
    pub(super) other: Person,
}

impl World {
    pub(super) async fn make() -> Self {
        // Another test of this process may have been first.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), free_port());
        let admin = Person::with(&server.kubeconfig(), None, "admin").await;
        let anonymous = Person::with(&server.kubeconfig(), Some(json!({})), ANONYMOUS).await;
        let other = Person::with(&server.kubeconfig(), Some(json!({})), "not issued yet").await;
        let mut world = Self { folder, server, admin, people: Vec::new(), anonymous, other };
        for name in [OWN, SECOND, OTHER] {
            let tagged = if name == OTHER { TAG } else { "no" };
            let namespace = json!({"metadata": {"name": name, "labels": {"tagged": tagged}}});
            world.made("/api/v1/namespaces", namespace).await;
        }
        for role in ROLES {
            let name = format!("acme-{role}");
            let user = json!({"kind": "User", "name": name});
            world.bind(OWN, role, &name, &user).await;
            world.bind(SECOND, "view", &name, &user).await;
            let person = Person { role: Some(role), second: Some("view"), ..world.issued(&name).await };
            world.people.push(person);
        }
        world.people.push(world.issued("nobody").await);
        let account = world.account().await;
        let token = world.token().await;
        world.people.extend([account, token]);
        world.bind(OTHER, "owner", TAG, &json!({"kind": "User", "name": "bolt-owner"})).await;
        world.other = world.issued("bolt-owner").await;
        world
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.admin.json("POST", path, &body).await;
        assert_eq!(status, 201, "{path}: {answer}");
        answer
    }

    async fn bind(&self, namespace: &str, role: &str, name: &str, subject: &Value) {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
        let role_ref = json!({"kind": "ClusterRole", "name": role});
        let body = json!({"metadata": {"name": name}, "subjects": [subject], "roleRef": role_ref});
        self.made(&path, body).await;
    }

    /// Somebody with a certificate.
    async fn issued(&self, name: &str) -> Person {
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (data, out) = (path(&self.server.data), path(&file));
        let made = self.server.berth(&["user", "certificate", name, "--data", &data, "--out", &out], "");
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        Person::with(&file, None, name).await
    }

    /// A program of the project, with a token of its service account.
    async fn account(&self) -> Person {
        let accounts = format!("/api/v1/namespaces/{OWN}/serviceaccounts");
        self.made(&accounts, json!({"metadata": {"name": "robot"}})).await;
        self.bind(OWN, "edit", "robot", &json!({"kind": "ServiceAccount", "name": "robot", "namespace": OWN})).await;
        let answer = self.made(&format!("{accounts}/robot/token"), json!({"spec": {}})).await;
        let person = self.bearing(&answer["status"]["token"], "acme-robot").await;
        Person { role: Some("edit"), ..person }
    }

    /// A program with a token that an editor of both projects has made for reading in the first one.
    async fn token(&self) -> Person {
        let password = "correct horse battery";
        let made = self.server.berth(&["user", "create", "eve", "--password-file", "-"], password);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        for namespace in [OWN, SECOND] {
            self.bind(namespace, "edit", "eve", &json!({"kind": "User", "name": "eve"})).await;
        }
        let session = json!({"username": "eve", "password": password});
        let (status, session) = self.anonymous.json("POST", "/api/paas/v1/sessions", &session).await;
        assert_eq!(status, 201, "{session}");
        let session = self.bearing(&session["token"], "eve").await;
        let scope = json!({"verbs": ["get", "list"], "resources": ["*"], "namespaces": [OWN]});
        let wish = json!({"description": "reads", "scope": scope});
        let (status, answer) = session.json("POST", "/api/paas/v1/tokens", &wish).await;
        assert_eq!(status, 201, "{answer}");
        let person = self.bearing(&answer["token"], "eve's token").await;
        Person { role: Some("edit"), scope: Some(&["get", "list"]), ..person }
    }

    async fn bearing(&self, token: &Value, name: &str) -> Person {
        Person::with(&self.server.kubeconfig(), Some(json!({"token": token})), name).await
    }

    /// Puts something of each kind into each project. In the other customer's, one has a name that can be guessed and the
    /// tag inside; one has the tag in the name.
    pub(super) async fn fill(&self, resources: &[Resource]) {
        let listed = |r: &&Resource| {
            r.part.is_empty() && ["list", "create"].iter().all(|verb| r.verbs.iter().any(|v| v == verb))
        };
        for resource in resources.iter().filter(listed) {
            let places: &[(Option<&str>, &str, &str)] = if resource.namespaced {
                &[
                    (Some(OWN), MINE, "no"),
                    (Some(SECOND), MINE, "no"),
                    (Some(OTHER), GUESS, TAG),
                    (Some(OTHER), TAG, TAG),
                ]
            } else if ["plans", "runtimes"].contains(&resource.plural.as_str()) {
                &[(None, MINE, "no")]
            } else {
                &[]
            };
            for (namespace, name, tag) in places {
                let body = object(resource, name, tag, namespace.unwrap_or_default());
                let (status, answer) = self.admin.json("POST", &resource.path(*namespace, None), &body).await;
                // Events of both groups are the same objects.
                assert!(status == 201 || status == 409, "{}: {answer}", resource.qualified());
            }
        }
    }
}

/// A valid object of a kind, with the tag wherever somebody could put something.
pub(super) fn object(resource: &Resource, name: &str, tag: &str, namespace: &str) -> Value {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kinds");
    let singular = resource.plural.trim_end_matches('s');
    let mut body: Value = match std::fs::read_to_string(examples.join(format!("{singular}.yaml"))) {
        Ok(text) if resource.group == crds::GROUP => serde_saphyr::from_str(&text).unwrap(),
        _ => json!({}),
    };
    body["metadata"] = json!({"name": name, "labels": {"tagged": tag}, "annotations": {"note": tag}});
    let asked = json!({"verb": "get", "resource": "pods", "namespace": namespace});
    match resource.plural.as_str() {
        "applications" => {
            body["spec"]["running"] = json!(false);
            body["spec"]["env"] = json!([{"name": "TAG", "value": tag}]);
            body["spec"]["domains"] = json!([]);
        }
        "secrets" => body["stringData"] = json!({"key": tag}),
        "configmaps" => body["data"] = json!({"key": tag}),
        "rolebindings" => {
            body["roleRef"] = json!({"kind": "ClusterRole", "name": "view"});
            body["subjects"] = json!([{"kind": "User", "name": tag}]);
        }
        "events" if resource.group.is_empty() => {
            body["involvedObject"] = json!({"kind": "ConfigMap", "name": tag, "namespace": namespace});
            body["message"] = json!(tag);
        }
        "events" => {
            body["regarding"] = json!({"kind": "ConfigMap", "name": tag, "namespace": namespace});
            body["note"] = json!(tag);
            body["eventTime"] = json!("2026-01-01T00:00:00.000000Z");
            for (field, text) in [("action", "Try"), ("reason", "Tried"), ("type", "Normal")] {
                body[field] = json!(text);
            }
            body["reportingController"] = json!("berth.dev/tests");
            body["reportingInstance"] = json!("tests");
        }
        "localsubjectaccessreviews" | "subjectaccessreviews" => {
            body = json!({"metadata": {"namespace": namespace}, "spec": {"user": "somebody", "resourceAttributes": asked}});
        }
        "selfsubjectaccessreviews" => body = json!({"spec": {"resourceAttributes": asked}}),
        "selfsubjectrulesreviews" => body = json!({"spec": {"namespace": OWN}}),
        "selfsubjectreviews" | "tokenreviews" => body = json!({}),
        _ => {}
    }
    if resource.part == "token" {
        body = json!({"spec": {}});
    }
    body
}
