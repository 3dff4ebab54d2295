//! What each user has left. Only those who are using something are remembered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::Limits;
use super::bucket::Bucket;

/// Users that are remembered at a time, some 300 bytes each. Who comes when all of them are busy shares one account
/// with the others of that fate.
const USERS_MAX: usize = 10_000;
/// How often those who have gone quiet are looked for, at most: looking takes a millisecond.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);
/// The account of those for whom there is no room. No user has this name: it has a space.
const REST: &str = "all the rest";

/// One user's account.
#[derive(Debug)]
pub(super) struct User {
    bucket: Mutex<Bucket>,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl User {
    fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            bucket: Mutex::new(Bucket::new(limits.requests_burst, now)),
            requests: Arc::new(Semaphore::new(limits.requests_per_user)),
            watches: Arc::new(Semaphore::new(limits.watches_per_user)),
            waiting: AtomicUsize::new(0),
        }
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one token, or says how long it takes until there is one.
    pub(super) fn take_token(&self, now: Instant, limits: &Limits) -> Result<(), Duration> {
        self.bucket().take(now, limits.requests_per_second, limits.requests_burst)
    }

    /// Waits for one of the user's places; `None` if too many wait already or it takes too long.
    pub(super) async fn place(&self, waiting_max: usize, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.requests).try_acquire_owned() {
            return Some(place);
        }
        let _waiting = Waiting::enter(&self.waiting, waiting_max)?;
        timeout(patience, Arc::clone(&self.requests).acquire_owned()).await.ok()?.ok()
    }

    /// One of the user's watches, if there is one left.
    pub(super) fn watch(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watches).try_acquire_owned().ok()
    }

    fn is_idle(&self, now: Instant, limits: &Limits) -> bool {
        self.requests.available_permits() == limits.requests_per_user
            && self.watches.available_permits() == limits.watches_per_user
            && self.bucket().is_full(now, limits.requests_per_second, limits.requests_burst)
    }
}

/// One of those who wait, also if its request is given up meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Option<Self> {
        let entered = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < max).then_some(n + 1));
        entered.is_ok().then_some(Self(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Everybody's accounts.
#[derive(Debug)]
pub(super) struct Users {
    limits: Limits,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    users: HashMap<String, Arc<User>>,
    swept_at: Option<Instant>,
}

impl Users {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, known: Mutex::default() }
    }

    /// The account of a user; a new one if there is none.
    pub(super) fn get(&self, name: &str, now: Instant) -> Arc<User> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = known.users.get(name) {
            return Arc::clone(user);
        }
        if known.users.len() >= USERS_MAX && known.swept_at.is_none_or(|at| now >= at + SWEEP_PERIOD) {
            known.swept_at = Some(now);
            known.users.retain(|_, user| Arc::strong_count(user) > 1 || !user.is_idle(now, &self.limits));
        }
        let name = if known.users.len() < USERS_MAX { name } else { REST };
        let new = || Arc::new(User::new(&self.limits, now));
        Arc::clone(known.users.entry(name.to_owned()).or_insert_with(new))
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).users.len()
    }
}
