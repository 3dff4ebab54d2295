//! Putting a server together: store, kinds, clock, and what other crates plug in.

use std::sync::Arc;

use axum::{Extension, Router};
use prometheus::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::auth::{AdministratorsOnly, Authorizer, Identity};
use crate::clock::Clock;
use crate::discovery::Discovery;
use crate::health::{Check, Health};
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::schema::Schema;
use crate::store::Store;
use crate::{definitions, gc, namespaces, reviews, router};

/// All watches of a server together: each holds a task's worth of memory (some 10 KiB) and a place in a connection.
const WATCHES_MAX: usize = 8192;

/// Why a server cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A kind's schema is not structural.
    #[error("the schema of {kind} cannot be used: {problem}")]
    Schema {
        /// The kind.
        kind: String,
        /// What is wrong.
        problem: String,
    },
    /// A metric of that name is registered already.
    #[error("metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// The store has failed.
    #[error("the store cannot be used")]
    Store(#[from] crate::store::Error),
}

/// What every handler sees.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) kinds: Kinds,
    /// In the order of `kinds`.
    pub(crate) schemas: Vec<Schema>,
    pub(crate) clock: Clock,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) watches: Arc<Semaphore>,
    pub(crate) shutdown: CancellationToken,
}

/// An API server without a socket. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    state: Arc<State>,
}

/// What a [`Server`] is made of.
pub struct Builder {
    store: Store,
    kinds: Kinds,
    clock: Clock,
    registry: Registry,
    admission: Vec<Arc<dyn Admission>>,
    authorizer: Arc<dyn Authorizer>,
    checks: Vec<Check>,
    shutdown: CancellationToken,
}

impl Builder {
    /// Adds a judgement of writes; the first added is asked first.
    #[must_use]
    pub fn admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission.push(admission);
        self
    }

    /// Replaces the rule that administrators may do everything and others nothing.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = authorizer;
        self
    }

    /// Adds a condition of `/readyz`: the reason why not, or nothing. It is asked on every request and must be quick.
    #[must_use]
    pub fn readiness(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push(Check::new(name, check));
        self
    }

    /// When this is cancelled, watches end and [`Server::run`] returns.
    #[must_use]
    pub fn shutdown(mut self, token: CancellationToken) -> Self {
        self.shutdown = token;
        self
    }

    /// Compiles the schemas and documents.
    pub fn build(self) -> Result<Server, Error> {
        let mut schemas = Vec::new();
        for kind in self.kinds.all() {
            let schema = Schema::compile(&kind.schema)
                .map_err(|problem| Error::Schema { kind: kind.qualified_kind(), problem })?;
            schemas.push(schema);
        }
        let described: Vec<crate::kind::Kind> = self.kinds.all().iter().map(|kind| (**kind).clone()).collect();
        let mut discovery = Discovery::new(&described);
        for row in reviews::rows() {
            discovery.push(row);
        }
        let metrics = Metrics::register(self.registry)?;
        Ok(Server {
            state: Arc::new(State {
                schemas,
                discovery,
                openapi: OpenApi::new(&described),
                store: self.store,
                kinds: self.kinds,
                clock: self.clock,
                admission: self.admission,
                authorizer: self.authorizer,
                health: Health::new(self.checks),
                metrics,
                watches: Arc::new(Semaphore::new(WATCHES_MAX)),
                shutdown: self.shutdown,
            }),
        })
    }
}

impl Server {
    /// Starts describing a server. The store must have been opened with [`Kinds::tables`] of the same kinds.
    pub fn builder(store: Store, kinds: Kinds, clock: Clock, registry: Registry) -> Builder {
        Builder {
            store,
            kinds,
            clock,
            registry,
            admission: Vec::new(),
            authorizer: Arc::new(AdministratorsOnly),
            checks: Vec::new(),
            shutdown: CancellationToken::new(),
        }
    }

    /// The API for the network: callers authenticate with bearer tokens. Others may `merge` their routes beside it
    /// (see [`Server::protect`]).
    pub fn router(&self) -> Router {
        router::outer(&self.state, router::authenticated(&self.state, router::routes(&self.state)))
    }

    /// The API for a part of this process, which acts as `identity`: no socket, no token.
    pub fn local(&self, identity: Identity) -> Router {
        router::outer(&self.state, router::routes(&self.state)).layer(Extension(identity))
    }

    /// Puts routes of another crate behind the same authentication: only callers with a valid token reach them, and
    /// find their [`Identity`] as an extension. Panics, deadlines of the response's start and audit ids are handled too.
    pub fn protect(&self, routes: Router) -> Router {
        router::outer(&self.state, router::authenticated(&self.state, routes))
    }

    /// Whether `identity` may do something, for routes of other crates.
    pub async fn allows(&self, identity: &Identity, attributes: &crate::auth::Attributes) -> bool {
        self.state.authorizer.allows(identity, attributes).await
    }

    /// The kinds served.
    pub fn kinds(&self) -> &Kinds {
        &self.state.kinds
    }

    /// Makes the `default` namespace and publishes the definitions of the kinds, then collects garbage and empties deleted namespaces until shutdown. A server
    /// without it serves, and never finishes a cascading deletion.
    pub async fn run(&self) -> Result<(), Error> {
        namespaces::ensure_default(&self.state).await?;
        definitions::publish(&self.state).await?;
        gc::run(&self.state).await;
        Ok(())
    }
}
