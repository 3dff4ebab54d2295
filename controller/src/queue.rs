//! What is to be looked at, each key once, at its time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::world::Key;

/// A queue of keys. A key waits in it at most once, and is never worked on twice at the same time: what comes in while
/// it is being worked on counts after that. So the queue is no longer than there are objects.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    due: BTreeSet<(Instant, Key)>,
    at: BTreeMap<Key, Instant>,
    running: BTreeSet<Key>,
}

impl Queue {
    /// Looks at a key as soon as somebody has time.
    pub(crate) fn add(&self, key: Key) {
        self.add_at(key, Instant::now());
    }

    /// Looks at a key after a while, or earlier if something else asks for it.
    pub(crate) fn add_after(&self, key: Key, delay: Duration) {
        self.add_at(key, Instant::now() + delay);
    }

    fn add_at(&self, key: Key, time: Instant) {
        let mut state = self.lock();
        match state.at.get(&key).copied() {
            Some(before) if before <= time => return,
            Some(before) => {
                state.due.remove(&(before, key.clone()));
            }
            None => {}
        }
        state.at.insert(key.clone(), time);
        state.due.insert((time, key));
        drop(state);
        self.wake.notify_one();
    }

    /// Waits for the next key. Whoever takes it must give it back with [`Queue::done`].
    pub(crate) async fn next(&self) -> Key {
        loop {
            let woken = self.wake.notified();
            let wait = match self.take(Instant::now()) {
                Take::Key { key, more } => {
                    if more {
                        self.wake.notify_one();
                    }
                    return key;
                }
                Take::Wait(until) => until,
            };
            match wait {
                Some(until) => tokio::select! {
                    () = woken => {}
                    () = tokio::time::sleep_until(until) => {}
                },
                None => woken.await,
            }
        }
    }

    /// Says that a key was worked on.
    pub(crate) fn done(&self, key: &Key) {
        let mut state = self.lock();
        state.running.remove(key);
        let waits = state.at.contains_key(key);
        drop(state);
        if waits {
            self.wake.notify_one();
        }
    }

    fn take(&self, now: Instant) -> Take {
        let mut state = self.lock();
        let mut next = None;
        for (time, key) in &state.due {
            if *time > now {
                break;
            }
            if !state.running.contains(key) {
                next = Some((*time, key.clone()));
                break;
            }
        }
        match next {
            Some((time, key)) => {
                state.due.remove(&(time, key.clone()));
                state.at.remove(&key);
                state.running.insert(key.clone());
                let more = state.due.first().is_some_and(|(time, _)| *time <= now);
                Take::Key { key, more }
            }
            // A key that is due but being worked on wakes us when it is done.
            None => Take::Wait(state.due.iter().map(|(time, _)| *time).find(|time| *time > now)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Take {
    Key { key: Key, more: bool },
    Wait(Option<Instant>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::cluster(name)
    }

    /// What the queue gives out at a time, without waiting.
    fn take(queue: &Queue, at: Instant) -> Result<Key, Option<Instant>> {
        match queue.take(at) {
            Take::Key { key, .. } => Ok(key),
            Take::Wait(until) => Err(until),
        }
    }

    #[test]
    fn a_key_waits_once_and_the_earlier_time_wins() {
        let queue = Queue::default();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        for seconds in [60, 5, 90] {
            queue.add_at(key("a"), after(seconds));
        }
        assert_eq!(take(&queue, now), Err(Some(after(5))));
        assert_eq!(take(&queue, after(5)), Ok(key("a")));
        assert_eq!(take(&queue, after(600)), Err(None));
    }

    #[tokio::test]
    async fn a_key_that_is_worked_on_comes_again_afterwards() {
        let queue = Queue::default();
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("b"), "a is still being worked on");
        assert_eq!(take(&queue, Instant::now()), Err(None));
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
    }
}
