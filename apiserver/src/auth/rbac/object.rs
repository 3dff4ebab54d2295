//! Roles and bindings as they are read from stored objects.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::super::{Identity, Rule};
use crate::store::Object;

/// A Role or ClusterRole.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Role {
    rules: Option<Vec<Rule>>,
    pub(crate) aggregation_rule: Option<Aggregation>,
}

impl Role {
    pub(crate) fn read(object: &Object) -> Self {
        serde_json::from_slice(&object.body).unwrap_or_default()
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::deserialize(object).unwrap_or_default()
    }

    pub(crate) fn rules(self) -> Vec<Rule> {
        self.rules.unwrap_or_default()
    }
}

/// Which ClusterRoles' rules a ClusterRole gathers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Aggregation {
    pub(crate) cluster_role_selectors: Vec<LabelSelector>,
}

/// A label selector as objects hold it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct LabelSelector {
    pub(crate) match_labels: std::collections::BTreeMap<String, String>,
    pub(crate) match_expressions: Vec<Requirement>,
}

/// One term of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Binding {
    subjects: Option<Vec<Subject>>,
    pub(crate) role_ref: RoleRef,
}

impl Binding {
    pub(crate) fn read(object: &Object) -> Self {
        serde_json::from_slice(&object.body).unwrap_or_default()
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::deserialize(object).unwrap_or_default()
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.subjects().iter().any(|subject| subject.kind == "Group" && subject.name == group)
    }

    pub(crate) fn subjects(&self) -> &[Subject] {
        self.subjects.as_deref().unwrap_or_default()
    }
}

/// Who has a role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// As the index keys it.
pub(super) enum Who {
    User(Arc<str>),
    Group(Arc<str>),
}

impl Subject {
    /// Whom it stands for, in a binding of `namespace`; `None` for a kind that nobody is.
    pub(super) fn who(&self, namespace: &str) -> Option<Who> {
        match self.kind.as_str() {
            "User" => Some(Who::User(self.name.as_str().into())),
            "Group" => Some(Who::Group(self.name.as_str().into())),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
                // An account without a namespace is nobody.
                (!namespace.is_empty())
                    .then(|| Who::User(Identity::service_account(namespace, &self.name, "").user.into()))
            }
            _ => None,
        }
    }
}

/// The role of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl RoleRef {
    pub(crate) fn is_cluster_role(&self) -> bool {
        self.kind == "ClusterRole"
    }
}
