//! What has to be done now and then: shorten the log and the rings, and remove what has expired.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::audit::{AGE_MAX, TRIM_MAX};
use super::backend::Compaction;
use super::error::Error;
use super::object::{Key, KindId};
use super::writer::Request;
use super::{Shared, Store, Write, gauge};

/// How much of the log of changes the database keeps. It is only read at the start, to let clients that were cut off
/// by the restart go on: they come back within a reconnect's longest pause of 30 s.
#[derive(Clone, Debug)]
pub struct LogLimits {
    /// At most about this many changes, whatever their age. At 1 KiB each they are read in some 0.1 s.
    pub changes_max: u64,
    /// At most about this many bytes of states before changes, not counting that sealed ones are a third larger. More than
    /// the rings keep of a kind's ([`RingLimits::bytes_max`](super::RingLimits)), and read within a second.
    pub bytes_max: u64,
    /// Changes older than this go, but for the newest [`LogLimits::changes_old_max`].
    pub age_max: Duration,
    /// So many changes stay whatever their age.
    pub changes_old_max: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { changes_max: 32_768, bytes_max: 48 << 20, age_max: Duration::from_mins(5), changes_old_max: 1_000 }
    }
}

/// How often the log is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Expired objects are looked for every so many ticks: they are kept for minutes at least.
const TICKS_PER_EXPIRY: u32 = 10;
/// Changes removed in one transaction: it takes some milliseconds, and writers wait no longer than that.
const COMPACT_ROWS_MAX: u64 = 1_000;
/// Transactions of that kind in one tick: together more than a second's writes at the highest rate.
const COMPACT_STEPS_MAX: u32 = 64;
/// Transactions in one round that shorten the audit log: together more than the lines of a round at the highest rate.
const TRIM_STEPS_MAX: u32 = 256;
/// Objects removed at once when they expire; the rest waits for the next round.
const EXPIRE_MAX: usize = 2_000;
/// Of these so many are queued together, so that others find a place in the queue too.
const EXPIRE_TOGETHER: usize = 100;

/// Looks after the store until it is closed. Holds no handle of it, so that dropping the last handle closes it.
pub(super) fn run(store: &Store) -> impl Future<Output = ()> + use<> {
    let shared = Arc::downgrade(&store.shared);
    let requests = store.requests.downgrade();
    async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        loop {
            ticks.tick().await;
            let Some(store) = upgrade(&shared, &requests) else { return };
            store.trim_rings();
            let due = count.is_multiple_of(TICKS_PER_EXPIRY) && store.shared.upkeep.load(Ordering::Acquire);
            // Whichever fails does not keep the others from what they are for.
            let mut results = vec![store.compact().await.map(drop)];
            if due {
                results.push(store.trim_audit().await);
                results.push(store.remove_expired().await.map(drop));
            }
            for error in results.into_iter().filter_map(Result::err) {
                if matches!(error, Error::Closed) {
                    return;
                }
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the store's maintenance failed; will retry");
            }
            count = count.wrapping_add(1);
        }
    }
}

fn upgrade(shared: &Weak<Shared>, requests: &mpsc::WeakSender<Request>) -> Option<Store> {
    Some(Store { shared: shared.upgrade()?, requests: requests.upgrade()? })
}

impl Store {
    /// Shortens the audit log to its limits, some lines at a time so that writers need not wait.
    async fn trim_audit(&self) -> Result<(), Error> {
        let before = self.shared.clock.now() - AGE_MAX;
        for _ in 0..TRIM_STEPS_MAX {
            if self.ask(|answer| Request::TrimAudit { before, answer }).await? < TRIM_MAX {
                break;
            }
        }
        Ok(())
    }

    /// Shortens the log of changes to its limits. Returns the revision after which it is complete.
    pub(super) async fn compact(&self) -> Result<u64, Error> {
        let limits = &self.shared.log;
        for _ in 0..COMPACT_STEPS_MAX {
            let from = self.shared.compacted();
            let revision = self.revision();
            let through =
                revision.saturating_sub(limits.changes_max).max(self.shared.logged().through(limits.bytes_max));
            let aged_through = revision.saturating_sub(limits.changes_old_max);
            if from >= through.max(aged_through) {
                return Ok(from);
            }
            let older_than = self.shared.clock.now() - limits.age_max;
            let compaction = Compaction { from, through, aged_through, older_than, rows_max: COMPACT_ROWS_MAX };
            let compacted = self.ask(|answer| Request::Compact { compaction, answer }).await?;
            // Another round, or another server, may have been faster and not gone as far.
            let goes_on = compacted > from && compacted < through;
            if compacted < from + COMPACT_ROWS_MAX && !goes_on {
                return Ok(compacted);
            }
        }
        Ok(self.shared.compacted())
    }

    /// Removes objects that were not written for longer than their kind's retention. Returns how many.
    pub(super) async fn remove_expired(&self) -> Result<usize, Error> {
        let mut removed = 0;
        for (index, table) in self.shared.tables.iter().enumerate() {
            let Some(seconds) = table.retention_seconds else { continue };
            let oldest = self.shared.clock.now() - Duration::from_secs(seconds.into());
            for expired in self.expired(KindId(index), oldest).chunks(EXPIRE_TOGETHER) {
                let removals = expired.iter().map(|(key, revision)| {
                    self.write(Write::Remove { key: key.clone(), expected_revision: *revision, body: None })
                });
                for result in futures::future::join_all(removals).await {
                    match result {
                        Ok(_) => removed += 1,
                        // Somebody else wrote or removed it meanwhile.
                        Err(Error::NotFound | Error::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(removed)
    }

    fn expired(&self, kind: KindId, oldest: Timestamp) -> Vec<(Key, u64)> {
        let all = self.snapshot_across_namespaces(kind);
        let expired = all.iter().filter(|object| object.modified < oldest);
        expired.take(EXPIRE_MAX).map(|object| (object.key(kind), object.revision)).collect()
    }

    fn trim_rings(&self) {
        let now = self.shared.clock.now();
        let mut dropped = Vec::new();
        {
            let mut state = self.shared.state_mut();
            for (kind, table) in state.kinds.iter_mut().zip(&self.shared.tables) {
                dropped.extend(kind.ring.trim(&self.shared.ring, now));
                self.shared.metrics.ring_events.with_label_values(&[&table.name]).set(gauge(kind.ring.len() as u64));
            }
        }
        self.shared.metrics.log_bytes.set(gauge(self.shared.logged().bytes()));
        // The bodies are freed when no lock is held.
        drop(dropped);
    }
}
