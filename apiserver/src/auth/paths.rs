//! Paths that are no resources: refused unless somebody allows them, whatever handler stands behind them.

use http::Method;
use http::request::Parts;

use super::{Attributes, Identity, allows};
use crate::error::Error;
use crate::server::State;
use crate::{audit, path};

/// Whether a request may go on: one that its path says enough of, or one for a resource, which is authorised when it is
/// known what it is about.
pub(crate) async fn authorise_path(state: &State, identity: &Identity, parts: &Parts) -> Result<(), Error> {
    let path = parts.uri.path();
    if path::is_resource(path) {
        return Ok(());
    }
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let wanted = Attributes::of_path(&method.as_str().to_ascii_lowercase(), path);
    if allows(&*state.authorizer, identity, &wanted).await {
        return Ok(());
    }
    // Of who is nobody there is nothing to be told, and anybody could fill the log.
    if wanted.verb != "get" && !identity.is_anonymous() {
        audit::note_path(state, identity, &wanted.verb, path, 403);
    }
    Err(Error::forbidden_path(&identity.user, &wanted.verb, path))
}
