//! Role-based access control, as Kubernetes does it: who has which roles where, and what those allow.
//!
//! Decisions are made in memory from an [`index`] that follows the store. A decision first takes in whatever was
//! committed since the last one, so that a binding counts from the moment its creation was answered.

mod aggregate;
pub mod defaults;
mod escalation;
mod index;
mod object;
mod reconcile;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use futures::future::BoxFuture;
use indexmap::IndexSet;

use self::index::Index;
use super::{Attributes, Authorizer, Identity, Rule};
use crate::kinds::Kinds;
use crate::store::{KindId, Store, Watch};

pub(crate) use self::aggregate::follow as aggregate;
pub(crate) use self::escalation::Escalation;
pub(crate) use self::reconcile::reconcile;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The four kinds, as the store numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tables {
    pub(crate) roles: KindId,
    pub(crate) cluster_roles: KindId,
    pub(crate) bindings: KindId,
    pub(crate) cluster_bindings: KindId,
}

impl Tables {
    /// Where they are, if all of them are registered.
    pub(crate) fn of(kinds: &Kinds) -> Option<Self> {
        let id = |plural: &str| kinds.find(GROUP, "v1", plural).map(|(index, _)| kinds.store_id(index));
        Some(Self {
            roles: id("roles")?,
            cluster_roles: id("clusterroles")?,
            bindings: id("rolebindings")?,
            cluster_bindings: id("clusterrolebindings")?,
        })
    }

    fn all(self) -> [KindId; 4] {
        [self.roles, self.cluster_roles, self.bindings, self.cluster_bindings]
    }
}

/// Decides by the roles and bindings in the store. Clones share one index.
#[derive(Clone, Debug)]
pub struct Rbac(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    tables: Tables,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// One for each table, at the position that the index has taken in; none at the start.
    watches: Vec<Watch>,
    index: Index,
}

impl Rbac {
    /// Follows the store; `None` if the kinds of roles and bindings are not registered.
    pub fn new(store: Store, kinds: &Kinds) -> Option<Self> {
        let tables = Tables::of(kinds)?;
        let state = RwLock::new(State { watches: Vec::new(), index: Index::default() });
        Some(Self(Arc::new(Shared { store, tables, state })))
    }

    /// Asks the index as it is after everything that was committed before this call.
    fn ask<T>(&self, question: impl Fn(&Index) -> T) -> T {
        let Shared { store, tables, state } = &*self.0;
        {
            let state = state.read().unwrap_or_else(PoisonError::into_inner);
            if !state.watches.is_empty() && !state.watches.iter().any(Watch::has_news) {
                return question(&state.index);
            }
        }
        let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
        if !state.take_in(*tables) {
            state.begin(store, *tables);
        }
        question(&state.index)
    }

    /// Every rule that `identity` has in a namespace (empty for the cluster's own objects), without the scope of its
    /// credential.
    pub(crate) fn rules_of(&self, identity: &Identity, namespace: &str) -> Vec<Rule> {
        self.ask(|index| {
            let mut all = Vec::new();
            index.visit(identity, namespace, |rule| {
                all.push(rule.clone());
                false
            });
            all
        })
        .into_iter()
        .collect::<IndexSet<_>>()
        .into_iter()
        .collect()
    }

    /// The namespaces in which `identity` has any role of its own, in order: what it can call its projects.
    pub fn namespaces_of(&self, identity: &Identity) -> Vec<String> {
        self.ask(|index| index.namespaces_of(identity))
    }

    /// The rules of a role that a binding in `namespace` refers to; `None` if there is no such role.
    pub(crate) fn rules_of_role(&self, namespace: &str, role: &object::RoleRef) -> Option<Arc<[Rule]>> {
        self.ask(|index| index.rules_of_role(namespace, role))
    }

    /// Whether it is allowed, without the scope of the credential.
    pub fn decides(&self, identity: &Identity, wanted: &Attributes) -> bool {
        identity.is_admin() || self.ask(|index| index.visit(identity, &wanted.namespace, |rule| rule.allows(wanted)))
    }
}

impl State {
    /// Applies what is new; `false` if it has not begun, or something new is no longer to be had.
    fn take_in(&mut self, tables: Tables) -> bool {
        if self.watches.is_empty() {
            return false;
        }
        for (watch, kind) in self.watches.iter_mut().zip(tables.all()) {
            while watch.has_news() {
                let Ok(events) = watch.ready() else { return false };
                for event in events {
                    self.index.apply(tables, kind, &event);
                }
            }
        }
        true
    }

    /// Reads everything.
    fn begin(&mut self, store: &Store, tables: Tables) {
        self.index = Index::default();
        self.watches.clear();
        for kind in tables.all() {
            let snapshot = store.snapshot_across_namespaces(kind);
            for object in snapshot.iter() {
                self.index.put(tables, kind, object);
            }
            match store.watch_across_namespaces(kind, snapshot.revision) {
                Ok(watch) => self.watches.push(watch),
                // Thousands of changes since the line before: the next question begins anew.
                Err(_expired) => return self.watches.clear(),
            }
        }
    }
}

impl Authorizer for Rbac {
    fn allows<'a>(&'a self, identity: &'a Identity, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        Box::pin(std::future::ready(self.decides(identity, attributes)))
    }

    fn rules<'a>(&'a self, identity: &'a Identity, namespace: &'a str) -> BoxFuture<'a, Vec<Rule>> {
        let mut rules = self.rules_of(identity, namespace);
        if identity.is_admin() {
            rules.insert(0, Rule::on_paths(&["*"], &["*"]));
            rules.insert(0, Rule::on(&["*"], &["*"], &["*"]));
        }
        Box::pin(std::future::ready(rules))
    }
}
