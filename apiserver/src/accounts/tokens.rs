//! Tokens for people's programs: made in a session, shown once, good for a time and, if wished, for little.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, Query, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::scope::Written;
use super::{Accounts, TOKEN_PREFIX, TOKENS_MAX, answer, credential};
use crate::admission;
use crate::audit;
use crate::auth::{Identity, allows};
use crate::error::Error;
use crate::server::State;
use crate::store::{NewToken, Purpose, Token};

/// What who names no time gets.
const DAYS_DEFAULT: i64 = 90;
/// A program that is looked after once a year must come by, and a lost token does not work for ever.
const DAYS_MAX: i64 = 365;
const DESCRIPTION_CHARS_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    description: String,
    #[serde(default)]
    expires: Option<Timestamp>,
    #[serde(default)]
    scope: Option<Written>,
}

/// Makes a token of the caller's own.
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
    body: Result<axum::Json<Wanted>, JsonRejection>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    let result = match answer::body(body) {
        Ok(wanted) => accounts.make_token(&state, &caller, wanted).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(made) => Ok(answer::send(StatusCode::CREATED, &made)),
        Err(error) => {
            audit::note_part(&state, &caller, "create", &accounts.target_of(&caller.user), "token", &error);
            Err(error)
        }
    }
}

/// Whose tokens are wanted; one's own otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    all: bool,
}

enum Whose {
    Own,
    Of(String),
    All,
}

/// Lists tokens that open something, or did until lately.
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    let Query(asked) = asked.map_err(|_unknown| Error::bad_request("the parameters are user=NAME or all=true"))?;
    let whose = match (asked.all, asked.user) {
        (true, _) => Whose::All,
        (false, Some(name)) if !accounts.is_own(&caller, &name) => Whose::Of(name),
        _ => Whose::Own,
    };
    match &whose {
        Whose::All => accounts.authorise(&state, &caller, "list", "").await?,
        Whose::Of(name) => accounts.authorise(&state, &caller, "list", name).await?,
        Whose::Own => {}
    }
    // Whether or not the database answers.
    accounts.store.refresh().await.ok();
    let wanted = |token: &Arc<Token>| {
        token.purpose == Purpose::Token
            && match &whose {
                Whose::All => true,
                Whose::Of(name) => token.user == *name,
                Whose::Own => token.user == caller.user && token.bond.uid == caller.uid,
            }
    };
    let items: Vec<Value> =
        accounts.store.tokens().list().iter().filter(|token| wanted(token)).map(|token| accounts.show(token)).collect();
    Ok(answer::send(StatusCode::OK, &json!({"items": items})))
}

/// Ends a token.
pub(super) async fn revoke(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    accounts.store.refresh().await.ok();
    let result = accounts.end_token(&state, &caller, &id).await;
    if let Err(error) = &result {
        audit::note_part(&state, &caller, "delete", &accounts.target_of(&caller.user), "token", error);
    }
    result
}

impl Accounts {
    async fn end_token(&self, state: &State, caller: &Identity, id: &str) -> Result<Response, Error> {
        let all = self.store.tokens().list();
        let found = all.iter().find(|token| token.id == id && token.purpose != Purpose::Standing);
        let found = found.filter(|token| token.user == caller.user && token.bond.uid == caller.uid);
        let token = if let Some(token) = found {
            Arc::clone(token)
        } else {
            // Whoever may not end everybody's is not told which there are.
            self.authorise(state, caller, "delete", "").await?;
            let found = all.iter().find(|token| token.id == id && token.purpose != Purpose::Standing);
            Arc::clone(found.ok_or_else(|| Error::no_such_token(id))?)
        };
        // What lies about in a script must not shut out the person who works.
        if token.purpose == Purpose::Session && caller.credential.is_some() && credential(caller, "SESSION").is_none() {
            let message = "no token ends a session";
            return Err(Error::forbidden(&self.target.kind.group, "tokens", id, message));
        }
        let change = json!({"id": token.id, "description": token.description});
        let target = self.target_of(&token.user);
        let line = audit::part(state, caller, "delete", &target, token.purpose.as_str(), 204, Some(&change));
        self.store.tokens().revoke_audited(id, Some(line)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    async fn make_token(&self, state: &State, caller: &Identity, wanted: Wanted) -> Result<Value, Error> {
        let Wanted { description, expires, scope } = wanted;
        // Only whoever has signed in just now and here: a token that makes tokens would never end.
        let session = credential(caller, "SESSION")
            .filter(|_| caller.scope.is_none())
            .and_then(|id| self.valid_of(&caller.user, Purpose::Session).into_iter().find(|session| session.id == id));
        let Some(session) = session else {
            let message = "tokens are made in a session: sign in with a password first; programs have service accounts";
            return Err(Error::forbidden(&self.target.kind.group, "tokens", "", message));
        };
        let description = description.trim().to_owned();
        let chars = description.chars().count();
        if !(1..=DESCRIPTION_CHARS_MAX).contains(&chars) || description.chars().any(char::is_control) {
            let message =
                format!("Invalid value: must be 1 to {DESCRIPTION_CHARS_MAX} characters, and none for control");
            return Err(answer::invalid("Token", "description", message));
        }
        let now = self.clock.now();
        let days = |days: i64| now + SignedDuration::from_hours(24 * days);
        let expires = expires.unwrap_or_else(|| days(DAYS_DEFAULT));
        // A client's clock may be ahead by a little.
        if expires <= now || expires > days(DAYS_MAX) + SignedDuration::from_mins(5) {
            let message =
                format!("Invalid value: {expires}: must be in the future, and at most {DAYS_MAX} days from now");
            return Err(answer::invalid("Token", "expires", message));
        }
        if self.valid_of(&caller.user, Purpose::Token).len() >= TOKENS_MAX {
            let message = format!("there are {TOKENS_MAX} tokens already: revoke those that are not used");
            return Err(Error::forbidden(&self.target.kind.group, "tokens", "", &message));
        }
        let scope = scope.map(|scope| scope.read(&state.kinds, &self.settings.acting)).transpose()?;
        let new = NewToken {
            user: caller.user.clone(),
            groups: Vec::new(),
            expires: Some(expires),
            description,
            purpose: Purpose::Token,
            bond: session.bond.clone(),
            scope,
        };
        let told = json!({
            "description": new.description,
            "expires": admission::timestamp(expires),
            "scope": new.scope.as_ref().map(Written::of),
        });
        let target = self.target_of(&caller.user);
        let line = audit::part(state, caller, "create", &target, "token", 201, Some(&told));
        let (secret, token) = self.store.tokens().issue(TOKEN_PREFIX, new, line).await?;
        let mut made = self.show(&token);
        made["token"] = secret.into();
        Ok(made)
    }

    /// A token without its secret.
    fn show(&self, token: &Token) -> Value {
        let time = |at: Option<Timestamp>| at.map(admission::timestamp);
        json!({
            "id": token.id,
            "user": token.user,
            "description": token.description,
            "created": admission::timestamp(token.created),
            "expires": time(token.expires),
            "lastUsed": time(token.last_used),
            "revoked": time(token.revoked),
            "valid": token.is_valid(self.clock.now()) && self.standing(token).is_some(),
            "scope": token.scope.as_deref().map(Written::of),
        })
    }

    /// Whether a name is the caller's own: that of the person who has signed in, not of whoever else has the same name.
    fn is_own(&self, caller: &Identity, name: &str) -> bool {
        name == caller.user && self.person(name).is_some_and(|person| person.uid == caller.uid)
    }

    async fn authorise(&self, state: &State, caller: &Identity, verb: &str, name: &str) -> Result<(), Error> {
        let attributes = self.attributes(verb, "tokens", name);
        if allows(&*state.authorizer, caller, &attributes).await {
            return Ok(());
        }
        Err(Error::forbidden(&attributes.group, &attributes.resource, name, &attributes.refusal(caller)))
    }
}
