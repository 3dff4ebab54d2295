//! Rules against Kubernetes' public cases; the index against a slow reading of the same objects; the laws.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Scope;
use super::escalation::uncovered;
use super::*;
use crate::store::{Key, Settings, Write};

/// `verbs|groups|resources|names` or `verbs|paths`, lists with commas; `-` for the core group.
fn rule(text: &str) -> Rule {
    let list = |part: &str| -> Vec<String> {
        part.split(',').filter(|s| !s.is_empty()).map(|s| if s == "-" { String::new() } else { s.to_owned() }).collect()
    };
    match text.split('|').collect::<Vec<_>>()[..] {
        [verbs, paths] => Rule { verbs: list(verbs), paths: list(paths), ..Rule::default() },
        [verbs, groups, resources, names] => Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            paths: Vec::new(),
        },
        _ => panic!("{text}"),
    }
}

/// `verb group resource[/sub] [name]` or `verb /path`.
fn wanted(text: &str) -> Attributes {
    let parts: Vec<&str> = text.split(' ').collect();
    if parts[1].starts_with('/') {
        return Attributes::of_path(parts[0], parts[1]);
    }
    let (resource, subresource) = parts[2].split_once('/').unwrap_or((parts[2], ""));
    Attributes {
        verb: parts[0].into(),
        group: if parts[1] == "-" { String::new() } else { parts[1].into() },
        resource: resource.into(),
        subresource: subresource.into(),
        name: (*parts.get(3).unwrap_or(&"")).into(),
        ..Attributes::default()
    }
}

#[test]
fn a_rule_matches_as_it_does_in_kubernetes() {
    // The cases of Kubernetes' `TestRuleMatches` and `TestSubjectLocator`, said anew.
    #[rustfmt::skip]
    let cases: [(&str, &[&str], &[&str]); 12] = [
        ("*|*|*|", &["get - pods", "anything any.group things/part n"], &["get /version"]),
        ("get|-|pods|", &["get - pods", "get - pods web"], &["list - pods", "get apps pods", "get - pods/log", "get - pod"]),
        ("get,list|-,apps|pods,deployments|", &["list apps deployments", "get - pods"], &["watch - pods", "get batch pods"]),
        ("get|-|pods/log|", &["get - pods/log"], &["get - pods", "get - pods/exec", "get - nodes/log"]),
        ("get|-|*/log|", &["get - pods/log", "get - nodes/log x"], &["get - pods", "get - log", "get - pods/logs"]),
        ("*|*|*/*|", &[], &["get - pods", "get - pods/log"]),
        ("update|*|*/scale|", &["update apps deployments/scale", "update berth.dev applications/scale"], &["update apps deployments"]),
        ("get|-|pods|web,api", &["get - pods web", "get - pods api"], &["get - pods", "get - pods other", "list - pods"]),
        ("get|-|*|only", &["get - pods only", "get - pods/log only"], &["get - pods", "get - pods others"]),
        ("get|/version,/apis/*", &["get /version", "get /apis/", "get /apis/a/b"], &["get /version/", "post /version", "get /apis", "get - version"]),
        ("*|*", &["get /", "post /anything/at/all"], &["get - pods"]),
        ("get|/a*b,/exact*", &["get /exact", "get /exactly/this"], &["get /axb", "get /a"]),
    ];
    for (text, allowed, refused) in cases {
        let rule = rule(text);
        for case in allowed {
            assert!(rule.allows(&wanted(case)), "{text} should allow {case}");
        }
        for case in refused {
            assert!(!rule.allows(&wanted(case)), "{text} should not allow {case}");
        }
    }
}

#[test]
fn what_covers_what_is_as_in_kubernetes() {
    // The cases of Kubernetes' `TestCovers`, said anew: owner, wanted, whether nothing is missing.
    #[rustfmt::skip]
    let cases: [(&[&str], &[&str], bool); 20] = [
        (&["get|v1|pods|"], &["get|v1|pods|"], true),
        (&["get,list|v1|pods|"], &["get|v1|pods|", "list|v1|pods|"], true),
        (&["get|v1|pods|", "list|v1|pods|"], &["get,list|v1|pods|"], true),
        (&["get|v1|pods,nodes|"], &["list|v1|pods|"], false),
        (&["*|v1|pods|"], &["get,list,made-up|v1|pods|"], true),
        (&["get,list|v1|pods|"], &["*|v1|pods|"], false),
        (&["get|*|pods|"], &["get|v1,v2|pods|"], true),
        (&["get|v1,v2|pods|"], &["get|*|pods|"], false),
        (&["get|v1|*|"], &["get|v1|pods,nodes,pods/log|"], true),
        (&["get|v1|pods,nodes|"], &["get|v1|*|"], false),
        (&["get|v1|*/scale|"], &["get|v1|pods/scale,nodes/scale|"], true),
        (&["get|v1|*/scale|"], &["get|v1|pods|"], false),
        (&["get|v1|pods/scale|"], &["get|v1|*/scale|"], false),
        (&["get|v1|pods|a"], &["get|v1|pods|"], false),
        (&["get|v1|pods|a,b"], &["get|v1|pods|b"], true),
        (&["get|v1|pods|a", "get|v1|pods|b"], &["get|v1|pods|a,b"], true),
        (&["get|v1|pods|"], &["get|v1|pods|a"], true),
        (&["get|/foo/*"], &["get|/foo/bar"], true),
        (&["get|/foo/*"], &["get|/foo/bar,/other"], false),
        (&["get|/foo/bar"], &["get|/foo/*"], false),
    ];
    for (own, asked, covered) in cases {
        let rules = |texts: &[&str]| texts.iter().map(|text| rule(text)).collect::<Vec<_>>();
        assert_eq!(uncovered(&rules(own), &rules(asked)).is_empty(), covered, "{own:?} {asked:?}");
    }
}

fn word(list: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(list).prop_map(str::to_owned)
}

const VERBS: &[&str] = &["get", "list", "create", "*"];
const GROUPS: &[&str] = &["", "apps", "*"];
const RESOURCES: &[&str] = &["pods", "pods/log", "nodes", "*/log", "*"];
const NAMES: &[&str] = &["a", "b"];
const PATHS: &[&str] = &["/a", "/a/b", "/a/*", "*"];

fn any_rule() -> impl Strategy<Value = Rule> {
    use prop::collection::vec;
    let resources =
        (vec(word(VERBS), 1..3), vec(word(GROUPS), 1..3), vec(word(RESOURCES), 1..3), vec(word(NAMES), 0..3));
    prop_oneof![
        4 => resources.prop_map(|(verbs, groups, resources, names)| Rule { verbs, groups, resources, names, paths: vec![] }),
        1 => (vec(word(VERBS), 1..3), vec(word(PATHS), 1..3)).prop_map(|(verbs, paths)| Rule { verbs, paths, ..Rule::default() }),
    ]
}

fn any_request() -> impl Strategy<Value = Attributes> {
    let object = (
        word(&["get", "list", "create", "delete"]),
        word(&["", "apps"]),
        word(&["pods", "nodes"]),
        word(&["", "log"]),
        word(&["", "a", "b", "c"]),
        word(&["", "one", "two"]),
    )
        .prop_map(|(verb, group, resource, subresource, name, namespace)| Attributes {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            ..Attributes::default()
        });
    let path = (word(&["get", "create"]), word(&["/a", "/a/b", "/c"]))
        .prop_map(|(verb, path)| Attributes::of_path(&verb, &path));
    prop_oneof![5 => object, 1 => path]
}

proptest! {
    /// Otherwise somebody could give away what they do not have.
    #[test]
    fn what_is_covered_allows_nothing_new(
        own in prop::collection::vec(any_rule(), 0..4),
        asked in prop::collection::vec(any_rule(), 0..3),
        request in any_request(),
    ) {
        let missing = uncovered(&own, &asked);
        if missing.is_empty() && asked.iter().any(|rule| rule.allows(&request)) {
            prop_assert!(own.iter().any(|rule| rule.allows(&request)));
        }
        // And with what is missing, it is all there.
        let all: Vec<Rule> = own.into_iter().chain(missing).collect();
        prop_assert!(uncovered(&all, &asked).is_empty());
    }

    /// A credential with a scope can do less, never more.
    #[test]
    fn a_scope_only_takes_away(rules in prop::collection::vec(any_rule(), 0..3), request in any_request()) {
        let scope = Scope { rules, namespaces: vec!["one".to_owned()], ..Scope::default() };
        prop_assert!(!(scope.allows(&request) && request.namespace == "two"));
    }
}

struct Cluster {
    store: Store,
    rbac: Rbac,
    tables: Tables,
}

impl Cluster {
    async fn new() -> Self {
        let kinds = Kinds::new(crate::core_kinds::all()).unwrap();
        let store = Store::open_in_memory(kinds.tables(), Settings::default()).await.unwrap();
        let rbac = Rbac::new(store.clone(), &kinds).unwrap();
        Self { tables: Tables::of(&kinds).unwrap(), store, rbac }
    }

    async fn put(&self, kind: KindId, namespace: &str, name: &str, mut body: Value) {
        let key = Key::new(kind, namespace, name);
        body["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
        body["kind"] = "OneOfFour".into();
        body["metadata"] = json!({"name": name, "uid": format!("{}/{namespace}/{name}", kind.0)});
        if !namespace.is_empty() {
            body["metadata"]["namespace"] = namespace.into();
        }
        let write = match self.store.get(&key) {
            Some(old) => Write::Replace { key, expected_revision: old.revision, body },
            None => Write::Create { key, body },
        };
        self.store.write(write).await.unwrap();
    }

    async fn remove(&self, kind: KindId, namespace: &str, name: &str) {
        let key = Key::new(kind, namespace, name);
        if let Some(old) = self.store.get(&key) {
            self.store.write(Write::Remove { key, expected_revision: old.revision, body: None }).await.unwrap();
        }
    }

    /// The same decision from the objects themselves, one after the other: what the index must agree with.
    fn slowly(&self, identity: &Identity, request: &Attributes) -> bool {
        let grants = |kind: KindId, namespace: &str| {
            let snapshot = self.store.snapshot(kind, namespace);
            let rules: Vec<Rule> = snapshot
                .iter()
                .map(|object| object.value())
                .filter(|binding| {
                    let subjects = binding["subjects"].as_array().cloned().unwrap_or_default();
                    subjects.iter().any(|subject| {
                        let name = subject["name"].as_str().unwrap();
                        match subject["kind"].as_str().unwrap() {
                            "User" => identity.user == name,
                            "Group" => identity.in_group(name),
                            _ => {
                                let place = subject["namespace"].as_str().unwrap_or(namespace);
                                identity.user == format!("system:serviceaccount:{place}:{name}")
                            }
                        }
                    })
                })
                .flat_map(|binding| {
                    let name = binding["roleRef"]["name"].as_str().unwrap().to_owned();
                    let key = if binding["roleRef"]["kind"] == "Role" {
                        Key::new(self.tables.roles, namespace, name)
                    } else {
                        Key::new(self.tables.cluster_roles, "", name)
                    };
                    let rules = self.store.get(&key).map_or(Value::Null, |role| role.value()["rules"].clone());
                    serde_json::from_value::<Vec<Rule>>(rules).unwrap_or_default()
                })
                .collect();
            rules.iter().any(|rule| rule.allows(request))
        };
        grants(self.tables.cluster_bindings, "")
            || (!request.namespace.is_empty() && grants(self.tables.bindings, &request.namespace))
    }
}

/// A change of the world that the index has to follow.
#[derive(Clone, Debug)]
enum Move {
    Role { namespace: String, name: String, rules: Vec<Rule> },
    NoRole { namespace: String, name: String },
    Bind { namespace: String, name: String, role: (bool, String), subjects: Vec<(String, String)> },
    NoBinding { namespace: String, name: String },
}

fn any_move() -> impl Strategy<Value = Move> {
    let namespace = || word(&["", "one", "two"]);
    let name = || word(&["r1", "r2", "r3"]);
    let rules = prop::collection::vec(any_rule(), 0..3);
    let subject = prop_oneof![
        (Just("User".to_owned()), word(&["ann", "bob"])),
        (Just("Group".to_owned()), word(&["dev", "ops"])),
        (Just("ServiceAccount".to_owned()), word(&["bot"])),
    ];
    prop_oneof![
        3 => (namespace(), name(), rules).prop_map(|(namespace, name, rules)| Move::Role { namespace, name, rules }),
        1 => (namespace(), name()).prop_map(|(namespace, name)| Move::NoRole { namespace, name }),
        5 => (namespace(), name(), (any::<bool>(), name()), prop::collection::vec(subject, 0..4))
            .prop_map(|(namespace, name, role, subjects)| Move::Bind { namespace, name, role, subjects }),
        2 => (namespace(), name()).prop_map(|(namespace, name)| Move::NoBinding { namespace, name }),
    ]
}

async fn perform(cluster: &Cluster, step: &Move) {
    let roles =
        |namespace: &str| if namespace.is_empty() { cluster.tables.cluster_roles } else { cluster.tables.roles };
    let bindings =
        |namespace: &str| if namespace.is_empty() { cluster.tables.cluster_bindings } else { cluster.tables.bindings };
    match step {
        Move::Role { namespace, name, rules } => {
            cluster.put(roles(namespace), namespace, name, json!({"rules": rules})).await;
        }
        Move::NoRole { namespace, name } => cluster.remove(roles(namespace), namespace, name).await,
        Move::Bind { namespace, name, role: (own, role), subjects } => {
            let kind = if *own && !namespace.is_empty() { "Role" } else { "ClusterRole" };
            let subjects: Vec<Value> =
                subjects.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect();
            let body = json!({"subjects": subjects, "roleRef": {"kind": kind, "name": role}});
            cluster.put(bindings(namespace), namespace, name, body).await;
        }
        Move::NoBinding { namespace, name } => cluster.remove(bindings(namespace), namespace, name).await,
    }
}

fn people() -> Vec<Identity> {
    vec![
        Identity::new("ann", []),
        Identity::new("bob", ["dev".to_owned()]),
        Identity::new("eve", ["dev".to_owned(), "ops".to_owned()]),
        Identity::service_account("one", "bot", "u"),
        Identity::service_account("two", "bot", "u"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The index says what the objects say after any history, nobody has anything at the start, and making a binding
    /// under a new name takes nothing from anybody.
    #[test]
    fn the_index_follows_the_objects(
        moves in prop::collection::vec(any_move(), 1..40),
        requests in prop::collection::vec(any_request(), 1..6),
        extra in any_move(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let cluster = Cluster::new().await;
            let questions: Vec<(Identity, &Attributes)> =
                people().into_iter().flat_map(|who| requests.iter().map(move |what| (who.clone(), what))).collect();
            for (who, what) in &questions {
                prop_assert!(!cluster.rbac.decides(who, what), "nothing is allowed by default");
            }
            for step in &moves {
                perform(&cluster, step).await;
                for (who, what) in &questions {
                    prop_assert_eq!(cluster.rbac.decides(who, what), cluster.slowly(who, what), "{:?} {:?}", who, what);
                }
            }
            // An index that begins now reads the same as one that has followed.
            let kinds = Kinds::new(crate::core_kinds::all()).unwrap();
            let anew = Rbac::new(cluster.store.clone(), &kinds).unwrap();
            let before: BTreeMap<usize, bool> = questions
                .iter()
                .enumerate()
                .map(|(number, (who, what))| (number, anew.decides(who, what)))
                .collect();
            if let Move::Bind { namespace, role, subjects, .. } = extra {
                perform(&cluster, &Move::Bind { namespace, name: "new".to_owned(), role, subjects }).await;
            }
            for (number, (who, what)) in questions.iter().enumerate() {
                prop_assert!(!before[&number] || cluster.rbac.decides(who, what), "access was lost by a binding");
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn people_find_the_namespaces_they_have_a_role_in() {
    let cluster = Cluster::new().await;
    for (namespace, kind, name) in [("one", "User", "ann"), ("two", "Group", "dev"), ("three", "User", "eve")] {
        let body =
            json!({"subjects": [{"kind": kind, "name": name}], "roleRef": {"kind": "ClusterRole", "name": "view"}});
        cluster.put(cluster.tables.bindings, namespace, "b", body).await;
    }
    assert_eq!(cluster.rbac.namespaces_of(&Identity::new("ann", ["dev".to_owned()])), ["one", "two"]);
    assert!(cluster.rbac.namespaces_of(&Identity::new("zoe", [])).is_empty());
}
