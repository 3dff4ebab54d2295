//! Following the changes of a kind from a revision on.

use std::sync::Arc;

use super::Shared;
use super::error::Evicted;
use super::event::Event;
use super::object::KindId;
use super::ring::Channel;

/// How many changes [`Watch::next`] gives at once: enough to make the lock cheap, few enough to hold it for some
/// microseconds only.
const BATCH_MAX: usize = 256;

/// How many entries of other namespaces are passed over under one hold of the lock.
const SCAN_MAX: usize = 8_192;

/// A position in the ring of a kind. It has no queue: a reader that stays behind for longer than the ring reaches is
/// evicted and has to list again, and costs nobody memory until then.
#[derive(Debug)]
pub struct Watch {
    pub(super) shared: Arc<Shared>,
    pub(super) kind: KindId,
    /// `None` is all namespaces.
    pub(super) namespace: Option<Arc<str>>,
    pub(super) channel: Arc<Channel>,
    /// It has seen everything up to here.
    pub(super) position: u64,
}

impl Watch {
    /// Waits for changes and returns at most 256 of them, in order, each exactly once. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Evicted> {
        loop {
            let channel = Arc::clone(&self.channel);
            let mut changed = std::pin::pin!(channel.changed.notified());
            // From here on a change cannot slip in between looking and waiting.
            changed.as_mut().enable();
            let (events, caught_up) = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if caught_up {
                changed.await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    /// The changes that are there already, without waiting; empty if there are none.
    pub fn ready(&mut self) -> Result<Vec<Arc<Event>>, Evicted> {
        loop {
            let (events, caught_up) = self.read()?;
            if caught_up || !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Whether there are changes that were not read yet. Takes no lock.
    pub fn has_news(&self) -> bool {
        self.channel.has_news(self.position)
    }

    /// Up to where everything has been seen: the store-wide revision if nothing is waiting to be read, so that a
    /// bookmark keeps the clients of a quiet kind from falling behind.
    pub fn revision(&self) -> u64 {
        let state = self.shared.state();
        if self.channel.has_news(self.position) { self.position } else { self.position.max(state.revision) }
    }

    fn read(&mut self) -> Result<(Vec<Arc<Event>>, bool), Evicted> {
        let state = self.shared.state();
        let mut events = Vec::new();
        if self.channel.has_lost(self.position) {
            drop(state);
            self.shared.metrics.evictions.inc();
            return Err(Evicted { seen: self.position });
        }
        if self.channel.has_news(self.position)
            && let Some(kind) = state.kinds.get(self.kind.0)
        {
            for (passed, event) in kind.ring.after(self.position).enumerate() {
                if events.len() >= BATCH_MAX || passed >= SCAN_MAX {
                    return Ok((events, false));
                }
                self.position = event.revision;
                if self.namespace.as_ref().is_none_or(|namespace| **namespace == *event.object.namespace) {
                    events.push(Arc::clone(event));
                }
            }
        }
        // A watch from a revision that is still to come stays there until it has come.
        self.position = self.position.max(state.revision);
        Ok((events, true))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.metrics.watchers.dec();
        if let Some(namespace) = &self.namespace {
            let mut state = self.shared.state_mut();
            if let Some(kind) = state.kinds.get_mut(self.kind.0) {
                kind.ring.release(namespace, &self.channel);
            }
        }
    }
}
