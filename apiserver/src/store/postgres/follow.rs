//! Hearing of what other servers commit, beside the connection that writes.
//!
//! A notification is a hint and carries only a revision. It is sent after the commit and outside of its transaction,
//! where it would make all commits of the database queue up once more. Whether or not one comes, the counter is looked
//! at every second.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::super::backend::Position;
use super::super::error::BackendError;
use super::super::replica::Ask;
use super::{connect, failed, read};
use crate::task;

/// The channel of the hints; the payload is a revision.
const CHANNEL: &str = "berth_store";
/// How often the counter is looked at though nobody asks: what bounds the delay when a hint is lost.
const POLL: Duration = Duration::from_secs(1);
/// After a failure the next try: soon enough for a restart of the database, and no load for one that stays away.
const RETRY: Duration = Duration::from_millis(500);
/// The shortest pause between two hints of one server: what the others learn a little later they learn in one go.
const DEBOUNCE: Duration = Duration::from_millis(1);
/// Questions that are answered with one look: all that wait, since each is a few words of memory.
const ASKS_MAX: usize = 1_024;
/// How long a look may take before the database counts as gone.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// After so long without a hint it is asked whether the connection that they come on is still one.
const QUIET_MAX: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(15) };

/// Keeps a store informed of what others commit to its database.
pub struct Follower {
    options: PgConnectOptions,
}

impl Follower {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options: options.application_name("berth-follower") }
    }

    /// Starts listening and answering until `stop`.
    pub(in super::super) fn start(
        self,
        shared: Weak<Shared>,
        asks: mpsc::Receiver<Ask>,
        committed: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let options = self.options.clone();
        let looker = Looker { options: self.options, connection: None, shared: Weak::clone(&shared) };
        task::spawn("store-counter", stop.clone().run_until_cancelled_owned(looker.run(asks, committed)));
        task::spawn("store-listener", stop.run_until_cancelled_owned(listen(options, shared)));
    }
}

/// Looks at the counter, for those who ask and every second, and sends the hints.
struct Looker {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    shared: Weak<Shared>,
}

impl Looker {
    async fn run(mut self, mut asks: mpsc::Receiver<Ask>, mut committed: watch::Receiver<u64>) {
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waiting = Vec::new();
        loop {
            // In no fixed order: where somebody asks all the time, the hints must have their turn too.
            tokio::select! {
                count = asks.recv_many(&mut waiting, ASKS_MAX) => {
                    if count == 0 {
                        return;
                    }
                    // Whoever came before this look sees what was committed before it came.
                    let position = self.look().await;
                    for answer in waiting.drain(..) {
                        answer.send(position).ok();
                    }
                }
                changed = committed.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let revision = *committed.borrow_and_update();
                    self.hint(revision).await;
                }
                _ = poll.tick() => {
                    self.look().await;
                }
            }
        }
    }

    /// Where the store is, or nothing if the database does not answer. What is new is fetched.
    async fn look(&mut self) -> Option<Position> {
        let shared = self.shared.upgrade()?;
        let following = shared.following.as_ref()?;
        if self.connection.is_none() && !following.may_try(RETRY) {
            return None;
        }
        let before = shared.state().revision;
        let looking = timeout(LOOK_MAX, async { read::position(self.connection().await?).await }).await;
        match looking.unwrap_or(Err(BackendError::Lost)) {
            Ok(position) => {
                following.answers();
                shared.heard_of(position, before);
                Some(position)
            }
            Err(error) => {
                self.connection = None;
                following.fails(&error);
                None
            }
        }
    }

    async fn hint(&mut self, revision: u64) {
        let hinting = async {
            let connection = self.connection().await?;
            let query = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(revision.to_string());
            query.execute(connection).await.map_err(failed("cannot tell the other servers"))
        };
        if let Ok(Ok(_)) = timeout(LOOK_MAX, hinting).await {
            sleep(DEBOUNCE).await;
        } else {
            // They look themselves every second.
            self.connection = None;
        }
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, BackendError> {
        if self.connection.is_none() {
            let mut connection = connect::open(&self.options).await?;
            // Nothing is kept by this connection: a hint need not survive anything.
            let sql = "SET synchronous_commit = off";
            sqlx::raw_sql(sql).execute(&mut connection).await.map_err(failed("cannot prepare a connection"))?;
            self.connection = Some(connection);
        }
        self.connection.as_mut().ok_or(BackendError::Lost)
    }
}

/// Takes the hints.
async fn listen(options: PgConnectOptions, shared: Weak<Shared>) {
    loop {
        if let Err(error) = listen_once(&options, &shared).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "hints of other servers cannot be heard");
        }
        let Some(shared) = shared.upgrade() else { return };
        // Some may have been missed.
        shared.nudge();
        drop(shared);
        sleep(RETRY).await;
    }
}

async fn listen_once(options: &PgConnectOptions, shared: &Weak<Shared>) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(LOOK_MAX).connect_lazy_with(options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    timeout(LOOK_MAX, listener.listen(CHANNEL)).await.map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
    // What was committed before this was not heard of.
    let nudge = |upto: Option<u64>| {
        let shared: Option<Arc<Shared>> = shared.upgrade();
        if let Some(shared) = shared
            && upto.is_none_or(|upto| upto > shared.state().revision)
        {
            shared.nudge();
        }
    };
    nudge(None);
    loop {
        match timeout(QUIET_MAX, listener.try_recv()).await {
            Ok(Ok(Some(hint))) => nudge(hint.payload().parse().ok()),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // Nobody has written, or the network drops what is sent here without a word.
            Err(_elapsed) => {
                let asking = timeout(LOOK_MAX, sqlx::query("SELECT 1").execute(&mut listener)).await;
                asking.map_err(|_elapsed| sqlx::Error::PoolTimedOut)??;
            }
        }
    }
}
