//! `berth get`: lists of any kind, or single objects.

use serde_json::{Value, json};

use super::resource::{self, Resource};
use super::table::{self, Layout};
use super::{Session, watch};
use crate::args::{Get, Output};
use crate::failure::{Exit, Failures, fail};
use crate::print;

pub(crate) async fn get(options: &Get) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let targets = resource::targets(&session, &options.kind, &options.names).await?;
    let queries = queries(&session, &targets, options)?;
    if options.watch {
        let [only] = queries.as_slice() else {
            return Err(fail(Exit::Usage, "one kind, or one object, can be watched at a time"));
        };
        return watch::watch(&session, only, options).await;
    }
    match options.output {
        None | Some(Output::Wide) => tables(&session, &queries, options).await,
        Some(output) => documents(&session, &queries, output).await,
    }
}

/// One request for a list or an object.
pub(super) struct Query<'a> {
    pub(super) resource: &'a Resource,
    /// The path, with a selector if there is one.
    pub(super) path: String,
    /// The one object's name.
    pub(super) name: Option<&'a str>,
}

fn queries<'a>(
    session: &Session,
    targets: &'a [(Resource, Vec<String>)],
    options: &Get,
) -> anyhow::Result<Vec<Query<'a>>> {
    let mut queries = Vec::new();
    for (resource, names) in targets {
        if names.is_empty() {
            let namespace = (!options.all_namespaces).then_some(session.namespace.as_str());
            let selector = options.selector.as_deref().map(resource::segment);
            let query = selector.map_or_else(String::new, |selector| format!("?labelSelector={selector}"));
            queries.push(Query { resource, path: format!("{}{query}", resource.list_path(namespace)), name: None });
            continue;
        }
        if options.selector.is_some() {
            return Err(fail(Exit::Usage, "give either names or --selector, not both"));
        }
        if options.all_namespaces && resource.namespaced {
            return Err(fail(Exit::Usage, "a name means one namespace: leave --all-namespaces out"));
        }
        let named = names.iter().map(|name| Query {
            resource,
            path: resource.path(&session.namespace, name),
            name: Some(name),
        });
        queries.extend(named);
    }
    Ok(queries)
}

async fn tables(session: &Session, queries: &[Query<'_>], options: &Get) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let several = queries.iter().any(|query| query.resource != queries[0].resource);
    let mut found = 0;
    let mut last: Option<(&Resource, Layout)> = None;
    for query in queries {
        let answer = session.send("GET", &query.path, table::ACCEPT).await;
        let Some(answer) = failures.check(answer) else { continue };
        let rows = answer["rows"].as_array().map_or(0, Vec::len);
        if rows == 0 {
            continue;
        }
        let same = last.take().filter(|(resource, _)| *resource == query.resource);
        // Objects that were asked for one by one stand below the same headings.
        let mut layout = if let Some((_, layout)) = same {
            layout
        } else {
            if found > 0 {
                print::line("");
            }
            let prefix = if several { query.resource.title("") } else { String::new() };
            Layout::new(options.output.is_some(), options.all_namespaces && query.resource.namespaced, prefix)
        };
        found += rows;
        print::text(&layout.render(&answer));
        last = Some((query.resource, layout));
    }
    failures.end()?;
    if found == 0 {
        let namespaced = !options.all_namespaces && queries.iter().any(|query| query.resource.namespaced);
        let place = if namespaced { format!(" in {} namespace.", session.namespace) } else { String::new() };
        print::note(&format!("No resources found{place}"));
    }
    Ok(())
}

async fn documents(session: &Session, queries: &[Query<'_>], output: Output) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let mut items = Vec::new();
    for query in queries {
        let answer = session.send("GET", &query.path, "application/json").await;
        let Some(mut answer) = failures.check(answer) else { continue };
        match (query.name, answer.get_mut("items").map(Value::take)) {
            (None, Some(Value::Array(list))) => {
                items.extend(list.into_iter().map(|item| complete(item, query.resource)));
            }
            _ => items.push(answer),
        }
    }
    let single = queries.len() == 1 && queries[0].name.is_some();
    if output == Output::Name {
        for item in &items {
            print::line(&title(item));
        }
    } else if let (true, Some(only)) = (single, items.first()) {
        print::document(only, output)?;
    } else if !single {
        print::document(&json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}), output)?;
    }
    failures.end()
}

/// `plan.berth.dev/small`, from the object itself.
pub(super) fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]).to_lowercase();
    let name = text(&object["metadata"]["name"]);
    match text(&object["apiVersion"]).split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

/// Items of a list may come without what the list already says.
pub(super) fn complete(mut item: Value, resource: &Resource) -> Value {
    item["apiVersion"] = json!(resource.group_version);
    item["kind"] = json!(resource.kind);
    item
}
