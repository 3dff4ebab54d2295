//! The tenant matrix: every route, kind, verb and subresource that the server has, called by the people of one project
//! against their own and against another customer's.
//!
//! What there is comes from the server's discovery and from the sources; who may do what comes from `tenants.policy`.
//! What stands in one and not in the other fails: no route without a record of who may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use http::Request;
use kube::Client;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use crate::berth::{Server, free_port};

/// Everything here is answered within milliseconds; a slow machine gets this long.
const PATIENCE: Duration = Duration::from_mins(1);
const POLICY: &str = include_str!("tenants.policy");
/// In every object of the other customer, and in nothing that these people may see.
const TAG: &str = "tag-5b1f7c9e2d";

const READ: [&str; 3] = ["get", "list", "watch"];
const WRITE: [&str; 5] = ["create", "delete", "deletecollection", "patch", "update"];

/// Who has what, as `tenants.policy` says it.
struct Policy {
    /// By `resource.group` or `resource.group/part`: for each role the verbs.
    resources: BTreeMap<String, BTreeMap<&'static str, BTreeSet<String>>>,
    /// By path: who.
    paths: BTreeMap<String, String>,
}

const ROLES: [&str; 4] = ["view", "edit", "owner", "admin"];

impl Policy {
    fn read() -> Self {
        let mut policy = Self { resources: BTreeMap::new(), paths: BTreeMap::new() };
        for line in POLICY.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [path, who] = words[..] {
                policy.paths.insert(path.to_owned(), who.to_owned());
                continue;
            }
            let [resource, roles @ ..] = &words[..] else { panic!("{line}") };
            assert_eq!(roles.len(), ROLES.len(), "{line}");
            let verbs = ROLES.iter().zip(roles).map(|(role, verbs)| {
                let verbs = verbs.split('+').flat_map(|word| match word {
                    "-" => Vec::new(),
                    "read" => READ.to_vec(),
                    "write" => WRITE.to_vec(),
                    verb => vec![verb],
                });
                (*role, verbs.map(str::to_owned).collect())
            });
            assert!(policy.resources.insert((*resource).to_owned(), verbs.collect()).is_none(), "{resource} twice");
        }
        policy
    }

    fn allows(&self, resource: &Resource, role: &str, verb: &str) -> bool {
        self.resources[&resource.qualified()][role].contains(verb)
    }
}

/// A row of discovery.
#[derive(Clone, Debug)]
struct Resource {
    group: String,
    version: String,
    plural: String,
    part: String,
    namespaced: bool,
    verbs: Vec<String>,
}

impl Resource {
    fn qualified(&self) -> String {
        let of = if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) };
        if self.part.is_empty() { of } else { format!("{of}/{}", self.part) }
    }

    /// The path of the collection or, with a name, of the object or its part.
    fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", self.group) };
        let mut segments = vec![root.as_str(), &self.version];
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            segments.extend(["namespaces", namespace]);
        }
        segments.push(&self.plural);
        if let Some(name) = name {
            segments.push(name);
            if !self.part.is_empty() {
                segments.push(&self.part);
            }
        }
        segments.join("/")
    }

    /// Method, path and content type of a verb; nothing is changed by any of them.
    fn request(&self, verb: &str, namespace: Option<&str>, name: &str) -> (&'static str, String, &'static str) {
        let json = "application/json";
        let all = self.path(namespace, None);
        // Parts and reviews are always of something; a review is of nothing.
        let one = self.path(namespace, Some(name));
        match verb {
            "get" => ("GET", one, json),
            "list" => ("GET", all, json),
            "watch" => ("GET", format!("{all}?watch=true&timeoutSeconds=1"), json),
            "create" if self.part.is_empty() => ("POST", format!("{all}?dryRun=All"), json),
            "create" => ("POST", format!("{one}?dryRun=All"), json),
            "update" => ("PUT", format!("{one}?dryRun=All"), json),
            "patch" => ("PATCH", format!("{one}?dryRun=All"), "application/merge-patch+json"),
            "delete" => ("DELETE", format!("{one}?dryRun=All"), json),
            "deletecollection" => ("DELETE", format!("{all}?dryRun=All&labelSelector=no=such"), json),
            other => panic!("{other} of {}", self.qualified()),
        }
    }
}

/// Somebody with a certificate, and everything they were ever sent.
struct Person {
    client: Client,
    name: String,
}

impl Person {
    async fn with(file: &Path, name: &str) -> Self {
        let config = Kubeconfig::read_from(file).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        Self { client: Client::try_from(config).unwrap(), name: name.to_owned() }
    }

    async fn send(
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

    async fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.send(method, path, "application/json", &[], body).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

/// Every resource and part that the server says it has.
async fn discover(admin: &Person) -> Vec<Resource> {
    let mut all = Vec::new();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let (status, text) = admin.send("GET", root, "application/json", &[("accept", accept)], &Value::Null).await;
        assert_eq!(status, 200, "{text}");
        let document: Value = serde_json::from_str(&text).unwrap();
        for group in document["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                for row in version["resources"].as_array().unwrap() {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    let verbs = |row: &Value| row["verbs"].as_array().unwrap().iter().map(text).collect();
                    let resource = Resource {
                        group: text(&group["metadata"]["name"]),
                        version: text(&version["version"]),
                        plural: text(&row["resource"]),
                        part: String::new(),
                        namespaced: row["scope"] == "Namespaced",
                        verbs: verbs(row),
                    };
                    for part in row["subresources"].as_array().into_iter().flatten() {
                        all.push(Resource { part: text(&part["subresource"]), verbs: verbs(part), ..resource.clone() });
                    }
                    all.push(resource);
                }
            }
        }
    }
    assert!(all.len() > 25, "{all:?}");
    all
}

struct World {
    _folder: tempfile::TempDir,
    _server: Server,
    admin: Person,
    /// Of the project `acme`, by role; `nobody` has none.
    people: BTreeMap<&'static str, Person>,
    /// The owner of the project `bolt`.
    other: Person,
}

async fn world() -> World {
    // Another test of this process may have been first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), free_port());
    let admin = Person::with(&server.kubeconfig(), "admin").await;
    let issue = async |name: &str| {
        let file = folder.path().join(format!("{name}.kubeconfig"));
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (data, out) = (path(&server.data), path(&file));
        let made = server.berth(&["user", "certificate", name, "--data", &data, "--out", &out], "");
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        Person::with(&file, name).await
    };
    let made = async |path: &str, body: Value| {
        let (status, answer) = admin.json("POST", path, &body).await;
        assert_eq!(status, 201, "{path}: {answer}");
    };
    let bind = async |namespace: &str, role: &str, user: &str| {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
        let subject = json!({"kind": "User", "name": user});
        let role_ref = json!({"kind": "ClusterRole", "name": role});
        made(&path, json!({"metadata": {"name": format!("{TAG}-{user}").replace(TAG, if namespace == "bolt" { TAG } else { "own" })}, "subjects": [subject], "roleRef": role_ref})).await;
    };
    for namespace in ["acme", "bolt"] {
        made("/api/v1/namespaces", json!({"metadata": {"name": namespace, "labels": {"tagged": if namespace == "bolt" { TAG } else { "no" }}}})).await;
    }
    let mut people = BTreeMap::new();
    for role in ROLES {
        let name = format!("acme-{role}");
        bind("acme", role, &name).await;
        people.insert(role, issue(&name).await);
    }
    people.insert("nobody", issue("nobody").await);
    bind("bolt", "owner", "bolt-owner").await;
    let other = issue("bolt-owner").await;
    World { _folder: folder, _server: server, admin, people, other }
}

/// Puts something with the tag into the other customer's project for each kind there is. One object of each kind has a
/// name that can be guessed, and the tag inside; the others have it in the name.
async fn fill(world: &World, resources: &[Resource]) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kinds");
    for resource in
        resources.iter().filter(|r| r.namespaced && r.part.is_empty() && r.verbs.iter().any(|v| v == "list"))
    {
        if !resource.verbs.iter().any(|verb| verb == "create") {
            continue;
        }
        for name in ["guess", TAG] {
            let singular = resource.plural.trim_end_matches('s');
            let mut body: Value = match std::fs::read_to_string(examples.join(format!("{singular}.yaml"))) {
                Ok(text) if resource.group == crds::GROUP => serde_saphyr::from_str(&text).unwrap(),
                _ => json!({}),
            };
            body["metadata"] = json!({"name": name, "labels": {"tagged": TAG}, "annotations": {"note": TAG}});
            match resource.plural.as_str() {
                "applications" => {
                    body["spec"]["running"] = json!(false);
                    body["spec"]["env"] = json!([{"name": "TAG", "value": TAG}]);
                    body["spec"]["domains"] = json!([]);
                }
                "secrets" => body["stringData"] = json!({"key": TAG}),
                "configmaps" => body["data"] = json!({"key": TAG}),
                "rolebindings" => {
                    body["roleRef"] = json!({"kind": "ClusterRole", "name": "view"});
                    body["subjects"] = json!([{"kind": "User", "name": TAG}]);
                }
                "events" if resource.group.is_empty() => {
                    body["involvedObject"] = json!({"kind": "ConfigMap", "name": TAG, "namespace": "bolt"});
                    body["message"] = json!(TAG);
                }
                "events" => continue,
                _ => {}
            }
            let (status, answer) = world.admin.json("POST", &resource.path(Some("bolt"), None), &body).await;
            assert!(status == 201 || status == 409, "{}: {answer}", resource.qualified());
        }
    }
}

/// Whose call it was, of whose things, whether it should be allowed, and what came.
type Told = (String, &'static str, bool, u16, String);

/// One verb as one person: on their own project's, on the other's, and on everybody's at once.
async fn ask(policy: &Policy, resource: &Resource, verb: &str, role: &str, person: &Person) -> Vec<Told> {
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let is_namespace = resource.plural == "namespaces";
    let allowed = role != "nobody" && policy.allows(resource, role, verb);
    let everybody = policy.allows(resource, "view", verb);
    // Nobody may bind a role that is not there.
    let body = match resource.plural.as_str() {
        "rolebindings" => json!({"metadata": {"name": "new"}, "roleRef": {"kind": "ClusterRole", "name": "view"}}),
        _ => json!({}),
    };
    let mut told = Vec::new();
    let mut call = async |what, expected, (method, path, content): (&str, String, &str)| {
        let (status, text) = person.send(method, &path, content, &table, &body).await;
        told.push((person.name.clone(), what, expected, status, text));
    };
    // Their own: a name that is not there, so that nothing happens.
    let own = if is_namespace { "acme" } else { "missing" };
    let expected = if resource.namespaced || is_namespace { allowed } else { everybody };
    call("of their own", expected, resource.request(verb, Some("acme"), own)).await;
    if !resource.namespaced && !is_namespace {
        return told;
    }
    // The other's: there, and not there.
    for name in ["guess", "missing"] {
        let name = if is_namespace { "bolt" } else { name };
        call("of the other", false, resource.request(verb, Some("bolt"), name)).await;
    }
    if matches!(verb, "list" | "watch") {
        call("of everybody", false, resource.request(verb, None, "")).await;
    }
    told
}

/// Whether a status is a refusal for lack of rights.
fn is_refused(status: u16) -> bool {
    matches!(status, 401 | 403)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_customer_sees_or_touches_what_is_anothers() {
    let policy = Policy::read();
    let world = world().await;
    let resources = discover(&world.admin).await;
    fill(&world, &resources).await;

    let known: BTreeSet<String> = resources.iter().map(Resource::qualified).collect();
    let unknown: Vec<&String> = known.iter().filter(|name| !policy.resources.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "say in cli/tests/it/tenants.policy who may do what with {unknown:?}");
    let gone: Vec<&String> = policy.resources.keys().filter(|name| !known.contains(*name)).collect();
    assert!(gone.is_empty(), "cli/tests/it/tenants.policy tells of what is not there: {gone:?}");

    // The tag is where it should be, so that not finding it elsewhere means something.
    for resource in resources.iter().filter(|r| r.qualified() == "secrets" || r.qualified() == "applications.berth.dev")
    {
        let (method, path, _) = resource.request("list", Some("bolt"), "");
        let (status, text) = world.other.send(method, &path, "application/json", &[], &Value::Null).await;
        assert!(status == 200 && text.contains(TAG), "{path}: {status}");
    }

    let mut wrong = Vec::new();
    let mut calls = 0;
    for resource in &resources {
        for verb in &resource.verbs {
            // Side by side, because a watch that is allowed lasts a second.
            let asked = world.people.iter().map(|(role, person)| ask(&policy, resource, verb, role, person));
            for (name, what, expected, status, text) in futures::future::join_all(asked).await.into_iter().flatten() {
                calls += 1;
                let fault = if text.contains(TAG) {
                    "the answer has the other's tag"
                } else if status >= 500 {
                    "the server failed"
                } else if expected == is_refused(status) {
                    if expected { "it should be allowed" } else { "it should be refused" }
                } else {
                    continue;
                };
                wrong.push(format!("{name} {verb} {} {what}: {status}: {fault}", resource.qualified()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls > 1_000, "{calls}");
}

/// The paths that stand in the sources.
fn routes() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    let mut open = ["apiserver/src", "controller/src", "cli/src"].map(|folder| root.join(folder)).to_vec();
    let pattern = regex::Regex::new(r#"\.route\(\s*"([^"]+)""#).unwrap();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Servers that tests bring along are in files of their own, or end with the file.
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            found.extend(pattern.captures_iter(text).map(|captures| captures[1].to_owned()));
        }
    }
    assert!(found.len() > 20, "{found:?}");
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_is_without_a_record_of_who_may_use_it() {
    let policy = Policy::read();
    let found = routes();
    let unknown: Vec<&String> = found.iter().filter(|path| !policy.paths.contains_key(*path)).collect();
    assert!(unknown.is_empty(), "say in cli/tests/it/tenants.policy who may use {unknown:?}");
    let gone: Vec<&String> = policy.paths.keys().filter(|path| !found.contains(*path)).collect();
    assert!(gone.is_empty(), "cli/tests/it/tenants.policy tells of paths that are not there: {gone:?}");

    let world = world().await;
    let resources = discover(&world.admin).await;
    fill(&world, &resources).await;
    let own = json!({"metadata": {"name": "shop"}, "spec": {"plan": "small", "running": false, "source": {"image": {"reference": "berth/hello:1"}}}});
    let (status, answer) =
        world.admin.json("POST", "/apis/berth.dev/v1alpha1/namespaces/acme/applications", &own).await;
    assert_eq!(status, 201, "{answer}");
    let mut wrong = Vec::new();
    for (path, who) in &policy.paths {
        // Resources have a matrix of their own.
        if who == "resources" {
            continue;
        }
        let filled = |namespace: &str, name: &str| {
            path.replace("{namespace}", namespace)
                .replace("{name}", name)
                .replace("{check}", "ping")
                .replace("{uid}", "00000000-0000-0000-0000-000000000000")
                .replace("{id}", "nothing")
                .replace("{stream}", "1")
                .replace("{*path}", "api/v1")
        };
        let body = match path.rsplit('/').next() {
            Some("scale") => json!({"instances": 1}),
            Some("rollback") => json!({"release": null}),
            _ => json!({}),
        };
        for method in ["GET", "POST", "DELETE"] {
            for (role, person) in &world.people {
                let (status, text) = person.send(method, &filled("acme", "shop"), "application/json", &[], &body).await;
                let (theirs, foreign) =
                    person.send(method, &filled("bolt", "guess"), "application/json", &[], &body).await;
                let mut fault =
                    |what: &str| wrong.push(format!("{} {method} {path}: {what}: {status} {theirs}", person.name));
                if text.contains(TAG) || foreign.contains(TAG) {
                    fault("the answer has the other's tag");
                }
                if status >= 500 || theirs >= 500 {
                    fault("a failure of the server");
                }
                match (who.as_str(), *role) {
                    ("everybody" | "public", _) if method == "GET" && is_refused(status) => {
                        fault("it is for everybody");
                    }
                    ("own", _) if !matches!(status, 403..=405) => fault("it is nobody else's"),
                    ("signin", _) if !matches!(status, 400 | 403 | 405) => fault("nobody has signed in"),
                    ("project", _) if !matches!(theirs, 403..=405) => fault("the other's was not hidden"),
                    ("project", "nobody") if !matches!(status, 403..=405) => fault("who has no role got in"),
                    ("project", "edit" | "owner" | "admin")
                        if is_refused(status) && method != "DELETE" && !path.ends_with("logs") =>
                    {
                        fault("the project's people were refused");
                    }
                    ("admin" | "node", _) if !matches!(status, 400..=405) => fault("it is not for customers"),
                    ("admin", _) if status != 403 => fault("it is refused before it is looked at"),
                    _ => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
