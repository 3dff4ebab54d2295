//! Setting a password: one's own, knowing the present one, or somebody else's.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Extension, Path, State as Shared};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;

use super::person::Person;
use super::{Accounts, answer, credential, password};
use crate::audit;
use crate::auth::{Attributes, Identity, allows};
use crate::error::Error;
use crate::server::State;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    password: String,
    #[serde(default)]
    current: Option<String>,
}

/// Sets a password, which ends every session and token that was made under the one before.
pub(super) async fn set(
    Shared(state): Shared<Arc<State>>,
    Extension(caller): Extension<Identity>,
    Path(name): Path<String>,
    body: Result<axum::Json<Wanted>, JsonRejection>,
) -> Result<Response, Error> {
    let accounts = answer::accounts(&state)?;
    let result = match answer::body(body) {
        Ok(wanted) => accounts.set(&state, &caller, &name, wanted).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => {
            audit::note_part(&state, &caller, "update", &accounts.target_of(&name), "password", &error);
            Err(error)
        }
    }
}

impl Accounts {
    async fn set(&self, state: &State, caller: &Identity, name: &str, wanted: Wanted) -> Result<(), Error> {
        let Wanted { password, current } = wanted;
        let person = self.person(name);
        // A certificate or a token of an identity provider of the same name is somebody else.
        let own = person.as_ref().is_some_and(|person| caller.user == name && caller.uid == person.uid);
        let mut replaced = None;
        if own {
            // Whatever else they may do: who has found a token, or a screen that is open, must not shut out its owner.
            if credential(caller, "SESSION").is_none() {
                let message = "a password of one's own is set in a session: sign in first";
                return Err(Error::forbidden(&self.target.kind.group, &self.target.kind.plural, name, message));
            }
            let current = current.ok_or_else(|| {
                answer::invalid("Password", "current", "Required value: the present password, which is to be replaced")
            })?;
            let proved = self.prove(name, current, caller).await.map_err(|error| match error.code() {
                401 => answer::invalid("Password", "current", "Invalid value: it is not the present password"),
                _ => error,
            })?;
            replaced = Some(proved.1);
        } else if let Some(refusal) = self.refusal(state, caller, name, person.as_ref()).await {
            return Err(refusal);
        } else if caller.credential.is_some() && credential(caller, "SESSION").is_none() {
            let message = "no token sets a password: sign in, or use a service account or a certificate";
            return Err(Error::forbidden(&self.target.kind.group, &self.target.kind.plural, name, message));
        }
        let person = person.ok_or_else(|| Error::not_found(&self.target.kind, name))?;
        if let Some(problem) = password::problem(name, &password) {
            return Err(answer::invalid("Password", "password", format!("Invalid value: the password {problem}")));
        }
        let hash = self.hasher.hash(password).await?;
        let line = audit::part(state, caller, "update", &self.target_of(name), "password", 204, None);
        self.keep(&person, &hash, replaced.as_ref(), line).await
    }

    /// Why the caller may not set anybody's password; `None` if they may. Whoever sets a password can sign in with it, so it
    /// takes the right to act as that person and their groups too.
    async fn refusal(&self, state: &State, caller: &Identity, name: &str, person: Option<&Person>) -> Option<Error> {
        let mut needed = vec![self.attributes("update", "password", name)];
        needed.push(acting("users", name));
        needed.extend(person.into_iter().flat_map(|person| &person.groups).map(|group| acting("groups", group)));
        for attributes in needed {
            if !allows(&*state.authorizer, caller, &attributes).await {
                let refusal = attributes.refusal(caller);
                return Some(Error::forbidden(&attributes.group, &attributes.resource, &attributes.name, &refusal));
            }
        }
        None
    }

    /// Doing something with a part of a person, as rules name it.
    pub(super) fn attributes(&self, verb: &str, part: &str, name: &str) -> Attributes {
        let kind = &self.target.kind;
        Attributes {
            verb: verb.into(),
            group: kind.group.clone(),
            version: kind.version.clone(),
            resource: kind.plural.clone(),
            subresource: part.into(),
            name: name.into(),
            ..Attributes::default()
        }
    }
}

/// Acting as somebody, as rules name it.
pub(super) fn acting(resource: &str, name: &str) -> Attributes {
    Attributes {
        verb: "impersonate".into(),
        version: "v1".into(),
        resource: resource.into(),
        name: name.into(),
        ..Attributes::default()
    }
}
