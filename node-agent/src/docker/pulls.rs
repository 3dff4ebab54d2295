//! Which images were fetched from registries for customers, and when each was last of use: Docker knows neither, and an
//! image that somebody else has brought to this machine is not ours to remove.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::files;

/// A use is written down again when the last one noted is so old: an hour more or less is nothing to an image that is
/// kept for a day.
const STEP: SignedDuration = SignedDuration::from_hours(1);

/// The images that were fetched.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    /// Where they are remembered; nowhere in tests that need no restart.
    file: Option<PathBuf>,
    used: Mutex<BTreeMap<String, Timestamp>>,
}

impl Pulls {
    /// What a file remembers. One that cannot be understood is as good as none: then images stay.
    pub(super) fn open(file: PathBuf) -> io::Result<Self> {
        let content = files::read(&file)?.unwrap_or_default();
        let used = serde_json::from_slice(&content).unwrap_or_default();
        Ok(Self { file: Some(file), used: Mutex::new(used) })
    }

    /// Notes that an image was fetched.
    pub(super) fn fetched(&self, reference: &str, now: Timestamp) {
        self.lock().insert(reference.to_owned(), now);
        self.save();
    }

    /// Notes that an image is of use, if it is one of those that were fetched.
    pub(super) fn used(&self, reference: &str, now: Timestamp) {
        let noted = match self.lock().get_mut(reference) {
            Some(at) if now.duration_since(*at) >= STEP => {
                *at = now;
                true
            }
            _ => false,
        };
        if noted {
            self.save();
        }
    }

    /// Forgets an image that is gone.
    pub(super) fn gone(&self, reference: &str) {
        let known = self.lock().remove(reference).is_some();
        if known {
            self.save();
        }
    }

    /// All of them, with when each was last of use.
    pub(super) fn all(&self) -> BTreeMap<String, Timestamp> {
        self.lock().clone()
    }

    fn save(&self) {
        let Some(file) = &self.file else { return };
        let json = serde_json::to_vec(&*self.lock()).unwrap_or_default();
        if let Err(error) = files::replace(file, &json) {
            tracing::warn!(%error, "which images were fetched cannot be written down; they stay");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_is_remembered_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pulled.json");
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        let pulls = Pulls::open(file.clone()).unwrap();
        pulls.fetched("nginx:1", at(1));
        pulls.fetched("debian:12", at(1));
        pulls.used("berth/nodejs:20", at(9));
        pulls.used("nginx:1", at(5));
        pulls.gone("debian:12");
        assert_eq!(Pulls::open(file.clone()).unwrap().all(), BTreeMap::from([("nginx:1".to_owned(), at(5))]));
        std::fs::write(&file, b"[").unwrap();
        assert!(Pulls::open(file).unwrap().all().is_empty());
    }
}
