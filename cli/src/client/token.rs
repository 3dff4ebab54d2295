//! `berth token`: tokens for programs that act for a person.

use apiserver::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Session;
use super::node::seconds;
use super::table::aligned;
use super::user::segment;
use crate::args::{CreateToken, ListTokens, Output, Token};
use crate::failure::{Exit, fail};
use crate::print;

const TOKENS: &str = "/api/paas/v1/tokens";
/// The server's own bound.
const DAYS_MAX: u64 = 365;

pub(crate) async fn token(command: &Token) -> anyhow::Result<()> {
    match command {
        Token::Create(options) => create(options).await,
        Token::List(options) => list(options).await,
        Token::Revoke { connection, id } => {
            let session = Session::open(connection).await?;
            session.act("DELETE", &format!("{TOKENS}/{}", segment(id)), None).await?;
            print::line(&format!("token/{id} revoked"));
            Ok(())
        }
    }
}

async fn create(options: &CreateToken) -> anyhow::Result<()> {
    let seconds = i64::try_from(seconds("--expires", &options.expires, DAYS_MAX)?).unwrap_or(i64::MAX);
    let expires = Clock::system().now().checked_add(SignedDuration::from_secs(seconds))?;
    let body = json!({"description": options.description, "expires": expires, "scope": scope(options)});
    let session = Session::open(&options.connection).await?;
    let answer = session.act("POST", TOKENS, Some(&body)).await?;
    let token = answer["token"].as_str().ok_or_else(|| fail(Exit::Failed, "the server answered without a token"))?;
    print::line(token);
    print::note(&format!(
        "It is not shown again. Its id is {}, and it ends {}.",
        text(&answer["id"]),
        text(&answer["expires"])
    ));
    Ok(())
}

/// What it is to be good for; nothing said means all that its user may do.
fn scope(options: &CreateToken) -> Option<Value> {
    let CreateToken { verbs, resources, projects, .. } = options;
    if verbs.is_empty() && resources.is_empty() && projects.is_empty() {
        return None;
    }
    let or_all = |list: &Vec<String>| if list.is_empty() { vec!["*".to_owned()] } else { list.clone() };
    Some(json!({"verbs": or_all(verbs), "resources": or_all(resources), "namespaces": projects}))
}

async fn list(options: &ListTokens) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let query = match (&options.user, options.all) {
        (_, true) => "?all=true".to_owned(),
        (Some(user), false) => format!("?user={}", segment(user)),
        (None, false) => String::new(),
    };
    let mut answer = session.act("GET", &format!("{TOKENS}{query}"), None).await?;
    if let Some(items) = answer["items"].as_array_mut() {
        items.retain(|token| options.ended || token["valid"] == true);
    }
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    match options.output {
        Some(output @ (Output::Json | Output::Yaml)) => print::document(&answer, output),
        Some(Output::Name) => {
            for token in &items {
                print::line(&format!("token/{}", text(&token["id"])));
            }
            Ok(())
        }
        None | Some(Output::Wide) => {
            if items.is_empty() {
                print::note("there are no tokens");
                return Ok(());
            }
            let heading = ["ID", "USER", "EXPIRES", "LAST USED", "SCOPE", "DESCRIPTION"].map(str::to_owned).to_vec();
            print::text(&aligned(&[vec![heading], items.iter().map(row).collect()].concat()));
            Ok(())
        }
    }
}

fn row(token: &Value) -> Vec<String> {
    let day = |time: &Value| {
        let time = time.as_str().and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or_else(|| "<never>".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M").to_string())
    };
    let ends = if token["valid"] == true { day(&token["expires"]) } else { "<ended>".to_owned() };
    vec![
        text(&token["id"]),
        text(&token["user"]),
        ends,
        day(&token["lastUsed"]),
        scope_text(&token["scope"]),
        text(&token["description"]),
    ]
}

fn scope_text(scope: &Value) -> String {
    let list = |field: &str| {
        let items = scope[field].as_array().into_iter().flatten().map(text);
        items.collect::<Vec<_>>().join(",")
    };
    if scope.is_null() {
        return "<all>".to_owned();
    }
    let projects = list("namespaces");
    let place = if projects.is_empty() { String::new() } else { format!(" in {projects}") };
    format!("{} {}{place}", list("verbs"), list("resources"))
}

/// A text without what could steer the terminal.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_told_in_short() {
        let scope = json!({"verbs": ["get", "list"], "resources": ["applications.berth.dev"], "namespaces": ["shop"]});
        assert_eq!(scope_text(&scope), "get,list applications.berth.dev in shop");
        assert_eq!(scope_text(&json!({"verbs": ["*"], "resources": ["*"], "namespaces": []})), "* *");
        assert_eq!(scope_text(&Value::Null), "<all>");
        let token = json!({
            "id": "1", "user": "ann", "description": "a\u{1b}[31m", "expires": "2027-01-02T03:04:05Z", "valid": true,
            "lastUsed": null, "scope": null,
        });
        assert_eq!(row(&token).join("|"), "1|ann|2027-01-02 03:04|<never>|<all>|a[31m");
    }
}
