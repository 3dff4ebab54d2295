//! Against guessing: after some failures each further try has to wait, twice as long each time.
//!
//! Failures are counted for a name from one network, for a network, and for a name from anywhere. The last has much room
//! and a short pause, because it is how a stranger could lock somebody out. A try counts as failed from its beginning until
//! it has succeeded, so that many at a time gain nothing. What is counted is this server's own and ends with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::guard::network;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    NameFrom(String, String),
    From(String),
    Name(String),
}

/// How many failures are free, and how long the longest pause is.
#[derive(Clone, Copy)]
struct Patience {
    free: u32,
    pause_max: Duration,
}

impl Key {
    fn patience(&self) -> Patience {
        match self {
            // Somebody who mistypes their own password.
            Self::NameFrom(..) => Patience { free: 5, pause_max: Duration::from_mins(15) },
            // An office behind one address.
            Self::From(_) => Patience { free: 30, pause_max: Duration::from_mins(15) },
            // At one try in half a minute a list of a thousand passwords takes eight hours, and the person still gets in.
            Self::Name(_) => Patience { free: 60, pause_max: Duration::from_secs(30) },
        }
    }
}

/// Tries at a time of one network, and for one name: a quarter of those whose passwords may wait to be looked at, so that who
/// knows a password cannot keep everybody else waiting.
const TOGETHER_MAX: u32 = 8;
const TOGETHER_OF_NAME_MAX: u32 = 2;
/// When it makes sense to come again after too many at a time.
const TOGETHER_PAUSE: Duration = Duration::from_secs(1);

/// After so long without one, failures are forgotten: as long as the longest pause.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);
/// What is remembered at a time, some 150 bytes each. Past this the oldest is forgotten: an attacker with so many addresses
/// or names is slowed by the cost of hashing.
const KEYS_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// What is remembered of failures, and the tries that are under way.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    failures: Mutex<HashMap<Key, Failures>>,
    under_way: Mutex<HashMap<Key, u32>>,
}

/// A try that has begun.
pub(super) struct Try<'a> {
    throttle: &'a Throttle,
    keys: [Key; 3],
}

impl Throttle {
    /// Lets somebody try, or says how long they have to wait.
    pub(super) fn enter(&self, name: &str, address: Option<IpAddr>, now: Instant) -> Result<Try<'_>, Duration> {
        let from = address.map(network).unwrap_or_default();
        let keys = [Key::NameFrom(name.to_owned(), from.clone()), Key::From(from), Key::Name(name.to_owned())];
        // Whoever is refused below has left again by then.
        let entered = self.begin(keys)?;
        let keys = &entered.keys;
        let mut known = self.known();
        known.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN_AFTER);
        let waits = keys.iter().filter_map(|key| wait(key, *known.get(key)?, now));
        if let Some(longest) = waits.max() {
            return Err(longest);
        }
        for key in keys {
            if known.len() >= KEYS_MAX
                && !known.contains_key(key)
                && let Some(oldest) = known.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| key.clone())
            {
                known.remove(&oldest);
            }
            let failures = known.entry(key.clone()).or_insert(Failures { count: 0, last: now });
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
        }
        drop(known);
        Ok(entered)
    }

    /// Takes a place for each key, or none.
    fn begin(&self, keys: [Key; 3]) -> Result<Try<'_>, Duration> {
        let mut under_way = self.under_way();
        let full = |key: &Key| {
            let most = match key {
                Key::From(_) => TOGETHER_MAX,
                Key::Name(_) | Key::NameFrom(..) => TOGETHER_OF_NAME_MAX,
            };
            under_way.get(key).is_some_and(|count| *count >= most)
        };
        if keys.iter().any(full) {
            return Err(TOGETHER_PAUSE);
        }
        for key in &keys {
            *under_way.entry(key.clone()).or_default() += 1;
        }
        drop(under_way);
        Ok(Try { throttle: self, keys })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Try<'_> {
    /// It was the right password: what was held against the name from there is forgotten, and this try against the others.
    pub(super) fn succeeded(self) {
        self.forget(true);
    }

    /// It was never looked at, for reasons of the server's own.
    pub(super) fn withdrawn(self) {
        self.forget(false);
    }

    fn forget(self, all_of_name: bool) {
        let mut known = self.throttle.known();
        for key in &self.keys {
            let Some(failures) = known.get_mut(key) else { continue };
            failures.count = failures.count.saturating_sub(1);
            if failures.count == 0 || (all_of_name && matches!(key, Key::NameFrom(..))) {
                known.remove(key);
            }
        }
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut under_way = self.throttle.under_way();
        for key in &self.keys {
            match under_way.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(under_way.remove(key)),
            }
        }
    }
}

/// How long the next try has to wait; `None` if it need not.
fn wait(key: &Key, failures: Failures, now: Instant) -> Option<Duration> {
    let Patience { free, pause_max } = key.patience();
    let beyond = failures.count.checked_sub(free)?;
    let pause = Duration::from_secs(1 << beyond.min(20)).min(pause_max);
    let left = (failures.last + pause).saturating_duration_since(now);
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";

    fn attempt(throttle: &Throttle, name: &str, from: &str, now: Instant) -> Result<(), u64> {
        let entered = throttle.enter(name, from.parse().ok(), now);
        entered.map(drop).map_err(|wait| wait.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_are_forgotten() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(attempt(&throttle, "ann", HERE, start), Ok(()));
        }
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(attempt(&throttle, "ann", HERE, now), Err(pause));
            now += Duration::from_secs(pause);
            // What is forgotten in that moment was asked for before.
            if pause < 900 {
                assert_eq!(attempt(&throttle, "ann", HERE, now), Ok(()), "after {pause} s");
            } else {
                break;
            }
        }
        assert_eq!(attempt(&throttle, "ann", HERE, now + FORGOTTEN_AFTER), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_not_held_up_and_neither_is_a_name_for_long() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            attempt(&throttle, "ann", HERE, now).unwrap();
        }
        assert!(attempt(&throttle, "ann", HERE, now).is_err());
        assert_eq!(attempt(&throttle, "ann", "192.0.2.2", now), Ok(()), "from elsewhere");
        assert_eq!(attempt(&throttle, "bob", HERE, now), Ok(()), "another name");
        // One network tries many names: it is held up for all of them.
        for n in 0..24 {
            attempt(&throttle, &format!("user-{n}"), HERE, now).unwrap();
        }
        assert!(attempt(&throttle, "cy", HERE, now).is_err());
        // Addresses of one IPv6 network are one.
        for n in 0..5 {
            attempt(&throttle, "dee", &format!("2001:db8::{n}"), now).unwrap();
        }
        assert!(attempt(&throttle, "dee", "2001:db8::ffff", now).is_err());
        assert_eq!(attempt(&throttle, "dee", "2001:db8:0:1::1", now), Ok(()));
        // Many networks try one name: nobody waits for more than half a minute.
        for n in 0..200 {
            attempt(&throttle, "eve", &format!("198.51.100.{n}"), now).ok();
        }
        let wait = attempt(&throttle, "eve", "203.0.113.1", now).unwrap_err();
        assert!((1..=30).contains(&wait), "{wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn success_forgives() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..4 {
            attempt(&throttle, "ann", HERE, now).unwrap();
        }
        throttle.enter("ann", HERE.parse().ok(), now).ok().unwrap().succeeded();
        for _ in 0..5 {
            attempt(&throttle, "ann", HERE, now).unwrap();
        }
        assert!(attempt(&throttle, "ann", HERE, now).is_err());
        for _ in 0..100 {
            throttle.enter("bob", "192.0.2.9".parse().ok(), now).ok().unwrap().withdrawn();
        }
        assert!(throttle.known().keys().all(|key| !matches!(key, Key::Name(name) if name == "bob")));
    }

    #[tokio::test(start_paused = true)]
    async fn who_knows_a_password_does_not_keep_others_waiting() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        let enter = |name: &str, from: &str| throttle.enter(name, from.parse().ok(), now);
        let two = [enter("ann", HERE), enter("ann", "192.0.2.2")];
        assert_eq!(enter("ann", "192.0.2.3").err(), Some(TOGETHER_PAUSE), "a third try for one name");
        assert!(two.iter().all(Result::is_ok) && enter("bob", HERE).is_ok());
        let names: Vec<String> = (0..TOGETHER_MAX).map(|n| format!("user-{n}")).collect();
        let tries: Vec<_> = names.iter().map(|name| enter(name, "198.51.100.1")).collect();
        assert!(tries.iter().all(Result::is_ok));
        assert_eq!(enter("cy", "198.51.100.1").err(), Some(TOGETHER_PAUSE), "one more from one network");
        drop((two, tries));
        assert!(enter("ann", "192.0.2.3").is_ok() && enter("cy", "198.51.100.1").is_ok());
        assert!(throttle.under_way().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..KEYS_MAX {
            throttle.known().insert(Key::Name(n.to_string()), Failures { count: 1, last: now });
        }
        attempt(&throttle, "ann", HERE, now + Duration::from_secs(1)).unwrap();
        assert_eq!(throttle.known().len(), KEYS_MAX);
    }
}
