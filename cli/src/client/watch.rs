//! `berth get --watch`: what there is, and then whatever changes, as lines below one another.

use std::time::Duration;

use futures::AsyncBufReadExt;
use futures::io::AsyncReadExt;
use serde_json::Value;

use super::get::{Query, complete, title};
use super::table::{self, Layout};
use super::{Session, resource};
use crate::args::{Get, Output};
use crate::failure::{Exit, fail};
use crate::print;

/// An event holds one object, and no server takes one that is nearly as large.
const EVENT_BYTES_MAX: u64 = 16 << 20;
/// A server that ends watches at once is not asked without pause.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn watch(session: &Session, query: &Query<'_>, options: &Get) -> anyhow::Result<()> {
    let mut show = Show {
        layout: Layout::new(
            options.output.is_some(),
            options.all_namespaces && query.resource.namespaced,
            String::new(),
        ),
        output: options.output.filter(|output| *output != Output::Wide),
    };
    let accept = if show.output.is_some() { "application/json" } else { table::ACCEPT };
    // A single object is watched as the list of what has its name: its own revision may be older than what the server
    // remembers, and its end and return are seen too.
    let list = match query.name {
        None => query.path.clone(),
        Some(name) => {
            let selector = resource::segment(&format!("metadata.name={name}"));
            format!("{}?fieldSelector={selector}", query.resource.list_path(Some(&session.namespace)))
        }
    };
    loop {
        let first = session.send("GET", &list, accept).await?;
        let mut revision = first["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let count = [&first["rows"], &first["items"]].into_iter().find_map(Value::as_array).map_or(0, Vec::len);
        if let Some(name) = query.name.filter(|_| count == 0) {
            return Err(fail(Exit::NotFound, format!("{} {name:?} not found", query.resource.qualified())));
        }
        show.list(first, query)?;
        while let Ended::Quietly = follow(session, &list, &mut revision, accept, &mut show).await? {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Why a watch ended.
enum Ended {
    /// Servers end watches from time to time.
    Quietly,
    /// The server does not remember what was changed since.
    TooOld,
}

async fn follow(
    session: &Session,
    list: &str,
    revision: &mut String,
    accept: &str,
    show: &mut Show,
) -> anyhow::Result<Ended> {
    let between = if list.contains('?') { '&' } else { '?' };
    let since = resource::segment(revision);
    let path = format!("{list}{between}watch=true&allowWatchBookmarks=true&resourceVersion={since}");
    let mut stream = Box::pin(session.stream(&path, accept).await?);
    loop {
        let mut line = String::new();
        let read = (&mut stream).take(EVENT_BYTES_MAX).read_line(&mut line).await;
        if !read.is_ok_and(|bytes| bytes > 0) || !line.ends_with('\n') {
            return Ok(Ended::Quietly);
        }
        let event: Value = serde_json::from_str(&line)
            .map_err(|_unsaid| fail(Exit::Failed, "the server's answer to a watch is not understood"))?;
        let object = &event["object"];
        if event["type"] == "ERROR" {
            if object["code"] == 410 {
                return Ok(Ended::TooOld);
            }
            return Err(fail(Exit::Failed, object["message"].as_str().unwrap_or("the watch failed")));
        }
        if let Some(newer) = object["metadata"]["resourceVersion"].as_str() {
            newer.clone_into(revision);
        }
        if event["type"] != "BOOKMARK" {
            show.object(object)?;
        }
    }
}

/// How objects are shown.
struct Show {
    layout: Layout,
    output: Option<Output>,
}

impl Show {
    fn list(&mut self, mut answer: Value, query: &Query<'_>) -> anyhow::Result<()> {
        if self.output.is_none() {
            if answer["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                print::text(&self.layout.render(&answer));
            }
            return Ok(());
        }
        if let Value::Array(items) = answer["items"].take() {
            for item in items {
                self.object(&complete(item, query.resource))?;
            }
        }
        Ok(())
    }

    /// Shows an object, or the table of one.
    fn object(&mut self, object: &Value) -> anyhow::Result<()> {
        match self.output {
            None => print::text(&self.layout.render(object)),
            Some(Output::Name) => print::line(&title(object)),
            Some(Output::Yaml) => {
                print::line("---");
                print::document(object, Output::Yaml)?;
            }
            Some(output) => print::document(object, output)?,
        }
        Ok(())
    }
}
