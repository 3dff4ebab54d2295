//! `berth audit`: who changed what, and what was refused.

use super::Session;
use super::table::{self, Layout};
use crate::args::{Audit, Output};
use crate::print;

/// One request asks for so many; the server gives no more.
const PAGE: u32 = 1_000;

pub(crate) async fn audit(options: &Audit) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let show_table = matches!(options.output, None | Some(Output::Wide | Output::Name));
    let accept = if show_table { table::ACCEPT } else { "application/json" };
    let mut layout = Layout::new(false, options.all_namespaces, String::new());
    let (mut left, mut from) = (options.limit, String::new());
    let mut items = Vec::new();
    loop {
        let answer = session.send("GET", &path(&session, options, left.min(PAGE), &from), accept).await?;
        let rows = answer[if show_table { "rows" } else { "items" }].as_array().map_or(0, Vec::len);
        if show_table {
            print::text(&layout.render(&answer));
        } else {
            items.extend(answer["items"].as_array().into_iter().flatten().cloned());
        }
        left = left.saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX));
        match answer["metadata"]["continue"].as_str() {
            Some(token) if left > 0 => token.clone_into(&mut from),
            _ => break,
        }
    }
    match options.output {
        Some(output) if !show_table => print::document(&serde_json::Value::Array(items), output),
        _ => Ok(()),
    }
}

fn path(session: &Session, options: &Audit, limit: u32, from: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    let asked = [
        ("user", options.user.as_deref()),
        ("resource", options.resource.as_deref()),
        ("verb", options.verb.as_deref()),
        ("since", options.since.as_deref()),
        ("continue", Some(from).filter(|token| !token.is_empty())),
    ];
    for (name, value) in asked {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let place = if options.all_namespaces { String::new() } else { format!("namespaces/{}/", session.namespace) };
    format!("/apis/audit.k8s.io/v1/{place}auditevents?{}", query.finish())
}
