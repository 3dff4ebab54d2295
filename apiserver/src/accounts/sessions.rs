//! Signing in and out.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::person::Person;
use super::secret::Known;
use super::{Accounts, SESSION_MAX, SESSION_PREFIX, SESSIONS_MAX, answer, credential, password};
use crate::admission;
use crate::audit;
use crate::auth::Identity;
use crate::error::Error;
use crate::server::State;
use crate::store::{Bond, NewToken, Purpose, Token};

/// Longer names are nobody's.
const NAME_BYTES_MAX: usize = 253;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    username: String,
    password: String,
}

/// Begins a session for whoever knows the password.
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
    body: Result<axum::Json<Wanted>, JsonRejection>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    let Wanted { username, password } = answer::body(body)?;
    let (person, known) = match accounts.prove(&username, password, &caller).await {
        Ok(proved) => proved,
        Err(error) => {
            // A name that is nobody's is not noted: it may be a password that was typed into the wrong field.
            let name = accounts.person(&username).map_or(String::new(), |person| person.name);
            audit::note_part(&state, &caller, "create", &accounts.target_of(&name), "session", &error);
            return Err(error);
        }
    };
    let identity = Identity { origin: caller.origin.clone(), ..person.identity() };
    let new = NewToken {
        user: person.name.clone(),
        expires: Some(accounts.clock.now() + SESSION_MAX),
        description: identity.origin.as_ref().map_or(String::new(), |origin| origin.user_agent.clone()),
        purpose: Purpose::Session,
        bond: Bond { uid: person.uid.clone(), epoch: known.epoch },
        ..NewToken::default()
    };
    let line = audit::part(&state, &identity, "create", &accounts.target_of(&person.name), "session", 201, None);
    let (secret, token) = accounts.store.tokens().issue(SESSION_PREFIX, new, line).await?;
    accounts.end_oldest_sessions(&person.name).await?;
    let value = json!({
        "token": secret,
        "expires": token.expires.map(admission::timestamp),
        "user": {"username": person.name, "uid": person.uid, "groups": identity.groups},
    });
    Ok(answer::send(StatusCode::CREATED, &value))
}

/// Ends the session that the request came with.
pub(super) async fn end(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    let session =
        credential(&caller, "SESSION").ok_or_else(|| Error::bad_request("the request came with no session"))?;
    let line = audit::part(&state, &caller, "delete", &accounts.target_of(&caller.user), "session", 204, None);
    accounts.store.tokens().revoke_audited(session, Some(line)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Accounts {
    /// The person of that name, if it is their password and they may sign in; otherwise 401, whatever the reason, after the
    /// same time. After some failures 429.
    pub(super) async fn prove(
        &self,
        name: &str,
        password: String,
        caller: &Identity,
    ) -> Result<(Person, Known), Error> {
        if name.len() > NAME_BYTES_MAX || password.chars().count() > password::CHARS_MAX {
            return Err(Error::wrong_password());
        }
        let entered = self.throttle.enter(name, answer::address(caller), Instant::now());
        let entered = entered.map_err(|wait| {
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Error::too_many("too many failed attempts to sign in", seconds.max(1))
        })?;
        // What another server has changed a moment ago counts here too. Whether or not the database answers.
        self.store.refresh().await.ok();
        let person = self.person(name).filter(|person| !person.disabled);
        let known = person.as_ref().and_then(|person| self.secret(&person.uid));
        let fits = match self.hasher.fits(password, known.as_ref().map(|known| known.hash.clone())).await {
            Ok(fits) => fits,
            Err(error) => {
                entered.withdrawn();
                return Err(error);
            }
        };
        match (person, known) {
            (Some(person), Some(known)) if fits => {
                entered.succeeded();
                Ok((person, known))
            }
            _ => Err(Error::wrong_password()),
        }
    }

    /// What somebody has of one purpose and opens something now, the oldest first.
    pub(super) fn valid_of(&self, name: &str, purpose: Purpose) -> Vec<Arc<Token>> {
        let now = self.clock.now();
        let all = self.store.tokens().list().into_iter();
        all.filter(|token| token.purpose == purpose && token.user == name && token.is_valid(now)).collect()
    }

    async fn end_oldest_sessions(&self, name: &str) -> Result<(), Error> {
        let sessions = self.valid_of(name, Purpose::Session);
        for session in sessions.iter().take(sessions.len().saturating_sub(SESSIONS_MAX)) {
            self.store.tokens().revoke(&session.id).await?;
        }
        Ok(())
    }
}
