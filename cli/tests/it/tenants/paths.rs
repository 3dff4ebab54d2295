//! The paths that are no resources: each with everything that can be sent to it, by everybody.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;

use super::policy::{Policy, discover};
use super::world::{GUESS, MINE, OTHER, OWN, Person, TAG, World};

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

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

    let world = World::make().await;
    let resources = discover(&world.admin).await;
    world.fill(&resources).await;
    let mut wrong = Vec::new();
    // Resources have a matrix of their own.
    for (path, who) in policy.paths.iter().filter(|(_, who)| *who != "resources") {
        for method in METHODS {
            let people = world.people.iter().chain([&world.anonymous]);
            let asked = people.map(async |person| {
                let own = send(person, method, path, OWN, MINE).await;
                let there = send(person, method, path, OTHER, GUESS).await;
                let missing = send(person, method, path, OTHER, "missing").await;
                let faults = faults(who, method, path, person, &[&own, &there, &missing]);
                let told = |what| format!("{} {method} {path}: {what}: {own:?} {there:?} {missing:?}", person.name);
                faults.into_iter().map(told).collect::<Vec<_>>()
            });
            wrong.extend(futures::future::join_all(asked).await.concat());
        }
    }
    assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong.join("\n"));
}

/// A status and a text.
type Answer = (u16, String);

async fn send(person: &Person, method: &str, path: &str, namespace: &str, name: &str) -> Answer {
    let filled = path
        .replace("{namespace}", namespace)
        .replace("{name}", name)
        .replace("{check}", "ping")
        .replace("{uid}", "00000000-0000-0000-0000-000000000000")
        .replace("{id}", name)
        .replace("{stream}", "1")
        .replace("{*path}", "api/v1");
    let body = match path.rsplit('/').next() {
        Some("scale") => json!({"instances": 0}),
        Some("password") => json!({"password": "correct horse battery"}),
        Some("rollback") => json!({"release": null}),
        _ => json!({}),
    };
    let (status, text) = person.send(method, &filled, "application/json", &[], &body).await;
    // Names stand in quotes and in paths.
    let name = regex::Regex::new(&format!(r#"(["/]){name}\b"#)).unwrap();
    (status, name.replace_all(&text, "${1}NAME").into_owned())
}

/// What is wrong with the answers: of one's own, of another's that is there, and of another's that is not.
fn faults(who: &str, method: &str, path: &str, person: &Person, answers: &[&Answer; 3]) -> Vec<&'static str> {
    let [own, there, missing] = answers;
    let mut faults = Vec::new();
    let mut fault = |is_one: bool, what| faults.extend(is_one.then_some(what));
    fault(answers.iter().any(|answer| answer.1.contains(TAG)), "the answer has the other's tag");
    fault(answers.iter().any(|answer| answer.0 >= 500), "a failure of the server");
    let is_known = !person.is_anonymous();
    let is_reading = matches!(method, "GET" | "HEAD");
    match who {
        "public" => fault(method == "GET" && !matches!(own.0, 200 | 404), "it is for everybody"),
        "everybody" => {
            fault(
                is_known && method == "GET" && matches!(own.0, 401 | 403) && person.scope.is_none(),
                "it is for everybody",
            );
            fault(!is_known && !matches!(own.0, 401 | 403), "nobody has signed in");
        }
        "own" => fault(answers.iter().any(|answer| !matches!(answer.0, 401 | 403..=405)), "it is nobody else's"),
        "signin" => fault(!matches!(own.0, 400..=405), "nobody has signed in"),
        "project" => {
            fault(
                [there, missing].iter().any(|answer| !matches!(answer.0, 401 | 403..=405)),
                "the other's was not hidden",
            );
            fault(there != missing, "it shows what is there");
            let written = matches!(person.role, Some("edit" | "owner" | "admin")) && person.scope.is_none();
            let is_logs = path.ends_with("/logs");
            match (person.role, method) {
                (None, _) => fault(!matches!(own.0, 401 | 403..=405), "who has no role got in"),
                // No program writes anything here: an application that is stopped has no log.
                (Some(_), "GET" | "HEAD") if is_logs => {
                    fault(matches!(own.0, 401 | 403), "the project's people were refused");
                }
                // The application is stopped, and has one release at most: that may be in the way, and the rights may not.
                (Some(_), "POST") if !is_logs && written => {
                    fault(!matches!(own.0, 200..=202 | 409 | 422), "the project's people were refused");
                }
                (Some(_), _) => {
                    fault(!matches!(own.0, 403..=405), "it is not for this role, or there is no such method");
                }
            }
        }
        "admin" => fault(!matches!(own.0, 401 | 403) && (is_reading || own.0 != 405), "it is for administrators"),
        "node" => fault(!matches!(own.0, 400..=405), "it is for nodes"),
        other => panic!("cli/tests/it/tenants.policy says {other:?} of {path}"),
    }
    faults
}
