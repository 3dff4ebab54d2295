//! What the server reads of a person's object.

use serde::Deserialize;

use super::Accounts;
use crate::auth::Identity;
use crate::store::{Key, Object};

/// Somebody who may sign in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) groups: Vec<String>,
    pub(super) disabled: bool,
}

/// The fields that are looked at; everything else is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    spec: Spec,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    groups: Vec<String>,
    disabled: bool,
}

impl Person {
    /// Reads an object. One that cannot be read is nobody's, and one that is on its way out signs nobody in.
    pub(super) fn read(object: &Object) -> Option<Self> {
        let Body { spec: Spec { groups, disabled } } = serde_json::from_slice(&object.body).ok()?;
        let disabled = disabled || object.meta.deletion_timestamp.is_some();
        Some(Self { name: (*object.name).into(), uid: (*object.uid).into(), groups, disabled })
    }

    /// As whom the person calls the API.
    pub(super) fn identity(&self) -> Identity {
        Identity { uid: self.uid.clone(), ..Identity::new(self.name.clone(), self.groups.iter().cloned()) }
    }
}

impl Accounts {
    /// The person of that name.
    pub(super) fn person(&self, name: &str) -> Option<Person> {
        self.store.get(&Key::new(self.people, "", name)).and_then(|object| Person::read(&object))
    }
}
