//! The recent changes of one kind, which watchers read from and old snapshots are rebuilt from.
//!
//! A watcher is only a position in this ring. Each namespace that somebody watches has a [`Channel`]: it wakes the
//! watchers of that namespace alone, and knows by two numbers whether a watcher has anything to read, and whether it
//! has lost something.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::event::Event;

/// How much a kind's ring keeps.
#[derive(Clone, Debug)]
pub struct RingLimits {
    /// At most this many changes. An entry without bodies takes about 100 bytes, so a full ring costs 10 MB; it is
    /// about as many as kube-apiserver keeps at most, and 100 s of 1,000 writes a second.
    pub events_max: usize,
    /// At most this many bytes of states that are in no table any more (the ring alone keeps them in memory).
    pub bytes_max: usize,
    /// Changes younger than this go only if a maximum is exceeded. kube-apiserver keeps 75 s: longer than a client's
    /// pause between two watches (a reconnect backs off for 30 s at most).
    pub age_min: Duration,
    /// Older changes than `age_min` go once there are more than this many, so that a quiet kind's clients can resume
    /// after hours at a cost of some 100 kB.
    pub events_old_max: usize,
}

impl Default for RingLimits {
    fn default() -> Self {
        Self { events_max: 100_000, bytes_max: 24 << 20, age_min: Duration::from_secs(75), events_old_max: 1_000 }
    }
}

/// Wakes the watchers of one namespace of a kind, or of the whole kind.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) changed: Notify,
    /// The revision of the newest change that concerns it, since it exists.
    newest: AtomicU64,
    /// The revision of the newest change concerning it that has left the ring, since it exists.
    lost: AtomicU64,
}

impl Channel {
    fn new(newest: u64, lost: u64) -> Arc<Self> {
        Arc::new(Self { changed: Notify::new(), newest: newest.into(), lost: lost.into() })
    }

    /// Whether anything after `position` concerns it.
    pub(super) fn has_news(&self, position: u64) -> bool {
        self.newest.load(Ordering::Acquire) > position
    }

    /// Whether something after `position` that concerns it is gone.
    pub(super) fn has_lost(&self, position: u64) -> bool {
        self.lost.load(Ordering::Acquire) > position
    }
}

/// The recent changes of one kind.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Every change of the kind after this revision is in the ring.
    dropped_through: u64,
    /// The channel of those who watch the whole kind.
    everything: Arc<Channel>,
    namespaces: HashMap<Arc<str>, Arc<Channel>>,
}

impl Ring {
    /// A ring that knows nothing of the changes up to `dropped_through`.
    pub(super) fn new(dropped_through: u64) -> Self {
        Self {
            events: VecDeque::new(),
            bytes: 0,
            dropped_through,
            everything: Channel::new(dropped_through, dropped_through),
            namespaces: HashMap::new(),
        }
    }

    /// The revision after which the ring is complete.
    pub(super) fn dropped_through(&self) -> u64 {
        self.dropped_through
    }

    /// Appends a change and returns those that had to make room, for the caller to drop when it holds no lock.
    pub(super) fn push(&mut self, event: Arc<Event>, limits: &RingLimits, now: Timestamp) -> Vec<Arc<Event>> {
        self.everything.newest.store(event.revision, Ordering::Release);
        if let Some(channel) = self.namespaces.get(&event.object.namespace) {
            channel.newest.store(event.revision, Ordering::Release);
        }
        self.bytes += superseded_bytes(&event);
        self.events.push_back(event);
        self.trim(limits, now)
    }

    /// Drops what is over the limits, or too old.
    pub(super) fn trim(&mut self, limits: &RingLimits, now: Timestamp) -> Vec<Arc<Event>> {
        let mut dropped = Vec::new();
        while let Some(oldest) = self.events.front() {
            let over = self.events.len() > limits.events_max || self.bytes > limits.bytes_max;
            let old = self.events.len() > limits.events_old_max
                && now.duration_since(oldest.object.modified).unsigned_abs() > limits.age_min;
            // The newest change always stays: its watchers are about to be woken for it.
            if !(over || old) || self.events.len() == 1 {
                break;
            }
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= superseded_bytes(&oldest);
            self.dropped_through = oldest.revision;
            self.everything.lost.store(oldest.revision, Ordering::Release);
            if let Some(channel) = self.namespaces.get(&oldest.object.namespace) {
                channel.lost.store(oldest.revision, Ordering::Release);
            }
            dropped.push(oldest);
        }
        dropped
    }

    /// The changes after `revision`, oldest first.
    pub(super) fn after(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Event>> {
        let start = self.events.partition_point(|event| event.revision <= revision);
        self.events.range(start..)
    }

    /// The channel of a namespace, or of the whole kind.
    pub(super) fn channel(&mut self, namespace: Option<&Arc<str>>, revision: u64) -> Arc<Channel> {
        let Some(namespace) = namespace else { return Arc::clone(&self.everything) };
        if let Some(channel) = self.namespaces.get(namespace) {
            return Arc::clone(channel);
        }
        // What it missed before it existed is unknown: assume that the last change, and the last one to be dropped,
        // were of this namespace. The first costs one look at the ring; the second was checked by the caller.
        let channel = Channel::new(revision, self.dropped_through);
        self.namespaces.insert(Arc::clone(namespace), Arc::clone(&channel));
        channel
    }

    /// Forgets a namespace's channel when the watcher that says so was its last.
    pub(super) fn release(&mut self, namespace: &Arc<str>, channel: &Arc<Channel>) {
        // Two: the map's and the leaving watcher's. A watcher of a ring that was replaced has another channel.
        let same = self.namespaces.get(namespace).is_some_and(|known| Arc::ptr_eq(known, channel));
        if same && Arc::strong_count(channel) <= 2 {
            self.namespaces.remove(namespace);
        }
    }

    /// Makes every watcher start again, because what happened since is not known. The channels are to be woken.
    pub(super) fn abandon(&self) -> impl Iterator<Item = &Arc<Channel>> {
        let channels = std::iter::once(&self.everything).chain(self.namespaces.values());
        channels.inspect(|channel| channel.lost.store(u64::MAX, Ordering::Release))
    }

    /// The channels to wake after a change in `namespace`.
    pub(super) fn channels_of(&self, namespace: &str) -> impl Iterator<Item = &Arc<Channel>> {
        std::iter::once(&self.everything).chain(self.namespaces.get(namespace))
    }

    /// How many changes are kept.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

/// Bytes that only the ring keeps alive once later changes have replaced them: the states before, and of a deletion
/// the last one.
fn superseded_bytes(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |object| object.weight());
    let deleted = if event.change == super::event::Change::Deleted { event.object.weight() } else { 0 };
    previous + deleted
}
