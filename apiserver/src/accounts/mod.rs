//! People with passwords: signing in, sessions, tokens for their programs.
//!
//! Who there is, is said by objects of one kind, which the server is told of; this crate knows of it what [`Person`] has. A
//! session or token is a row among the store's bearer tokens. It opens the API as long as its person is there, is not
//! disabled, and has the password that it was made under: all three are looked up with every request, so that a change
//! counts as soon as it is known, on every server. Rights come from roles, as everybody's.

mod answer;
mod escalation;
mod password;
mod passwords;
mod person;
mod scope;
mod secret;
mod sessions;
mod throttle;
mod tokens;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, post, put};

use self::password::Hasher;
use self::person::Person;
use self::throttle::Throttle;
use crate::auth::{Identity, Rule};
use crate::clock::Clock;
use crate::kinds::Kinds;
use crate::path::Target;
use crate::server::State;
use crate::store::{KindId, Purpose, Store, Token};

pub(crate) use self::escalation::Groups;
pub(crate) use self::upkeep::follow;

/// Where people sign in: the one path of these that needs no credential.
pub const SESSIONS: &str = "/api/paas/v1/sessions";

/// What begins every path of this module.
pub const PATHS: &str = "/api/paas/v1/";

/// What a session's secret begins with, so that it is recognised where it should not be.
pub const SESSION_PREFIX: &str = "berth_session_";
/// What a token's secret begins with.
const TOKEN_PREFIX: &str = "berth_token_";

/// A session ends after a week: whoever works every day signs in once a week.
const SESSION_MAX: Duration = Duration::from_hours(24 * 7);
/// And after a day without use.
const SESSION_IDLE_MAX: Duration = Duration::from_hours(24);
/// Use is noted this often: every note is a commit, and a twenty-fourth of the idle time is near enough.
const NOTED_EVERY: Duration = Duration::from_hours(1);
/// Sessions of one person; the oldest ends when another begins. Somebody's machines and browsers are some dozen.
const SESSIONS_MAX: usize = 64;
/// Tokens of one person: one for each of their programs.
const TOKENS_MAX: usize = 64;
/// A request here has a few fields.
const BODY_BYTES_MAX: usize = 16 << 10;

/// What the server has to be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API group of the kind of people.
    pub group: String,
    /// Its version.
    pub version: String,
    /// Its plural.
    pub plural: String,
    /// The namespace of the Secrets with the hashes of passwords.
    pub namespace: String,
    /// Their type.
    pub secret_type: String,
    /// Their names, from a person's uid.
    pub secret_name: fn(&str) -> String,
    /// Paths that every token may use, because what stands behind them acts with the same token.
    pub acting: Vec<Rule>,
}

/// All that is needed to know people.
pub(crate) struct Accounts {
    store: Store,
    clock: Clock,
    settings: Settings,
    /// The kind of people, as a target without a name.
    target: Target,
    people: KindId,
    secrets: KindId,
    hasher: Hasher,
    throttle: Throttle,
}

impl Accounts {
    /// `None` if the kinds are not registered.
    pub(crate) fn new(store: Store, kinds: &Kinds, clock: Clock, settings: Settings) -> Option<Self> {
        let (index, kind) = kinds.find(&settings.group, &settings.version, &settings.plural)?;
        let (secrets, _) = kinds.find("", "v1", "secrets")?;
        let kind = Arc::clone(kind);
        let target = Target { index, kind, namespace: None, name: None, subresource: None, watch: false };
        let (people, secrets) = (kinds.store_id(index), kinds.store_id(secrets));
        let (hasher, throttle) = (Hasher::default(), Throttle::default());
        Some(Self { store, clock, settings, target, people, secrets, hasher, throttle })
    }

    /// Whom a session or token opens the API for, if it still does.
    pub(crate) fn identity(&self, token: &Token) -> Option<Identity> {
        let person = self.standing(token)?;
        let now = self.clock.now();
        let used = token.last_used.unwrap_or(token.created);
        if self.is_idle(token) {
            return None;
        }
        if now > used && self.clock.since(used) >= NOTED_EVERY {
            self.store.tokens().touch(token);
        }
        let mut identity = person.identity();
        let credential = format!("{}={}", token.purpose.as_str().to_uppercase(), token.id);
        identity.extra.insert(CREDENTIAL.into(), vec![credential]);
        identity.credential = Some(token.id.as_str().into());
        identity.scope.clone_from(&token.scope);
        Some(identity)
    }

    /// Whether it is a session that nobody has used for too long.
    fn is_idle(&self, token: &Token) -> bool {
        let used = token.last_used.unwrap_or(token.created);
        token.purpose == Purpose::Session && self.clock.since(used) >= SESSION_IDLE_MAX
    }

    /// Whether what a request came with still opens anything, for what goes on after it was answered. It does if it is
    /// no session and no token.
    pub(crate) fn goes_on(&self, identity: &Identity) -> bool {
        let Some(id) = &identity.credential else { return true };
        let token = self.store.tokens().by_id(id);
        token.is_some_and(|token| token.is_valid(self.clock.now()) && self.standing(&token).is_some())
    }

    /// The person of a session or token, if nothing has ended it but perhaps its time.
    fn standing(&self, token: &Token) -> Option<Person> {
        let person = self.person(&token.user).filter(|person| !person.disabled && person.uid == token.bond.uid)?;
        let known = self.secret(&person.uid)?;
        (known.epoch == token.bond.epoch).then_some(person)
    }

    /// One person as a target, for the audit log.
    fn target_of(&self, name: &str) -> Target {
        Target { name: Some(name.to_owned()), ..self.target.clone() }
    }
}

/// Kubernetes' own word for what a credential is called.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// The session or token that a request came with: its id.
fn credential<'a>(identity: &'a Identity, purpose: &str) -> Option<&'a str> {
    let acts_as_another = identity.origin.as_ref().is_some_and(|origin| origin.impersonator.is_some());
    let id = identity.extra.get(CREDENTIAL)?.first()?.strip_prefix(purpose)?.strip_prefix('=')?;
    (!acts_as_another).then_some(id)
}

/// The routes. What is not public is behind the server's authentication and its rules on paths like any other.
pub(crate) fn routes(state: &Arc<State>) -> Router {
    Router::new()
        .route("/api/paas/v1/sessions", post(sessions::create))
        .route("/api/paas/v1/sessions/current", delete(sessions::end))
        .route("/api/paas/v1/tokens", post(tokens::create).get(tokens::list))
        .route("/api/paas/v1/tokens/{id}", delete(tokens::revoke))
        .route("/api/paas/v1/users/{name}/password", put(passwords::set))
        .method_not_allowed_fallback(|| async { crate::error::Error::method_not_allowed() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::clone(state))
}
