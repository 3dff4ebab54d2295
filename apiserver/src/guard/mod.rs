//! How much a caller may ask for at a time, so that one of them cannot take the server from the others.
//!
//! A request takes a token from its user's bucket, then one of the user's places, then one of the server's places, and
//! holds both places until its response begins. Who has a token may wait a little for a place; who has none, or has
//! waited too long, gets 429 with the time after which it makes sense to try again. What goes on after the response has
//! begun is bounded elsewhere: watches by their number ([`Guard::watch`]), every body by how fast it is read
//! ([`reader`]).
//!
//! Members of `system:masters` are not limited one by one, as in Kubernetes: an administrator must get in when
//! something is out of hand, and so has some places that nobody else can take. Parts of this process have places of
//! their own ([`Guard::enter_from_inside`]).

mod bucket;
mod metrics;
pub(crate) mod reader;
#[cfg(test)]
mod tests;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::Method;
use http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use self::metrics::{Counted, Metrics};
use self::reader::Readers;
use self::users::{User, Users};
use crate::auth::Identity;
use crate::error::Error;
use crate::serve::Peer;

/// How long a request may wait for a place: longer than any burst of quick requests takes to pass, and well below the
/// time after which clients give up.
const PLACE_WAIT: Duration = Duration::from_secs(5);
/// How many requests of one user may wait, for each that may run: enough for the 250 streams that a connection of
/// HTTP/2 has.
const WAITING_PER_PLACE: usize = 4;
/// Of the server's places, one in this many is the administrators' alone.
const RESERVE: usize = 8;
/// Requests from inside this process at a time. They are bounded by what the controllers do side by side; this is only
/// there to have a bound.
const INSIDE_MAX: usize = 4096;

/// What a caller may ask for. The defaults are for a server with some hundred users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second of one user, in the long run. kubectl limits itself to 50.
    pub requests_per_second: u32,
    /// Requests that a user who was quiet may send at once. kubectl limits itself to 300.
    pub requests_burst: u32,
    /// Requests of one user that are worked on at a time; a request counts until its response begins.
    pub requests_per_user: usize,
    /// Requests of all users that are worked on at a time; an eighth of them is kept for administrators.
    pub requests_in_flight: usize,
    /// Watches of one user.
    pub watches_per_user: usize,
    /// Watches of all users and of the server itself: each holds some 10 KiB and a place in a connection.
    pub watches: usize,
    /// How long a response may wait for a client that does not read on before it is given up.
    pub reader_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 200,
            requests_burst: 400,
            requests_per_user: 64,
            requests_in_flight: 1024,
            watches_per_user: 100,
            watches: 8192,
            reader_patience: Duration::from_mins(1),
        }
    }
}

/// Keeps the limits.
pub(crate) struct Guard {
    limits: Limits,
    users: Users,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    inside: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    readers: Arc<Readers>,
    metrics: Metrics,
}

/// A place that is held; dropping it gives it back.
#[derive(Debug, Default)]
#[expect(dead_code, reason = "permits are held for what happens when they are dropped")]
pub(crate) struct Held {
    of_user: Option<OwnedSemaphorePermit>,
    of_all: Option<OwnedSemaphorePermit>,
}

impl Guard {
    pub(crate) fn new(
        limits: Limits,
        registry: &prometheus::Registry,
        shutdown: CancellationToken,
    ) -> Result<Self, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        let reserve = limits.requests_in_flight.div_ceil(RESERVE);
        Ok(Self {
            users: Users::new(limits.clone()),
            places: Arc::new(Semaphore::new(limits.requests_in_flight.saturating_sub(reserve).max(1))),
            reserve: Arc::new(Semaphore::new(reserve)),
            inside: Arc::new(Semaphore::new(INSIDE_MAX)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            readers: Arc::new(Readers::new(limits.reader_patience, metrics.evicted.clone(), shutdown)),
            limits,
            metrics,
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A place for a request from the network; `None` for probes, which must be answered when nothing else is.
    pub(crate) async fn admit(&self, identity: &Identity, parts: &Parts) -> Result<Option<(Held, Counted)>, Error> {
        if is_probe(&parts.method, parts.uri.path()) {
            return Ok(None);
        }
        let peer = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let held = self.enter(identity, peer).await?;
        let writes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        Ok(Some((held, self.metrics.count(writes))))
    }

    /// From now on this response must be read.
    pub(crate) fn follow(&self, response: Response) -> Response {
        self.readers.follow(response)
    }

    /// A place for a request of that user.
    pub(crate) async fn enter(&self, identity: &Identity, peer: Option<IpAddr>) -> Result<Held, Error> {
        if identity.is_admin() {
            let place = Arc::clone(&self.places).try_acquire_owned();
            let place = place.or_else(|_full| Arc::clone(&self.reserve).try_acquire_owned());
            let place = place.map_err(|_full| self.refuse("total", "the server has too many requests at a time", 1))?;
            return Ok(Held { of_user: None, of_all: Some(place) });
        }
        let user = self.user(identity, peer);
        user.take_token(Instant::now(), &self.limits).map_err(|wait| {
            let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            self.refuse("rate", "too many requests: this user's rate is exceeded", seconds.max(1))
        })?;
        let full = || self.refuse("concurrency", "too many requests: this user has as many at a time as it may", 1);
        let waiting_max = self.limits.requests_per_user.saturating_mul(WAITING_PER_PLACE);
        let own = user.place(waiting_max, PLACE_WAIT).await.ok_or_else(full)?;
        let place = timeout(PLACE_WAIT, Arc::clone(&self.places).acquire_owned()).await;
        match place {
            Ok(Ok(place)) => Ok(Held { of_user: Some(own), of_all: Some(place) }),
            _ => Err(self.refuse("total", "the server has too many requests at a time", 1)),
        }
    }

    /// A place for a request of a part of this process. It waits: what a controller does is to be done later rather
    /// than not at all.
    pub(crate) async fn enter_from_inside(&self) -> Held {
        Held { of_user: None, of_all: Arc::clone(&self.inside).acquire_owned().await.ok() }
    }

    /// A place for something that goes on after its response has begun.
    pub(crate) fn watch(&self, identity: &Identity) -> Result<Held, Error> {
        let full = |_full| self.refuse("watches", "this server has as many watches as it may; try again later", 5);
        let place = Arc::clone(&self.watches).try_acquire_owned().map_err(full)?;
        let mut held = Held { of_user: None, of_all: Some(place) };
        if !identity.is_admin() {
            let own = self.user(identity, None).watch();
            held.of_user = Some(own.ok_or_else(|| {
                self.refuse("watches", "this user has as many watches as it may; end one or try again later", 5)
            })?);
        }
        Ok(held)
    }

    /// Who has no name is told apart by address.
    fn user(&self, identity: &Identity, peer: Option<IpAddr>) -> Arc<User> {
        match peer.filter(|_| identity.is_anonymous()) {
            Some(peer) => self.users.get(&format!("anonymous {}", network(peer)), Instant::now()),
            None => self.users.get(&identity.user, Instant::now()),
        }
    }

    fn refuse(&self, reason: &'static str, message: &str, retry_after_seconds: u32) -> Error {
        self.metrics.rejected.with_label_values(&[reason]).inc();
        Error::too_many(message, retry_after_seconds)
    }
}

/// An address without the part that one client can choose freely.
pub(crate) fn network(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

fn is_probe(method: &Method, path: &str) -> bool {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    let first = path.split('/').find(|segment| !segment.is_empty());
    matches!(first, Some("livez" | "readyz" | "healthz"))
}
