//! User: a person who signs in to Berth itself. The password is no part of it: its hash is kept where nobody who may read
//! Users reads it.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::invalid::{self, Invalid};

/// What the names of Kubernetes' own users and groups begin with. No person and no group of persons has one.
pub const RESERVED_PREFIX: &str = "system:";
/// The group whose members may do everything: the one reserved group that a person may be in.
pub const ADMINISTRATORS: &str = "system:masters";
/// The type of the Secret, in the system's namespace, that holds the hash of a user's password.
pub const PASSWORD_TYPE: &str = "berth.dev/password";
/// People are in some dozens of groups; every one is looked up with every request.
const GROUPS_MAX: usize = 64;
/// The longest name of a group.
const GROUP_CHARS_MAX: usize = 253;

/// Somebody who signs in with a password.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "berth.dev",
    version = "v1alpha1",
    kind = "User",
    doc = "Somebody who signs in with a password. What they may do is said by roles and bindings, which name them or a group.",
    status = "UserStatus",
    derive = "PartialEq",
    category = "berth",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Display name", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Groups", type_ = "string", json_path = ".spec.groups"),
    printcolumn(name = "Disabled", type_ = "boolean", json_path = ".spec.disabled"),
    printcolumn(
        name = "Password",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"PasswordSet\")].status"
    ),
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct UserSpec {
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub display_name: Option<String>,
    /// Where the person is reached. Nothing is sent there without being asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 254))]
    pub email: Option<String>,
    /// The groups that the person is in, as bindings name them. Whoever writes them must be allowed to act as each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub groups: Vec<String>,
    /// Whether the person is locked out: sessions and tokens end at once, and nobody signs in.
    #[serde(default)]
    pub disabled: bool,
}

/// What was observed of a user.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserStatus {
    /// The `metadata.generation` this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: the person can sign in; `PasswordSet`: whether there is a password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The name of the Secret with the hash of a user's password. It follows from the uid, so that a later user of the same
/// name does not find it.
pub fn password_name(uid: &str) -> String {
    format!("user-{uid}")
}

/// What is wrong with a user, if anything.
pub fn validate(user: &User) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    let spec = &user.spec;
    let mut seen = BTreeSet::new();
    if spec.groups.len() > GROUPS_MAX {
        wrong.push(Invalid::value("spec.groups", spec.groups.len(), format!("must be at most {GROUPS_MAX} groups")));
    }
    for (at, group) in spec.groups.iter().enumerate() {
        let field = format!("spec.groups[{at}]");
        if group.starts_with(RESERVED_PREFIX) && group != ADMINISTRATORS {
            let allowed = format!("no group of people is called {RESERVED_PREFIX}…, but for {ADMINISTRATORS}");
            wrong.push(Invalid::value(&field, group, allowed));
        }
        if group.is_empty() || group.chars().count() > GROUP_CHARS_MAX || group.chars().any(char::is_control) {
            let allowed = format!("must be 1 to {GROUP_CHARS_MAX} characters, and none for control");
            wrong.push(Invalid::value(&field, group, allowed));
        }
        if !seen.insert(group) {
            wrong.push(Invalid::value(&field, group, "must stand in the list once"));
        }
    }
    if let Some(email) = &spec.email
        && !is_email(email)
    {
        wrong.push(Invalid::value("spec.email", email, "must be an address such as ann@example.com"));
    }
    if let Some(name) = &spec.display_name
        && name.chars().any(char::is_control)
    {
        wrong.push(Invalid::value("spec.displayName", name, "must have no characters for control"));
    }
    wrong
}

/// Whether a text has the form of an address: enough to find a mistyped one, and no more than that.
fn is_email(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
    text.len() <= 254
        && text.rsplit_once('@').is_some_and(|(local, host)| plain(local) && plain(host) && !local.contains('@'))
}

pub(crate) fn validate_json(object: &Value) -> Vec<Invalid> {
    invalid::typed(object, validate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(spec: UserSpec) -> Vec<String> {
        validate(&User::new("ann", spec)).into_iter().map(|wrong| wrong.field).collect()
    }

    #[test]
    fn groups_of_the_system_are_not_for_people() {
        let groups = |groups: &[&str]| {
            fields(UserSpec { groups: groups.iter().map(|&group| group.to_owned()).collect(), ..UserSpec::default() })
        };
        assert!(groups(&["dev", "ops", "oidc:dev", ADMINISTRATORS]).is_empty());
        for reserved in ["system:serviceaccounts", "system:authenticated", "system:unauthenticated", "system:"] {
            assert_eq!(groups(&["dev", reserved]), ["spec.groups[1]"], "{reserved}");
        }
        assert_eq!(groups(&["dev", "dev"]), ["spec.groups[1]"]);
        assert_eq!(groups(&["a\nb"]), ["spec.groups[0]"]);
        assert_eq!(groups(&vec!["x"; GROUPS_MAX + 1])[0], "spec.groups");
    }

    #[test]
    fn addresses() {
        let email = |email: &str| fields(UserSpec { email: Some(email.to_owned()), ..UserSpec::default() });
        for good in ["ann@example.com", "a.b+c@x", "ann@[::1]"] {
            assert!(email(good).is_empty(), "{good}");
        }
        for bad in ["ann", "@x", "ann@", "a b@x", "a@b@c", "a\n@x"] {
            assert_eq!(email(bad), ["spec.email"], "{bad}");
        }
    }
}
