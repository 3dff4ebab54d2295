//! Seeing what is newest, where several servers share one database.

use crate::error::Error;
use crate::objects::Call;
use crate::server::State;
use crate::store::Stale;

/// How long a read waits for a revision that this server has not seen yet: Kubernetes' own patience.
const REACH_MAX: std::time::Duration = std::time::Duration::from_secs(3);

/// Makes sure that a request finds everything that was committed before it came, by whichever server. Reads that name a
/// revision say themselves how new they must be.
///
/// An error says that the database does not answer: then reads go on with what is known.
pub(crate) async fn ensure(state: &State, call: &Call, verb: &str) -> Result<(), Stale> {
    let reads = matches!(verb, "get" | "list" | "watch");
    if reads && call.query.get("resourceVersion").is_some_and(|revision| !revision.is_empty()) {
        return Ok(());
    }
    state.store.refresh().await
}

/// Waits until the store has reached a revision.
pub(crate) async fn reach(state: &State, revision: u64) -> Result<(), Error> {
    if state.store.revision() >= revision || state.store.reach(revision, REACH_MAX).await {
        return Ok(());
    }
    Err(Error::too_large_resource_version(revision, state.store.revision()))
}
