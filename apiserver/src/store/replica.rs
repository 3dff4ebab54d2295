//! A server among several that share one database: taking over what the others have committed, and knowing whether
//! memory is up to date. Where one server has the database to itself, all of this is nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::backend::{Changes, Position};
use super::cache::{Name, Place};
use super::error::{BackendError, Error, Stale};
use super::event::{Change, Event};
use super::load;
use super::object::Object;
use super::postgres::Follower;
use super::{Shared, Store};

/// A question where the store is; the answer is `None` if the database does not answer.
pub(super) type Ask = oneshot::Sender<Option<Position>>;

/// Questions that wait; further callers wait for a place.
const ASKS_MAX: usize = 1_024;
/// How long a read waits for what others have committed: Kubernetes' own patience with its cache.
const REFRESH_MAX: Duration = Duration::from_secs(3);

/// What a store keeps of its database's other users.
#[derive(Debug)]
pub(super) struct Following {
    asks: mpsc::Sender<Ask>,
    /// Wakes the writer, which fetches what is new.
    pub(super) nudge: Notify,
    /// The revision of this server's own last commit.
    committed: watch::Sender<u64>,
    /// How many times the writer has fetched what is new, so that others can wait for the next time.
    fetched: watch::Sender<u64>,
    tokens_version: Mutex<i64>,
    trouble: Mutex<Trouble>,
    /// Why what others have committed could not be taken over the last time, if it could not.
    lag: Mutex<Option<String>>,
    _stop: DropGuard,
}

/// Since when the database does not answer, and when it was last tried.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    tried: Option<Instant>,
}

/// What the tasks that follow a database are started with.
pub(super) struct Start {
    asks: mpsc::Receiver<Ask>,
    committed: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Following {
    pub(super) fn new() -> (Self, Start) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let (committed, own) = watch::channel(0);
        let stop = CancellationToken::new();
        let following = Self {
            asks,
            nudge: Notify::new(),
            committed,
            fetched: watch::Sender::new(0),
            tokens_version: Mutex::new(0),
            trouble: Mutex::default(),
            lag: Mutex::default(),
            _stop: stop.clone().drop_guard(),
        };
        (following, Start { asks: asked, committed: own, stop })
    }

    /// Whether it has been long enough since the last try, or there is no trouble.
    pub(super) fn may_try(&self, pause: Duration) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let may = trouble.since.is_none() || trouble.tried.is_none_or(|tried| now.duration_since(tried) >= pause);
        if may {
            trouble.tried = Some(now);
        }
        may
    }

    fn lag(&self) -> MutexGuard<'_, Option<String>> {
        self.lag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database has answered.
    pub(super) fn answers(&self) {
        let since = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).since.take();
        if let Some(since) = since {
            tracing::info!(seconds = since.elapsed().as_secs(), "the database answers again");
        }
    }

    /// The database has not answered.
    pub(super) fn fails(&self, error: &BackendError) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.since.is_none() {
            trouble.since = Some(Instant::now());
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the database does not answer; reads go on from memory, and it is tried again"
            );
        }
    }
}

impl Start {
    pub(super) fn follow(self, follower: Follower, shared: &Arc<Shared>) {
        follower.start(Arc::downgrade(shared), self.asks, self.committed, self.stop);
    }
}

impl Store {
    /// Whether other servers may write to the same database.
    pub fn is_shared(&self) -> bool {
        self.shared.following.is_some()
    }

    /// Waits until memory has everything that was committed by any server before this call. Costs nothing where one
    /// server has the database, and otherwise one small query, which callers at the same time share.
    ///
    /// An error says that memory may be behind; it can be read nevertheless.
    pub async fn refresh(&self) -> Result<(), Stale> {
        let Some(following) = &self.shared.following else { return Ok(()) };
        timeout(REFRESH_MAX, self.fetch(following)).await.unwrap_or(Err(Stale))?;
        if following.lag().is_some() { Err(Stale) } else { Ok(()) }
    }

    async fn fetch(&self, following: &Following) -> Result<(), Stale> {
        let (ask, answer) = oneshot::channel();
        let mut fetched = following.fetched.subscribe();
        following.asks.send(ask).await.map_err(|_closed| Stale)?;
        let position = answer.await.map_err(|_closed| Stale)?.ok_or(Stale)?;
        while !self.shared.is_at(position) {
            if self.requests.is_closed() {
                return Err(Stale);
            }
            fetched.changed().await.map_err(|_closed| Stale)?;
        }
        Ok(())
    }

    /// Why memory may be behind what other servers have committed, if it may.
    pub fn staleness(&self) -> Option<String> {
        let following = self.shared.following.as_ref()?;
        let since = following.trouble.lock().unwrap_or_else(PoisonError::into_inner).since?;
        Some(format!("the database has not answered for {} s; what is read may be old", since.elapsed().as_secs()))
    }

    /// Why what other servers have committed cannot be taken over, if it cannot: this server then knows less than they do,
    /// and cannot write either.
    pub fn lag(&self) -> Option<String> {
        self.shared.following.as_ref()?.lag().clone()
    }

    /// Waits until the store has reached a revision. False if it has not in that time.
    pub async fn reach(&self, revision: u64, patience: Duration) -> bool {
        let mut reached = self.shared.reached.subscribe();
        if let Some(following) = &self.shared.following
            && *reached.borrow() < revision
        {
            following.nudge.notify_one();
        }
        let waiting = reached.wait_for(|reached| *reached >= revision);
        matches!(timeout(patience, waiting).await, Ok(Ok(_)))
    }
}

impl Shared {
    /// Has the writer look for what is new.
    pub(super) fn nudge(&self) {
        if let Some(following) = &self.following {
            following.nudge.notify_one();
        }
    }

    /// Somebody has seen the store at a position, after this server was at the revision `before`.
    pub(super) fn heard_of(&self, position: Position, before: u64) {
        let Some(following) = &self.following else { return };
        // A database that has gone back, and one that could not be followed, is looked at by the writer again, which says so.
        if position.revision < before || !self.is_at(position) || following.lag().is_some() {
            following.nudge.notify_one();
        }
    }

    /// Whether the writer could take over what others have committed.
    pub(super) fn followed(&self, result: Result<(), &Error>) {
        let Some(following) = &self.following else { return };
        *following.lag() = result.err().map(|error| {
            let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
            causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
        });
    }

    fn is_at(&self, position: Position) -> bool {
        let Some(following) = &self.following else { return true };
        let tokens = *following.tokens_version.lock().unwrap_or_else(PoisonError::into_inner);
        self.state().revision >= position.revision && tokens >= position.tokens_version
    }

    /// This server has committed something, of which the others should hear.
    pub(super) fn committed(&self, revision: u64) {
        if let Some(following) = &self.following {
            following.committed.send_replace(revision);
        }
    }

    /// The writer has fetched what was new, or could not.
    pub(super) fn fetched(&self) {
        if let Some(following) = &self.following {
            following.fetched.send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    /// Remembers up to which of their changes the tokens are known.
    pub(super) fn know_tokens(&self, version: i64) {
        if let Some(following) = &self.following {
            *following.tokens_version.lock().unwrap_or_else(PoisonError::into_inner) = version;
        }
    }

    /// Shows readers and watchers what other servers have committed.
    pub(super) fn take_over(&self, changes: Changes) -> Result<(), Error> {
        if let Some(tokens) = changes.tokens {
            self.tokens.replace(tokens);
        }
        self.know_tokens(changes.tokens_version);
        if changes.revision == self.state().revision {
            return Ok(());
        }
        let mut touched: BTreeMap<Name, Option<Arc<Object>>> = BTreeMap::new();
        let mut events = Vec::with_capacity(changes.changes.len());
        for made in changes.changes {
            let name = (made.kind, self.interner.get(&made.namespace), made.name.as_str().into());
            let entry = touched.entry(name);
            let previous = match &entry {
                Entry::Occupied(entry) => entry.get().clone(),
                Entry::Vacant(entry) => {
                    let (kind, namespace, name) = entry.key();
                    self.state().get(*kind, Place(namespace, name)).map(Arc::clone)
                }
            };
            if previous.is_none() != (made.change == Change::Created) {
                let message = format!("the change {} of {}/{} does not fit", made.revision, made.namespace, made.name);
                return Err(Error::damaged(message));
            }
            let object = Arc::new(load::made(&self.readers, &self.interner, &made, previous.as_deref())?);
            entry.insert_entry((made.change != Change::Deleted).then(|| Arc::clone(&object)));
            events.push(Arc::new(Event {
                revision: made.revision,
                kind: made.kind,
                change: made.change,
                object,
                previous,
            }));
        }
        self.show(&events, changes.revision, self.clock.now());
        Ok(())
    }
}
