//! Who has which role where: maps by subject, so that a decision looks at the caller's own bindings and no others.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::{Identity, Rule};
use super::Tables;
use super::object::{Binding, Role, RoleRef, Who};
use crate::store::{Change, Event, KindId, Object};

type Name = Arc<str>;
/// Roles by name.
type Roles = HashMap<Name, Arc<[Rule]>>;

/// The roles and bindings of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    cluster_roles: Roles,
    /// By namespace.
    roles: HashMap<Name, Roles>,
    cluster: Grants,
    /// By namespace.
    namespaces: HashMap<Name, Grants>,
}

/// Which roles whom is given in one place.
#[derive(Debug, Default)]
struct Grants {
    users: HashMap<Name, Vec<Grant>>,
    groups: HashMap<Name, Vec<Grant>>,
}

/// One binding's role; two bindings may give the same.
#[derive(Debug)]
struct Grant {
    binding: Name,
    /// A ClusterRole, or a Role of the place.
    cluster_role: bool,
    role: Name,
}

impl Index {
    /// Takes in one change.
    pub(super) fn apply(&mut self, tables: Tables, kind: KindId, event: &Event) {
        if let Some(previous) = &event.previous {
            self.take(tables, kind, previous);
        }
        if event.change == Change::Deleted {
            self.take(tables, kind, &event.object);
        } else {
            self.put(tables, kind, &event.object);
        }
    }

    /// Adds an object that is not in the index.
    pub(super) fn put(&mut self, tables: Tables, kind: KindId, object: &Object) {
        let (namespace, name) = (Arc::clone(&object.namespace), Arc::clone(&object.name));
        if kind == tables.cluster_roles {
            self.cluster_roles.insert(name, Role::read(object).rules().into());
        } else if kind == tables.roles {
            self.roles.entry(namespace).or_default().insert(name, Role::read(object).rules().into());
        } else if kind == tables.cluster_bindings {
            self.cluster.add(object);
        } else if kind == tables.bindings {
            self.namespaces.entry(namespace).or_default().add(object);
        }
    }

    /// Removes an object, in the state in which it was added.
    fn take(&mut self, tables: Tables, kind: KindId, object: &Object) {
        if kind == tables.cluster_roles {
            self.cluster_roles.remove(&object.name);
        } else if kind == tables.roles {
            if let Some(roles) = self.roles.get_mut(&object.namespace) {
                roles.remove(&object.name);
                if roles.is_empty() {
                    self.roles.remove(&object.namespace);
                }
            }
        } else if kind == tables.cluster_bindings {
            self.cluster.remove(object);
        } else if kind == tables.bindings
            && let Some(grants) = self.namespaces.get_mut(&object.namespace)
        {
            grants.remove(object);
            if grants.users.is_empty() && grants.groups.is_empty() {
                self.namespaces.remove(&object.namespace);
            }
        }
    }

    /// Shows the rules that `identity` has in a namespace (empty for the cluster's own objects and paths) until `visit`
    /// says that it has seen enough, and returns whether it did.
    pub(super) fn visit<'a>(
        &'a self,
        identity: &Identity,
        namespace: &str,
        mut visit: impl FnMut(&'a Rule) -> bool,
    ) -> bool {
        let mut enough = |grant: &Grant, namespace: &str| {
            let rules = self.rules(namespace, grant.cluster_role, &grant.role);
            rules.is_some_and(|rules| rules.iter().any(&mut visit))
        };
        if self.cluster.of(identity).any(|grant| enough(grant, "")) {
            return true;
        }
        let grants = if namespace.is_empty() { None } else { self.namespaces.get(namespace) };
        grants.is_some_and(|grants| grants.of(identity).any(|grant| enough(grant, namespace)))
    }

    fn rules(&self, namespace: &str, cluster_role: bool, name: &str) -> Option<&Arc<[Rule]>> {
        if cluster_role { self.cluster_roles.get(name) } else { self.roles.get(namespace)?.get(name) }
    }

    pub(super) fn rules_of_role(&self, namespace: &str, role: &RoleRef) -> Option<Arc<[Rule]>> {
        self.rules(namespace, role.is_cluster_role(), &role.name).map(Arc::clone)
    }

    /// The namespaces with a grant for `identity`. Looks at every namespace once: a question of people, not of
    /// requests.
    pub(super) fn namespaces_of(&self, identity: &Identity) -> Vec<String> {
        let theirs = self.namespaces.iter().filter(|(_, grants)| grants.of(identity).next().is_some());
        let mut names: Vec<String> = theirs.map(|(name, _)| (**name).to_owned()).collect();
        names.sort_unstable();
        names
    }
}

impl Grants {
    fn of<'a>(&'a self, identity: &'a Identity) -> impl Iterator<Item = &'a Grant> {
        let own = self.users.get(identity.user.as_str());
        let groups = identity.groups.iter().filter_map(|group| self.groups.get(group.as_str()));
        own.into_iter().chain(groups).flatten()
    }

    fn add(&mut self, object: &Object) {
        let binding = Binding::read(object);
        let role: Name = binding.role_ref.name.as_str().into();
        for subject in binding.subjects() {
            let grant = Grant {
                binding: Arc::clone(&object.name),
                cluster_role: binding.role_ref.is_cluster_role(),
                role: Arc::clone(&role),
            };
            match subject.who(&object.namespace) {
                Some(Who::User(name)) => self.users.entry(name).or_default().push(grant),
                Some(Who::Group(name)) => self.groups.entry(name).or_default().push(grant),
                None => {}
            }
        }
    }

    fn remove(&mut self, object: &Object) {
        for subject in Binding::read(object).subjects() {
            let (grants, name) = match subject.who(&object.namespace) {
                Some(Who::User(name)) => (&mut self.users, name),
                Some(Who::Group(name)) => (&mut self.groups, name),
                None => continue,
            };
            if let Some(list) = grants.get_mut(&name) {
                list.retain(|grant| grant.binding != object.name);
                if list.is_empty() {
                    grants.remove(&name);
                }
            }
        }
    }
}
