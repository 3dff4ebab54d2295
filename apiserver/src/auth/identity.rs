//! Who is asking.

/// The group whose members may do everything, as in Kubernetes.
pub const ADMINS: &str = "system:masters";
/// Everybody who showed a valid credential.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// The caller, as a request extension of every authenticated request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name; the service's, for tokens of services.
    pub user: String,
    /// The groups, without repetition.
    pub groups: Vec<String>,
}

impl Identity {
    /// An authenticated user; `system:authenticated` is added to the groups.
    pub fn new(user: impl Into<String>, groups: impl IntoIterator<Item = String>) -> Self {
        let mut all: Vec<String> = Vec::new();
        for group in groups.into_iter().chain([AUTHENTICATED.to_owned()]) {
            if !all.contains(&group) {
                all.push(group);
            }
        }
        Self { user: user.into(), groups: all }
    }

    /// A part of this process, with every right; `name` becomes `system:<name>`.
    pub fn system(name: &str) -> Self {
        Self::new(format!("system:{name}"), [ADMINS.to_owned()])
    }

    /// Somebody without a credential.
    pub fn anonymous() -> Self {
        Self { user: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()] }
    }

    /// Whether this is nobody known.
    pub fn is_anonymous(&self) -> bool {
        self.in_group(UNAUTHENTICATED)
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Whether the user may do everything.
    pub fn is_admin(&self) -> bool {
        self.in_group(ADMINS)
    }
}
