//! The tenant matrix: every route, kind, verb and subresource that the server has, called by the people of one project
//! against their own and against another customer's.
//!
//! What there is comes from the server's discovery and from the sources; who may do what comes from `tenants.policy`.
//! What stands in one and not in the other fails: no route without a record of who may use it.

mod paths;
mod policy;
mod world;

use std::collections::BTreeSet;

use futures::StreamExt;
use serde_json::{Value, json};

use policy::{Policy, Resource, discover};
use world::{GUESS, MINE, OTHER, OWN, Person, SECOND, TAG, World, object};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
/// More would only wait for one another, and for the limit of requests of each person.
const RESOURCES_AT_A_TIME: usize = 6;
/// Of a replacement, against reconcilers that write to the same object.
const TRIES: usize = 20;
/// The name of nothing.
const MISSING: &str = "missing";
/// The name of no project.
const NOWHERE: &str = "void";

/// What is expected of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It is done.
    Done,
    /// It is let through, and comes to nothing: there is no program behind this server's Instances.
    LetThrough,
    /// It is refused for lack of rights.
    Refused,
    /// There is no such verb.
    NoVerb,
}

impl Expected {
    fn is(self, status: u16) -> bool {
        match self {
            Self::Done => matches!(status, 200..=299),
            Self::LetThrough => !matches!(status, 401 | 403) && status < 500,
            Self::Refused => matches!(status, 401 | 403),
            Self::NoVerb => matches!(status, 401 | 403..=405),
        }
    }
}

/// Whether nothing runs here that could answer: there is no agent, and so there are no logs, programs and measures.
fn needs_a_node(resource: &Resource, verb: &str) -> bool {
    let streams =
        resource.plural == "pods" && ["log", "exec", "attach", "portforward"].contains(&resource.part.as_str());
    streams || (resource.group == "metrics.k8s.io" && verb == "get")
}

/// The name of an object that is there in one's own project, or for everybody.
fn there(resource: &Resource) -> &'static str {
    match resource.plural.as_str() {
        "namespaces" => OWN,
        "customresourcedefinitions" => "plans.berth.dev",
        _ => MINE,
    }
}

/// A call, and what should come of it.
struct Call {
    what: &'static str,
    expected: Expected,
    namespace: Option<&'static str>,
    name: &'static str,
}

/// All calls of one verb by one person, of a kind that is there.
fn calls(policy: &Policy, resource: &Resource, verb: &str, person: &Person) -> Vec<Call> {
    let is_namespace = resource.plural == "namespaces";
    // As in Kubernetes, whoever opens a stream has to be allowed to create it, by whatever method it is opened.
    let needed = if ["exec", "attach", "portforward"].contains(&resource.part.as_str()) { "create" } else { verb };
    let scoped = person.scope.is_none_or(|verbs| verbs.contains(&needed));
    let may = |role: Option<&str>| role.is_some_and(|role| policy.allows(resource, role, verb));
    let by_rights = |is_allowed: bool| match is_allowed {
        true if needs_a_node(resource, verb) => Expected::LetThrough,
        true => Expected::Done,
        false => Expected::Refused,
    };
    let call = |what, expected, namespace, name| Call { what, expected, namespace, name };
    if !resource.namespaced && !is_namespace {
        // A token for a project is good for nothing that belongs to none, but for asking what it is good for.
        let own_rights = resource.plural.starts_with("selfsubject");
        let allowed = policy.allows(resource, "view", verb) && (person.scope.is_none() || own_rights);
        let allowed = allowed && !person.is_anonymous();
        return vec![call("of everybody's", by_rights(allowed), None, there(resource))];
    }
    let (own, second, other) = if is_namespace { (OWN, SECOND, OTHER) } else { (MINE, MINE, GUESS) };
    let mut all = vec![
        call("of their own", by_rights(may(person.role) && scoped), Some(OWN), own),
        call("of their second project", by_rights(may(person.second) && person.scope.is_none()), Some(SECOND), second),
        call("of the other, there", Expected::Refused, Some(OTHER), other),
        call("of the other, not there", Expected::Refused, Some(OTHER), if is_namespace { NOWHERE } else { MISSING }),
        call("of no project", Expected::Refused, Some(NOWHERE), if is_namespace { NOWHERE } else { MISSING }),
    ];
    if matches!(verb, "list" | "watch") {
        all.push(call("of everybody", Expected::Refused, None, ""));
    }
    all
}

/// All verbs as everybody: what is wrong with the answers, and how many there were.
async fn ask_everybody(world: &World, policy: &Policy, resource: &Resource) -> (usize, Vec<String>) {
    let (mut calls, mut wrong) = (0, Vec::new());
    // A list of a part, and all parts at once, have no path.
    let has_path = |verb: &str| resource.part.is_empty() || !["list", "watch", "deletecollection"].contains(&verb);
    for verb in VERBS.into_iter().filter(|verb| has_path(verb)) {
        let people = world.people.iter().chain([&world.anonymous]);
        let asked = people.map(|person| ask(world, policy, resource, verb, person));
        for (count, faults) in futures::future::join_all(asked).await {
            calls += count;
            wrong.extend(faults);
        }
    }
    (calls, wrong)
}

/// One verb as one person: what is wrong with the answers, and how many there were.
async fn ask(world: &World, policy: &Policy, resource: &Resource, verb: &str, person: &Person) -> (usize, Vec<String>) {
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let is_there = resource.verbs.iter().any(|there| there == verb);
    let calls = calls(policy, resource, verb, person);
    let count = calls.len();
    let (mut wrong, mut hidden) = (Vec::new(), Vec::new());
    for Call { what, expected, namespace, name } in calls {
        let expected = if is_there { expected } else { Expected::NoVerb };
        let (method, path, content) = resource.request(verb, namespace, name);
        let (mut status, mut text) = (409, String::new());
        for _ in 0..TRIES {
            let body = body(world, resource, verb, namespace, name).await;
            (status, text) = person.send(method, &path, content, &table, &body).await;
            // A reconciler wrote between the two.
            if verb != "update" || status != 409 {
                break;
            }
        }
        if what.contains("there") || what == "of no project" {
            // What is there is answered like what is not, but for the names that were sent.
            let named = |word: &str| regex::Regex::new(&format!(r#"(["/]){word}\b"#)).unwrap();
            let text = named(name).replace_all(&text, "${1}NAME").into_owned();
            let text = named(namespace.unwrap_or_default()).replace_all(&text, "${1}PROJECT").into_owned();
            hidden.push((status, text));
        }
        let fault = if text.contains(TAG) {
            "the answer has the other's tag".to_owned()
        } else if !expected.is(status) {
            format!("expected was {expected:?}: {text}")
        } else {
            continue;
        };
        wrong.push(format!("{} {verb} {} {what}: {status}: {fault}", person.name, resource.qualified()));
    }
    if hidden.windows(2).any(|pair| pair[0] != pair[1]) {
        wrong.push(format!("{} {verb} {}: it shows what is there: {hidden:?}", person.name, resource.qualified()));
    }
    (count, wrong)
}

/// What has to be sent for a verb to be carried out, as far as the query lets it: it is a dry run.
async fn body(world: &World, resource: &Resource, verb: &str, namespace: Option<&str>, name: &str) -> Value {
    match verb {
        "create" if resource.part.is_empty() => object(resource, "new", "no", namespace.unwrap_or_default()),
        "create" => object(resource, name, "no", namespace.unwrap_or_default()),
        "update" => world.admin.json("GET", &resource.path(namespace, Some(name)), &Value::Null).await.1,
        _ => json!({}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_customer_sees_or_touches_what_is_anothers() {
    let policy = Policy::read();
    let world = World::make().await;
    let resources = discover(&world.admin).await;
    world.fill(&resources).await;

    let known: BTreeSet<String> = resources.iter().map(Resource::qualified).collect();
    let unknown: Vec<&String> = known.iter().filter(|name| !policy.resources.contains_key(*name)).collect();
    assert!(unknown.is_empty(), "say in cli/tests/it/tenants.policy who may do what with {unknown:?}");
    let gone: Vec<&String> = policy.resources.keys().filter(|name| !known.contains(*name)).collect();
    assert!(gone.is_empty(), "cli/tests/it/tenants.policy tells of what is not there: {gone:?}");

    // The tag is where it should be, so that not finding it elsewhere means something.
    for resource in resources.iter().filter(|r| r.qualified() == "secrets" || r.qualified() == "applications.berth.dev")
    {
        let (method, path, _) = resource.request("list", Some(OTHER), "");
        let (status, text) = world.other.send(method, &path, "application/json", &[], &Value::Null).await;
        assert!(status == 200 && text.contains(TAG), "{path}: {status}");
    }

    // Side by side, because a watch that is allowed lasts a second.
    let asked = futures::stream::iter(&resources).map(|resource| ask_everybody(&world, &policy, resource));
    let told: Vec<(usize, Vec<String>)> = asked.buffer_unordered(RESOURCES_AT_A_TIME).collect().await;
    let calls: usize = told.iter().map(|(count, _)| count).sum();
    let wrong: Vec<String> = told.into_iter().flat_map(|(_, faults)| faults).collect();
    assert!(wrong.is_empty(), "{} of {calls}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(calls > 5_000, "{calls}");
}
