//! Where the hash of a password is kept: in a Secret of the system's namespace that belongs to its person. So it is
//! replicated, sealed and collected with everything else, and nobody reads it who may not read the system's Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::Accounts;
use super::person::Person;
use crate::admission;
use crate::error::Error;
use crate::store::{self, AuditLine, Key, Write};

/// Writes against others' writes before it is given up: two administrators at a time are many.
const ATTEMPTS_MAX: usize = 5;

/// What is known of a password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// In the form of `PHC`: algorithm, parameters, salt and hash.
    pub(super) hash: String,
    /// Another one for each password: by it sessions know which they were begun with.
    pub(super) epoch: String,
}

#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    hash: String,
    epoch: String,
}

impl Accounts {
    fn address(&self, uid: &str) -> Key {
        Key::new(self.secrets, self.settings.namespace.as_str(), (self.settings.secret_name)(uid))
    }

    /// What is known of a person's password; `None` if there is none.
    pub(super) fn secret(&self, uid: &str) -> Option<Known> {
        let object = self.store.get(&self.address(uid))?;
        let Body { data } = serde_json::from_slice(&object.body).ok()?;
        let text = |value: &str| String::from_utf8(STANDARD.decode(value).ok()?).ok();
        Some(Known { hash: text(&data.hash)?, epoch: text(&data.epoch)? })
    }

    /// Puts a hash in place of what there is, under a new epoch; in place of `replaced` alone, if that is said.
    pub(super) async fn keep(
        &self,
        person: &Person,
        hash: &str,
        replaced: Option<&Known>,
        line: AuditLine,
    ) -> Result<(), Error> {
        let kind = &self.target.kind;
        let key = self.address(&person.uid);
        let body = json!({
            "apiVersion": "v1", "kind": "Secret", "type": self.settings.secret_type,
            "metadata": {
                "name": key.name, "namespace": key.namespace, "uid": uuid::Uuid::now_v7().to_string(),
                "creationTimestamp": admission::timestamp(self.clock.now()),
                "ownerReferences": [{
                    "apiVersion": kind.api_version(), "kind": kind.kind, "name": person.name, "uid": person.uid,
                }],
            },
            "data": {"hash": STANDARD.encode(hash), "epoch": STANDARD.encode(uuid::Uuid::new_v4().to_string())},
        });
        for _ in 0..ATTEMPTS_MAX {
            // Who knew the password before an administrator set another one does not undo that.
            if replaced.is_some_and(|replaced| self.secret(&person.uid).as_ref() != Some(replaced)) {
                return Err(Error::conflict(kind, &person.name));
            }
            let write = match self.store.get(&key) {
                None => Write::Create { key: key.clone(), body: body.clone() },
                Some(present) => {
                    let mut next = present.value();
                    next["data"] = body["data"].clone();
                    Write::Replace { key: key.clone(), expected_revision: present.revision, body: next }
                }
            };
            match self.store.write_audited(write, Some(line.clone())).await {
                Ok(_) => return Ok(()),
                Err(store::Error::Exists { .. } | store::Error::Conflict { .. } | store::Error::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::conflict(kind, &person.name))
    }
}
