//! The master keys of a running server: which it has, and how they are replaced.

mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use apiserver::error::Error;
use apiserver::store::{self, BackendError, KeyRing, Store};
use apiserver::{Identity, Server};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::{Method, StatusCode, Uri};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub(crate) use self::source::{Source, of_file, write};

/// How often a file of keys is looked at: so soon do all servers have what was put there.
const LOOK: Duration = Duration::from_secs(5);

/// The keys, where they come from, and what they are for. Clones are the same.
#[derive(Clone)]
pub(crate) struct Keys(Arc<Inner>);

struct Inner {
    ring: Arc<KeyRing>,
    source: Source,
    rotation: Mutex<Rotation>,
}

/// How the last rotation went, since this server started.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    phase: Phase,
    /// Rows that were changed.
    rows: u64,
    /// Why it failed.
    message: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
enum Phase {
    #[default]
    None,
    Running,
    Done,
    Failed,
}

/// What is told of the keys: never they themselves.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// The id of the key that is sealed with.
    primary: String,
    /// The ids of all keys that this server has.
    given: Vec<String>,
    /// The ids of the keys that something in the store may need.
    needed: Vec<String>,
    /// Whether other servers, which need the same keys, may use the store too.
    shared: bool,
    rotation: Rotation,
}

impl Keys {
    pub(crate) fn new(ring: Arc<KeyRing>, source: Source) -> Self {
        Self(Arc::new(Inner { ring, source, rotation: Mutex::default() }))
    }

    /// Takes over what is put into the file of keys, until the shutdown.
    pub(crate) async fn follow(self, store: Store, shutdown: CancellationToken) {
        let mut seen = self.0.source.changed();
        let mut told = None;
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if store.is_shared()
                && let Err(error) = store.note_key().await
            {
                tracing::debug!(error = chain(error), "whether the master key is noted cannot be asked");
            }
            let changed = self.0.source.changed();
            if changed == seen || changed.is_none() {
                continue;
            }
            // What cannot be used now is tried again: the database may be away, or another key be put back.
            match self.reread(&store).await {
                Ok(()) => {
                    seen = changed;
                    tracing::info!(primary = self.primary(), "the master keys were read again");
                }
                Err(error) if told != changed => {
                    told = changed;
                    tracing::error!(%error, "the file of master keys was changed and cannot be used");
                }
                Err(_told) => {}
            }
        }
    }

    /// The routes about keys, to be served behind the API's authentication: for administrators.
    pub(crate) fn router(&self, server: &Server, store: &Store) -> Router {
        let served = Served { keys: self.clone(), store: store.clone(), server: server.clone() };
        Router::new()
            .route("/api/paas/v1/keys", get(status))
            .route("/api/paas/v1/keys/rotation", post(rotate))
            .with_state(served)
    }

    fn primary(&self) -> String {
        self.0.ring.ids().into_iter().next().unwrap_or_default()
    }

    fn rotation(&self) -> MutexGuard<'_, Rotation> {
        self.0.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the keys again. Those that are still needed must be among them.
    async fn reread(&self, store: &Store) -> Result<(), Error> {
        let keys = self.0.source.read().await.map_err(|error| Error::bad_request(format!("{error:#}")))?;
        store.replace_keys(keys).await.map_err(|error| match &error {
            store::Error::Backend(cause) if matches!(**cause, BackendError::Seal(_)) => {
                Error::bad_request(cause.to_string())
            }
            _ => Error::internal(chain(error)),
        })
    }

    async fn status(&self, store: &Store) -> Result<Status, Error> {
        let known = store.master_keys().await.map_err(|error| Error::internal(chain(error)))?;
        let needed = known.into_iter().map(|key| key.id).collect();
        let (given, shared) = (self.0.ring.ids(), store.is_shared());
        Ok(Status { primary: self.primary(), given, needed, shared, rotation: self.rotation().clone() })
    }
}

/// An error with what led to it.
fn chain(error: store::Error) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[derive(Clone)]
struct Served {
    keys: Keys,
    store: Store,
    server: Server,
}

async fn status(State(served): State<Served>) -> Response {
    match served.keys.status(&served.store).await {
        Ok(status) => Json(status).into_response(),
        Err(error) => error.into_response(),
    }
}

/// Reads the keys again and brings everything to the first of them, in the background.
async fn rotate(
    State(served): State<Served>,
    Extension(identity): Extension<Identity>,
    method: Method,
    uri: Uri,
) -> Response {
    let Served { keys, store, server } = served;
    if let Err(error) = keys.reread(&store).await {
        return error.into_response();
    }
    let begun = {
        let mut rotation = keys.rotation();
        let idle = rotation.phase != Phase::Running;
        if idle {
            *rotation = Rotation { phase: Phase::Running, ..Rotation::default() };
        }
        idle
    };
    if begun {
        server.note_action(&identity, &method, uri.path(), StatusCode::ACCEPTED);
        let (keys, store) = (keys.clone(), store.clone());
        apiserver::task::spawn("rotation", async move {
            let result = store.rewrap().await;
            let mut rotation = keys.rotation();
            match result {
                Ok(rows) => {
                    tracing::info!(rows, "everything is sealed with the new master key");
                    *rotation = Rotation { phase: Phase::Done, rows, message: String::new() };
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the master key was not replaced everywhere"
                    );
                    *rotation = Rotation { phase: Phase::Failed, message: chain(error), ..Rotation::default() };
                }
            }
        });
    }
    match keys.status(&store).await {
        Ok(status) => (StatusCode::ACCEPTED, Json(status)).into_response(),
        Err(error) => error.into_response(),
    }
}
