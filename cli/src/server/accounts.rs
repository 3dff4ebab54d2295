//! Who the people are that sign in: Berth's Users, with their passwords among its own Secrets.

use apiserver::accounts::Settings;

use super::roles;

/// As the API server is told.
pub(crate) fn settings() -> Settings {
    Settings {
        group: crds::GROUP.to_owned(),
        version: crds::VERSION.to_owned(),
        plural: "users".to_owned(),
        namespace: crds::SYSTEM_NAMESPACE.to_owned(),
        secret_type: crds::user::PASSWORD_TYPE.to_owned(),
        secret_name: crds::user::password_name,
        acting: roles::acting(),
    }
}
