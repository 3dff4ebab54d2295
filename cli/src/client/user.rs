//! `berth user`: people who sign in with a password. What else there is to change of them, kubectl changes.

use serde_json::{Value, json};

use super::{Session, get, password};
use crate::args::{Get, Password, Somebody, User};
use crate::failure::{Exit, fail};
use crate::print;

const USERS: &str = "/apis/berth.dev/v1alpha1/users";

pub(crate) async fn user(command: &User) -> anyhow::Result<()> {
    match command {
        User::Create(options) => {
            let password = options.password_file.as_deref().map(|file| password::read(Some(file), "")).transpose()?;
            let session = Session::open(&options.connection).await?;
            let mut spec = json!({"groups": options.groups});
            for (field, value) in [("email", &options.email), ("displayName", &options.display_name)] {
                if let Some(value) = value {
                    spec[field] = value.as_str().into();
                }
            }
            let name = &options.name;
            let body =
                json!({"apiVersion": "berth.dev/v1alpha1", "kind": "User", "metadata": {"name": name}, "spec": spec});
            session.act("POST", USERS, Some(&body)).await?;
            print::line(&format!("user/{name} created"));
            let Some(password) = password else {
                print::note(&format!("Nobody can sign in yet: berth user password {name}"));
                return Ok(());
            };
            set(&session, name, json!({"password": password})).await.map(drop)
        }
        User::Password(options) => change_password(options).await,
        User::Disable(somebody) => lock(somebody, true).await,
        User::Enable(somebody) => lock(somebody, false).await,
        User::Delete(Somebody { connection, name }) => {
            let session = Session::open(connection).await?;
            session.act("DELETE", &format!("{USERS}/{}", segment(name)), None).await?;
            print::line(&format!("user/{name} deleted"));
            Ok(())
        }
        User::List { connection, output } => get(&Get::all("users.berth.dev", connection, *output)).await,
        // Made where the authority's key is, and not by asking a server.
        User::Certificate(_) => Ok(()),
    }
}

async fn lock(Somebody { connection, name }: &Somebody, disabled: bool) -> anyhow::Result<()> {
    let session = Session::open(connection).await?;
    let path = format!("{USERS}/{}", segment(name));
    let patch = serde_json::to_vec(&json!({"spec": {"disabled": disabled}}))?;
    session.send_body("PATCH", &path, "application/json", "application/merge-patch+json", patch).await?;
    print::line(&format!("user/{name} {}", if disabled { "disabled" } else { "enabled" }));
    Ok(())
}

async fn change_password(options: &Password) -> anyhow::Result<()> {
    let session = Session::open(&options.connection).await?;
    let me = whoami(&session).await?;
    let name = options.name.as_ref().unwrap_or(&me);
    let current = options.current_file.as_deref();
    let mut body = json!({});
    if let Some(file) = current {
        body["current"] = password::read(Some(file), "")?.into();
    }
    body["password"] = password::read_new(options.new_file.as_deref(), name)?.into();
    // Only the server knows whether whoever asks may do without the present one.
    let first = set(&session, name, body.clone()).await;
    let wants_current = |error: &anyhow::Error| error.to_string().contains("current: Required value");
    match first {
        Err(error) if current.is_none() && wants_current(&error) => {
            body["current"] = password::read(None, &format!("Present password of {name}: "))?.into();
            set(&session, name, body).await?;
        }
        other => drop(other?),
    }
    print::line(&format!("user/{name} has a new password"));
    print::note("All sessions and tokens of the user have ended: sign in again with berth login.");
    Ok(())
}

async fn set(session: &Session, name: &str, body: Value) -> anyhow::Result<Value> {
    session.act("PUT", &format!("/api/paas/v1/users/{}/password", segment(name)), Some(&body)).await
}

/// Who the context's user is, as the server sees it.
pub(super) async fn whoami(session: &Session) -> anyhow::Result<String> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = session.act("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Some(&review)).await?;
    let name = answer["status"]["userInfo"]["username"].as_str();
    name.map(str::to_owned).ok_or_else(|| fail(Exit::Failed, "the server does not say who you are"))
}

/// A name as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}
