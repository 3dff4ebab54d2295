//! What a plan is made of. Each step can be taken twice and does no more the second time.

use crds::{Application, Build, Instance, Node, Plan, Release, Runtime, User};
use kube::Resource;
use serde_json::Value;

use crate::world::{Key, Watched};

/// The kinds that steps may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noun {
    /// What can be bought.
    Plan,
    /// How source becomes an image.
    Runtime,
    /// A worker.
    Node,
    /// What a customer wants to run.
    Application,
    /// From source to image.
    Build,
    /// What makes an instance.
    Release,
    /// A container.
    Instance,
    /// Somebody who signs in.
    User,
}

/// Runs an expression with `$kind` standing for the type of a [`Noun`].
macro_rules! of_noun {
    ($noun:expr, $kind:ident => $body:expr) => {
        match $noun {
            $crate::step::Noun::Plan => {
                type $kind = crds::Plan;
                $body
            }
            $crate::step::Noun::Runtime => {
                type $kind = crds::Runtime;
                $body
            }
            $crate::step::Noun::Node => {
                type $kind = crds::Node;
                $body
            }
            $crate::step::Noun::Application => {
                type $kind = crds::Application;
                $body
            }
            $crate::step::Noun::Build => {
                type $kind = crds::Build;
                $body
            }
            $crate::step::Noun::Release => {
                type $kind = crds::Release;
                $body
            }
            $crate::step::Noun::Instance => {
                type $kind = crds::Instance;
                $body
            }
            $crate::step::Noun::User => {
                type $kind = crds::User;
                $body
            }
        }
    };
}
pub(crate) use of_noun;

/// A kind that steps may change.
pub trait Nouned: Watched {
    /// Which one.
    const NOUN: Noun;
}

macro_rules! nouned {
    ($($kind:ident),*) => {
        $(impl Nouned for $kind {
            const NOUN: Noun = Noun::$kind;
        })*
    };
}
nouned!(Plan, Runtime, Node, Application, Build, Release, Instance, User);

/// An object to be made.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A build.
    Build(Box<Build>),
    /// A release.
    Release(Box<Release>),
    /// An instance.
    Instance(Box<Instance>),
}

/// An object that is there, in the state in which the plan saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub noun: Noun,
    /// Its namespace and name.
    pub key: Key,
    /// Its uid: another object of the same name is not meant.
    pub uid: String,
    /// Its resource version: if it has changed since, the step fails and the plan is made anew. `None` where any state
    /// will do.
    pub resource_version: Option<String>,
}

impl Target {
    /// An object in exactly the state that was seen.
    pub fn exactly<K: Nouned>(object: &K) -> Self {
        Self { resource_version: object.meta().resource_version.clone(), ..Self::of(object) }
    }

    /// An object in whatever state it is by now.
    pub fn of<K: Nouned>(object: &K) -> Self {
        Self {
            noun: K::NOUN,
            key: Key::of(object),
            uid: object.meta().uid.clone().unwrap_or_default(),
            resource_version: None,
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make an object, unless one of its name is there.
    Create(Object),
    /// Change metadata or spec by a merge patch.
    Patch {
        /// Of which object.
        of: Target,
        /// The patch.
        patch: Value,
    },
    /// Change a status that another reconciler publishes, in fields that it leaves alone.
    PatchStatus {
        /// Of which object.
        of: Target,
        /// The patch of the status itself.
        patch: Value,
    },
    /// Ask for an object to go. Its finalizers decide when it does.
    Delete(Target),
    /// Tell people, as an Event on the object that is reconciled.
    Emit(Note),
}

impl Step {
    /// Replaces the finalizers of an object as it was seen.
    pub fn finalizers<K: Nouned>(object: &K, finalizers: &[String]) -> Self {
        Self::Patch {
            of: Target::exactly(object),
            patch: serde_json::json!({ "metadata": { "finalizers": finalizers } }),
        }
    }

    /// Puts a finalizer on an object, if it is not there yet.
    pub fn hold<K: Nouned>(object: &K, finalizer: &str) -> Option<Self> {
        let mut list = Resource::meta(object).finalizers.clone().unwrap_or_default();
        if list.iter().any(|present| present == finalizer) {
            return None;
        }
        list.push(finalizer.to_owned());
        Some(Self::finalizers(object, &list))
    }

    /// Takes a finalizer off an object, if it is there.
    pub fn release<K: Nouned>(object: &K, finalizer: &str) -> Option<Self> {
        let list = Resource::meta(object).finalizers.clone().unwrap_or_default();
        let rest: Vec<String> = list.iter().filter(|present| *present != finalizer).cloned().collect();
        (rest.len() < list.len()).then(|| Self::finalizers(object, &rest))
    }
}

/// Something a person may wonder about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether somebody should do something about it.
    pub warning: bool,
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Note {
    /// Something that goes as it should.
    pub fn normal(reason: &str, message: impl Into<String>) -> Step {
        Step::Emit(Self { warning: false, reason: reason.to_owned(), message: message.into() })
    }

    /// Something that does not.
    pub fn warning(reason: &str, message: impl Into<String>) -> Step {
        Step::Emit(Self { warning: true, reason: reason.to_owned(), message: message.into() })
    }
}

/// Whether an object is on its way out.
pub fn is_deleted<K: Watched>(object: &K) -> bool {
    object.meta().deletion_timestamp.is_some()
}
