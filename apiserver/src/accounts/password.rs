//! Passwords: which are taken, and how they are kept. The hash is Argon2id with the parameters that OWASP's Password Storage
//! Cheat Sheet recommends.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::Error;

/// Shorter ones are guessed.
pub(super) const CHARS_MIN: usize = 8;
/// As long as a passphrase; a longer text costs time and adds nothing.
pub(super) const CHARS_MAX: usize = 128;

/// Memory of one hash, in KiB.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over it.
const PASSES: u32 = 2;
/// Threads of one hash.
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Hashes at a time: two take 38 MiB and two processors for some 20 ms.
const TOGETHER_MAX: usize = 2;
/// Those who wait for their turn. With so many before them it comes within half a second.
const WAITING_MAX: usize = 32;
/// A turn comes long before this, unless the machine is overwhelmed.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// What a password is compared with where there is none: the same work, and it never fits. The hash is of nothing known.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdCBvZiBub2JvZHkhIQ$BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY";

/// The passwords that are tried first, one a line, in lower case: from published counts of leaked ones, as far as they are
/// long enough to be asked about.
const COMMON: &str = include_str!("common.txt");

/// What is wrong with a password for that person, if anything.
pub(super) fn problem(name: &str, password: &str) -> Option<String> {
    let chars = password.chars().count();
    if !(CHARS_MIN..=CHARS_MAX).contains(&chars) {
        return Some(format!("must have {CHARS_MIN} to {CHARS_MAX} characters; 15 or more are recommended"));
    }
    let lower = password.to_lowercase();
    let bare = lower.trim_end_matches(|last: char| last.is_ascii_digit() || last.is_ascii_punctuation());
    if COMMON.lines().any(|common| common == lower) {
        return Some("is one of the passwords that are tried first: choose another".to_owned());
    }
    let mut letters = lower.chars();
    let first = letters.next();
    if letters.all(|letter| Some(letter) == first) {
        return Some("is one character over and over: choose another".to_owned());
    }
    (lower == name || bare == name).then(|| "is little more than the user's name: choose another".to_owned())
}

/// Makes and checks hashes, a few at a time, beside the tasks that must not wait.
#[derive(Debug)]
pub(super) struct Hasher {
    working: Semaphore,
    waiting: Semaphore,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { working: Semaphore::new(TOGETHER_MAX), waiting: Semaphore::new(WAITING_MAX) }
    }
}

impl Hasher {
    /// The hash of a password, with a salt of its own.
    pub(super) async fn hash(&self, password: String) -> Result<String, Error> {
        self.in_turn(move || {
            let mut salt = [0_u8; SALT_BYTES];
            SystemRandom::new().fill(&mut salt).map_err(|error| Error::internal(error.to_string()))?;
            let hash = algorithm()?.hash_password_with_salt(password.as_bytes(), &salt);
            Ok(hash.map_err(|error| Error::internal(error.to_string()))?.to_string())
        })
        .await?
    }

    /// Whether a password is the one of a hash. Where there is none it takes the same time, and it is not.
    pub(super) async fn fits(&self, password: String, hash: Option<String>) -> Result<bool, Error> {
        self.in_turn(move || {
            let known = hash.is_some();
            let hash = hash.as_deref().unwrap_or(NOBODYS);
            Ok(algorithm()?.verify_password(password.as_bytes(), hash).is_ok() && known)
        })
        .await?
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let full = || Error::too_many("too many sign in at a time", 1);
        let _place = self.waiting.try_acquire().map_err(|_full| full())?;
        let Ok(Ok(_turn)) = timeout(TURN_WAIT, self.working.acquire()).await else { return Err(full()) };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(error.to_string()))
    }
}

fn algorithm() -> Result<Argon2<'static>, Error> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused() {
        for weak in [
            "",
            "1234567",
            "12345678",
            "PASSWORD",
            "Password1",
            "qwertyuiop",
            "aaaaaaaaaaaa",
            "annabelle",
            "Annabelle1!",
            "annabelle-2026",
            &"x".repeat(129),
            "ÄÖÜäöü1",
        ] {
            assert!(problem("annabelle", weak).is_some(), "{weak}");
        }
        for good in ["correct horse battery staple", "ÄÖÜäöü12", "annabelle likes tea", &"xy".repeat(64)] {
            assert_eq!(problem("annabelle", good), None, "{good}");
        }
        for line in COMMON.lines() {
            assert!(line.chars().count() >= CHARS_MIN && line == line.to_lowercase(), "{line}");
        }
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_and_no_other() {
        let hasher = Hasher::default();
        let hash = hasher.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, hasher.hash("correct horse".into()).await.unwrap(), "each has a salt of its own");
        assert!(hasher.fits("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.fits("correct horsf".into(), Some(hash.clone())).await.unwrap());
        assert!(!hasher.fits("correct horse".into(), None).await.unwrap());
        assert!(!hasher.fits("correct horse".into(), Some("no hash".into())).await.unwrap());
        // What stands for nobody's is as much work as everybody's.
        let work = |hash: &str| hash.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(work(NOBODYS), work(&hash));
        let parsed = argon2::password_hash::phc::PasswordHash::new(NOBODYS).unwrap();
        assert_eq!((parsed.salt.unwrap().len(), parsed.hash.unwrap().len()), (SALT_BYTES, 32));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_bounded() {
        let hasher = Hasher::default();
        let all = (0..2 * WAITING_MAX).map(|_| hasher.in_turn(|| std::thread::sleep(Duration::from_millis(5))));
        let refused = futures::future::join_all(all).await.into_iter().filter(Result::is_err).count();
        assert_eq!(refused, WAITING_MAX);
    }
}
