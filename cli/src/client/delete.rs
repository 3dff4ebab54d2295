//! `berth delete`: by name or by file, and waits until the objects are gone.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::Instant;

use super::manifest::Document;
use super::{Progress, Session, manifest, resource};
use crate::args::Delete;
use crate::failure::{Exit, Failures, exit_of, fail};
use crate::print;

/// How often an object that is being torn down is looked at.
const STEP: Duration = Duration::from_millis(200);

/// An object that is to go.
struct Doomed {
    title: String,
    path: String,
    /// Its identity: another object may get its name before we look again.
    uid: Value,
}

pub(crate) async fn delete(options: &Delete) -> anyhow::Result<()> {
    let documents = if options.kind.is_none() { manifest::read(&options.filename)? } else { Vec::new() };
    let session = Session::open(&options.connection).await?;
    let mut failures = Failures::default();
    let mut going = Vec::new();
    for mut doomed in chosen(&session, options, &documents).await? {
        let answer = session.send("DELETE", &doomed.path, "application/json").await;
        if answer.as_ref().is_err_and(|error| options.ignore_not_found && exit_of(error) == Exit::NotFound) {
            continue;
        }
        let Some(answer) = failures.check(answer.with_context(|| doomed.title.clone())) else { continue };
        print::line(&format!("{} deleted", doomed.title));
        // The answer is the object, if something is to be done before it is gone, or a Status that names it.
        let uids = [&answer["metadata"]["uid"], &answer["details"]["uid"]];
        doomed.uid = uids.into_iter().find(|uid| uid.is_string()).cloned().unwrap_or_default();
        going.push(doomed);
    }
    if !options.no_wait && !going.is_empty() {
        let progress = Progress::new();
        let deadline = Instant::now() + Duration::from_secs(options.timeout);
        for doomed in &going {
            failures.check(until_gone(&session, doomed, deadline, &progress).await);
        }
    }
    failures.end()
}

async fn chosen(session: &Session, options: &Delete, documents: &[Document]) -> anyhow::Result<Vec<Doomed>> {
    let mut chosen = Vec::new();
    if let Some(kind) = &options.kind {
        for (resource, names) in resource::targets(session, kind, &options.names).await? {
            if names.is_empty() {
                return Err(fail(Exit::Usage, "give the name of what is to be deleted"));
            }
            for name in names {
                let path = resource.path(&session.namespace, &name);
                chosen.push(Doomed { title: resource.title(&name), path, uid: Value::Null });
            }
        }
    }
    // What was made last may stand on what was made first.
    for Document { origin, object } in documents.iter().rev() {
        let resource = resource::of_object(session, object).await.with_context(|| origin.clone())?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&session.namespace);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        chosen.push(Doomed { title: resource.title(name), path: resource.path(namespace, name), uid: Value::Null });
    }
    Ok(chosen)
}

async fn until_gone(session: &Session, doomed: &Doomed, deadline: Instant, progress: &Progress) -> anyhow::Result<()> {
    let title = &doomed.title;
    loop {
        match session.send("GET", &doomed.path, "application/json").await {
            Err(error) if exit_of(&error) == Exit::NotFound => return Ok(()),
            Err(error) => return Err(error),
            Ok(object) if doomed.uid.is_string() && object["metadata"]["uid"] != doomed.uid => return Ok(()),
            Ok(object) if Instant::now() >= deadline => {
                let held = object["metadata"]["finalizers"].as_array().into_iter().flatten();
                let held: Vec<&str> = held.filter_map(Value::as_str).collect();
                let why = reason(&object);
                let held = if held.is_empty() { why } else { format!("{why}; it is held by {}", held.join(", ")) };
                return Err(fail(Exit::TimedOut, format!("{title} is still there: {held}")));
            }
            Ok(object) => {
                progress.say(format!("{title}: {}", reason(&object)));
                tokio::time::sleep(STEP).await;
            }
        }
    }
}

/// What the object itself says about why it is still there.
fn reason(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    let message =
        ready.next().filter(|ready| ready["reason"] == "Deleting").and_then(|ready| ready["message"].as_str());
    message.map_or_else(|| "it is being taken down".to_owned(), super::table::plain)
}
