//! `berth apply`: creates what is not there and changes what is, three-way, as `kubectl apply` does. What was applied
//! last is remembered in kubectl's own annotation, so that both can be used in turn.

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::manifest::{self, Document};
use super::resource::{self, Resource};
use super::wait::{is_stopped, until_ready};
use super::{Progress, Session};
use crate::args::Apply;
use crate::failure::{Exit, Failures, exit_of, fail};
use crate::print;

/// kubectl's annotation with what was applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(crate) async fn apply(options: &Apply) -> anyhow::Result<()> {
    let documents = manifest::read(&options.filename)?;
    let session = Session::open(&options.connection).await?;
    let mut failures = Failures::default();
    let mut applied = Vec::new();
    for Document { origin, object } in documents {
        let result = told(&session, object, options.dry_run).await.context(origin);
        applied.extend(failures.check(result));
    }
    if !options.dry_run && !options.no_wait {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(options.timeout);
        for object in applied.iter().filter(|object| object["kind"] == "Application") {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now()).as_millis().div_ceil(1000);
            let left = u64::try_from(left).unwrap_or(u64::MAX);
            failures.check(served(&session, object, left).await);
        }
    }
    failures.end()
}

/// Waits until an application is as it was asked for, and says where it is served.
pub(super) async fn served(session: &Session, object: &Value, timeout_seconds: u64) -> anyhow::Result<()> {
    let name = text(&object["metadata"]["name"]).to_owned();
    let url = until_ready(session, object, timeout_seconds, &Progress::new()).await?;
    if is_stopped(object) {
        print::line(&format!("application.berth.dev/{name} is stopped"));
    } else {
        print::line(&format!("application.berth.dev/{name} is served at {url}"));
    }
    Ok(())
}

/// Applies objects in order and says of each what happened. Returns them as the server has them.
pub(crate) async fn apply_documents(
    session: &Session,
    objects: Vec<Value>,
    dry_run: bool,
) -> anyhow::Result<Vec<Value>> {
    let mut applied = Vec::new();
    for object in objects {
        applied.push(told(session, object, dry_run).await?);
    }
    Ok(applied)
}

/// Makes the cluster-wide objects of a YAML text that are not there yet. Those that are there stay as somebody may have
/// changed them.
pub(crate) async fn create_missing(session: &Session, yaml: &str) -> anyhow::Result<()> {
    for mut object in manifest::parse(yaml)? {
        let resource = resource::of_object(session, &object).await?;
        let name = text(&object["metadata"]["name"]).to_owned();
        let there = session.send("GET", &resource.path("", &name), "application/json").await;
        if there.as_ref().is_err_and(|error| exit_of(error) == Exit::NotFound) {
            remember(&mut object)?;
            let body = serde_json::to_vec(&object)?;
            let path = format!("{}?fieldManager=berth", resource.list_path(None));
            let created = session.send_body("POST", &path, "application/json", "application/json", body).await;
            created.with_context(|| resource.title(&name))?;
        } else {
            there?;
        }
    }
    Ok(())
}

/// Applies an object and says what happened.
async fn told(session: &Session, object: Value, dry_run: bool) -> anyhow::Result<Value> {
    let name = text(&object["metadata"]["name"]).to_owned();
    let resource = resource::of_object(session, &object).await.with_context(|| name.clone())?;
    let title = resource.title(&name);
    let (answer, what) = one(session, &resource, object, dry_run).await.with_context(|| title.clone())?;
    print::line(&format!("{title} {what}{}", if dry_run { " (server dry run)" } else { "" }));
    Ok(answer)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn one(
    session: &Session,
    resource: &Resource,
    mut object: Value,
    dry_run: bool,
) -> anyhow::Result<(Value, &'static str)> {
    let own = match &object["metadata"]["namespace"] {
        Value::Null => None,
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        _ => return Err(fail(Exit::Refused, "metadata.namespace is not a name")),
    };
    let namespace = own.clone().unwrap_or_else(|| session.namespace.clone());
    if resource.namespaced {
        if session.namespace_is_asked && namespace != session.namespace {
            let asked = &session.namespace;
            return Err(fail(
                Exit::Usage,
                format!("it is for the namespace {namespace}, and --namespace says {asked}"),
            ));
        }
        object["metadata"]["namespace"] = json!(namespace);
    }
    remember(&mut object)?;
    let query = format!("?fieldManager=berth&fieldValidation=Strict{}", if dry_run { "&dryRun=All" } else { "" });
    let path = resource.path(&namespace, text(&object["metadata"]["name"]));
    let current = match session.send("GET", &path, "application/json").await {
        Ok(current) => current,
        Err(error) if exit_of(&error) == Exit::NotFound => {
            let path = format!("{}{query}", resource.list_path(Some(&namespace)));
            let body = serde_json::to_vec(&object)?;
            let created = session.send_body("POST", &path, "application/json", "application/json", body).await?;
            return Ok((created, "created"));
        }
        Err(error) => return Err(error),
    };
    let before = current["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or("{}");
    let before: Value = serde_json::from_str(before).unwrap_or_else(|_| json!({}));
    let patch = three_way(&before, &object, &current);
    if patch.as_object().is_some_and(Map::is_empty) {
        return Ok((current, "unchanged"));
    }
    let body = serde_json::to_vec(&patch)?;
    let path = format!("{path}{query}");
    let answer = session.send_body("PATCH", &path, "application/json", "application/merge-patch+json", body).await?;
    // A change that changes nothing, such as a default that is written down, gets no new revision.
    let same = answer["metadata"]["resourceVersion"] == current["metadata"]["resourceVersion"] && !dry_run;
    Ok((answer, if same { "unchanged" } else { "configured" }))
}

/// Writes what is applied into the object's annotation, to the letter as kubectl writes it: otherwise each of the two
/// would find a change where the other one was used last.
fn remember(object: &mut Value) -> anyhow::Result<()> {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return Err(fail(Exit::Refused, "metadata is not a map"));
    };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    let Some(annotations) = annotations.as_object_mut() else {
        return Err(fail(Exit::Refused, "metadata.annotations is not a map"));
    };
    annotations.remove(LAST_APPLIED);
    // Go's JSON escapes what could end a script in a page.
    let last = serde_json::to_string(object)?
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029");
    object["metadata"]["annotations"][LAST_APPLIED] = json!(format!("{last}\n"));
    Ok(())
}

/// The merge patch that brings `current` to `wanted`, and removes what stood in `before` and no longer stands there.
/// What others set, and neither document names, stays. A field that is `null` is one that is not there.
fn three_way(before: &Value, wanted: &Value, current: &Value) -> Value {
    let empty = Map::new();
    let map = |value: &Value| value.as_object().cloned().unwrap_or_else(|| empty.clone());
    let (before, wanted, current) = (map(before), map(wanted), map(current));
    let mut patch = Map::new();
    for (key, value) in &before {
        if !value.is_null() && wanted.get(key).is_none_or(Value::is_null) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    for (key, value) in wanted.iter().filter(|(_, value)| !value.is_null()) {
        match current.get(key) {
            Some(present) if present == value => {}
            Some(present) if present.is_object() && value.is_object() => {
                let inner = three_way(before.get(key).unwrap_or(&Value::Null), value, present);
                if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                    patch.insert(key.clone(), inner);
                }
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_what_is_wanted_removes_what_was_and_leaves_what_is_not_ours() {
        let before = json!({"spec": {"a": 1, "gone": 1, "map": {"x": 1, "y": 1}}});
        let wanted = json!({"spec": {"a": 2, "map": {"x": 1}, "list": [1]}});
        let current = json!({"spec": {"a": 1, "gone": 1, "map": {"x": 1, "y": 1, "theirs": 1}, "default": true}});
        let patch = three_way(&before, &wanted, &current);
        assert_eq!(patch, json!({"spec": {"a": 2, "gone": null, "map": {"y": null}, "list": [1]}}));
        assert_eq!(three_way(&wanted, &wanted, &wanted), json!({}));
    }

    #[test]
    fn null_is_nothing() {
        let current = json!({"metadata": {"creationTimestamp": "now"}, "spec": {"a": 1, "b": 1}});
        let wanted = json!({"metadata": {"creationTimestamp": null}, "spec": {"a": null, "b": null}});
        let before = json!({"metadata": {"creationTimestamp": null}, "spec": {"a": 1, "b": null}});
        assert_eq!(three_way(&before, &wanted, &current), json!({"spec": {"a": null}}));
    }

    #[test]
    fn remembers_in_kubectls_letters() {
        let mut object = json!({"kind": "A", "metadata": {"name": "a"}, "spec": {"command": "a && b > c"}});
        remember(&mut object).unwrap();
        let text = object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        let expected =
            r#"{"kind":"A","metadata":{"annotations":{},"name":"a"},"spec":{"command":"a \u0026\u0026 b \u003e c"}}"#;
        assert_eq!(text, format!("{expected}\n"));
        let once = object.clone();
        remember(&mut object).unwrap();
        assert_eq!(object, once, "it does not remember itself");
    }
}
