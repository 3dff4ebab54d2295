//! User: whether somebody can sign in. Signing in itself is the API server's; here is only told how things stand.

mod plan;
mod status;
#[cfg(test)]
mod tests;

pub use status::{Observed, Status};

use crds::User;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use crate::Settings;
use crate::reconcile::Reconcile;
use crate::step::Step;
use crate::world::{Key, World};

/// The name of a user's, when the Secret is that user's password.
pub(crate) fn whose_password(secret: &Secret) -> Option<&str> {
    let metadata = &secret.metadata;
    let ours = metadata.namespace.as_deref() == Some(crds::SYSTEM_NAMESPACE);
    let owner = metadata.owner_references.as_ref()?.iter().find(|owner| owner.kind == "User")?;
    (ours && secret.type_.as_deref() == Some(crds::user::PASSWORD_TYPE)).then_some(&owner.name)
}

impl Reconcile for User {
    type Observed = Observed;
    type Status = Status;

    fn observe(&self, world: &World, _settings: &Settings, now: Timestamp) -> Observed {
        let secret = crds::user::password_name(self.metadata.uid.as_deref().unwrap_or_default());
        let has_password = world.secrets.get(&Key::new(crds::SYSTEM_NAMESPACE, secret)).is_some();
        Observed { now, has_password }
    }

    fn plan(&self, observed: &Observed) -> Vec<Step> {
        plan::plan(self, observed)
    }

    fn status(&self, observed: &Observed) -> Status {
        status::status(self, observed)
    }
}
