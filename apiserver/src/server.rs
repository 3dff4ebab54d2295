//! Putting a server together: store, kinds, clock, and what other crates plug in.

use std::sync::Arc;

use axum::Router;
use prometheus::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::accounts::{self, Accounts};
use crate::admission::Admission;
use crate::apply::Type;
use crate::auth::rbac::defaults::{self, DefaultRole};
use crate::auth::rbac::{self, Rbac};
use crate::auth::{AdministratorsOnly, Authenticator, Authorizer, Certificates, Identity, StoredTokens};
use crate::clock::Clock;
use crate::discovery::Discovery;
use crate::guard::{Guard, Limits};
use crate::health::{Check, Health};
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::openapi::OpenApi;
use crate::quota::{Evaluator, Ledger};
use crate::schema::Schema;
use crate::store::Store;
use crate::streams::{STREAMS_MAX, Streams};
use crate::{audit, definitions, entrance, gc, namespaces, quota, reviews, router, service_accounts};

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
    /// The same schemas as merging sees them, in the same order.
    pub(crate) types: Vec<Type>,
    pub(crate) clock: Clock,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    /// Asked in this order.
    pub(crate) authenticators: Vec<Arc<dyn Authenticator>>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) account_tokens: Option<service_accounts::Tokens>,
    pub(crate) accounts: Option<Arc<Accounts>>,
    pub(crate) roles: Vec<DefaultRole>,
    /// The namespaces that are always there.
    pub(crate) namespaces: Vec<String>,
    /// The certificate by which clients know this server.
    pub(crate) ca: Option<String>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) guard: Guard,
    pub(crate) ledger: Ledger,
    pub(crate) streams: Option<Arc<dyn Streams>>,
    pub(crate) open_streams: Arc<Semaphore>,
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
    authenticators: Vec<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    accounts: Option<accounts::Settings>,
    roles: Vec<DefaultRole>,
    namespaces: Vec<String>,
    ca: Option<String>,
    checks: Vec<Check>,
    evaluators: Vec<Arc<dyn Evaluator>>,
    limits: Limits,
    streams: Option<Arc<dyn Streams>>,
    shutdown: CancellationToken,
}

impl Builder {
    /// Says how the running programs behind objects are reached, for the kinds with [`crate::kind::Kind::streams`].
    #[must_use]
    pub fn streams(mut self, streams: Arc<dyn Streams>) -> Self {
        self.streams = Some(streams);
        self
    }

    /// Adds a judgement of writes; the first added is asked first.
    #[must_use]
    pub fn admission(mut self, admission: Arc<dyn Admission>) -> Self {
        self.admission.push(admission);
        self
    }

    /// Adds a kind of credential. Client certificates, tokens of service accounts and stored ones are asked first, then
    /// these in the order in which they were added.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticators.push(authenticator);
        self
    }

    /// Decides otherwise than by the stored roles and bindings, or, where their kinds are not registered, than that
    /// administrators may do everything.
    #[must_use]
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Lets people sign in with passwords.
    #[must_use]
    pub fn accounts(mut self, settings: accounts::Settings) -> Self {
        self.accounts = Some(settings);
        self
    }

    /// Adds roles to those that every server has; see [`defaults`].
    #[must_use]
    pub fn roles(mut self, roles: impl IntoIterator<Item = DefaultRole>) -> Self {
        self.roles.extend(roles);
        self
    }

    /// Adds a namespace to those that are always there and cannot be deleted.
    #[must_use]
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.namespaces.push(name.into());
        self
    }

    /// The certificate, in PEM, by which clients know this server: each namespace gets it as `kube-root-ca.crt`.
    #[must_use]
    pub fn ca(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(pem.into());
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

    /// Adds something that quotas can limit besides the number of objects.
    #[must_use]
    pub fn evaluator(mut self, evaluator: Arc<dyn Evaluator>) -> Self {
        self.evaluators.push(evaluator);
        self
    }

    /// How much callers may ask for; [`Limits::default`] otherwise.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// When this is cancelled, watches end and [`Server::run`] returns.
    #[must_use]
    pub fn shutdown(mut self, token: CancellationToken) -> Self {
        self.shutdown = token;
        self
    }

    /// Compiles the schemas.
    pub fn build(self) -> Result<Server, Error> {
        let mut schemas = Vec::new();
        for kind in self.kinds.all() {
            let schema = Schema::compile(&kind.schema)
                .map_err(|problem| Error::Schema { kind: kind.qualified_kind(), problem })?;
            schemas.push(schema);
        }
        let types = self.kinds.all().iter().map(|kind| Type::of_objects(&kind.schema)).collect();
        let mut discovery = Discovery::new(self.kinds.all().iter().map(Arc::as_ref));
        for row in reviews::rows() {
            discovery.push(row);
        }
        discovery.push(audit::row());
        discovery.add_part("", "v1", "serviceaccounts", token_part());
        let guard = Guard::new(self.limits, &self.registry, self.shutdown.clone())?;
        let metrics = Metrics::register(self.registry)?;
        let account_tokens = service_accounts::Tokens::new(self.store.clone(), &self.kinds, self.clock.clone());
        let mut authenticators: Vec<Arc<dyn Authenticator>> = vec![Arc::new(Certificates(self.clock.clone()))];
        if let Some(tokens) = &account_tokens {
            authenticators.push(Arc::new(tokens.clone()));
        }
        // After those that are read in memory: an unknown token may make it ask the database.
        let accounts = self.accounts.and_then(|settings| {
            Accounts::new(self.store.clone(), &self.kinds, self.clock.clone(), settings).map(Arc::new)
        });
        authenticators.push(Arc::new(StoredTokens { store: self.store.clone(), accounts: accounts.clone() }));
        authenticators.extend(self.authenticators);
        let rbac = Rbac::new(self.store.clone(), &self.kinds);
        let mut admission = self.admission;
        if let Some(rbac) = &rbac {
            admission.insert(0, Arc::new(rbac::Escalation(rbac.clone())));
        }
        let authorizer: Arc<dyn Authorizer> = self.authorizer.unwrap_or_else(|| match &rbac {
            Some(rbac) => Arc::new(rbac.clone()),
            None => Arc::new(AdministratorsOnly),
        });
        if let Some(accounts) = &accounts {
            let groups = accounts::Groups { accounts: Arc::clone(accounts), authorizer: Arc::clone(&authorizer) };
            admission.insert(0, Arc::new(groups));
        }
        Ok(Server {
            state: Arc::new(State {
                schemas,
                types,
                discovery,
                openapi: OpenApi::new(self.kinds.clone()),
                store: self.store,
                kinds: self.kinds,
                clock: self.clock,
                admission,
                authenticators,
                authorizer,
                account_tokens,
                accounts,
                roles: self.roles,
                namespaces: self.namespaces,
                ca: self.ca,
                health: Health::new(self.checks),
                metrics,
                guard,
                ledger: Ledger::new(self.evaluators),
                streams: self.streams,
                open_streams: Arc::new(Semaphore::new(STREAMS_MAX)),
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
            authenticators: Vec::new(),
            authorizer: None,
            accounts: None,
            roles: defaults::roles(),
            namespaces: namespaces::ALWAYS.map(str::to_owned).to_vec(),
            ca: None,
            checks: Vec::new(),
            evaluators: Vec::new(),
            limits: Limits::default(),
            streams: None,
            shutdown: CancellationToken::new(),
        }
    }

    /// The API for the network: callers authenticate with bearer tokens. Others may `merge` their routes beside it
    /// (see [`Server::protect`]).
    pub fn router(&self) -> Router {
        self.protect(router::routes(&self.state).merge(accounts::routes(&self.state)))
    }

    /// The API for a part of this process, which acts as `identity`: no socket, no token.
    pub fn local(&self, identity: Identity) -> Router {
        entrance::from_inside(&self.state, identity, router::routes(&self.state))
    }

    /// Puts routes of another crate behind the same authentication and authorisation: only callers with a valid
    /// credential who have a rule for the path reach them, and find their [`Identity`] as an extension. Panics, deadlines
    /// of the response's start and audit ids are handled too.
    pub fn protect(&self, routes: Router) -> Router {
        entrance::from_network(&self.state, routes)
    }

    /// Whether `identity` may do something, for routes of other crates.
    pub async fn allows(&self, identity: &Identity, attributes: &crate::auth::Attributes) -> bool {
        crate::auth::allows(&*self.state.authorizer, identity, attributes).await
    }

    /// Notes in the audit log what somebody did by a route of another crate that is no write of an object.
    pub fn note_action(&self, identity: &Identity, method: &http::Method, path: &str, answer: http::StatusCode) {
        crate::audit::note_path(&self.state, identity, &method.as_str().to_lowercase(), path, answer.as_u16());
    }

    /// The kinds served.
    pub fn kinds(&self) -> &Kinds {
        &self.state.kinds
    }

    /// Makes the namespaces and roles that are always there and publishes the definitions of the kinds; then collects
    /// garbage, empties deleted namespaces, gathers roles and gives namespaces their accounts until shutdown. A server
    /// without it serves, and never finishes a cascading deletion.
    pub async fn run(&self) -> Result<(), Error> {
        namespaces::ensure_defaults(&self.state).await?;
        rbac::reconcile(&self.state, &self.state.roles).await?;
        // The last: from them others see that all of this is done.
        definitions::publish(&self.state).await?;
        let state = &self.state;
        tokio::join!(
            gc::run(state),
            quota::run(state),
            rbac::aggregate(state),
            service_accounts::keep_defaults(state),
            accounts::follow(state)
        );
        Ok(())
    }
}

/// How tokens of service accounts are asked for.
fn token_part() -> crate::discovery::Subresource {
    crate::discovery::Subresource {
        name: "token".into(),
        group: "authentication.k8s.io".into(),
        version: "v1".into(),
        kind: "TokenRequest".into(),
        verbs: vec!["create".into()],
    }
}
