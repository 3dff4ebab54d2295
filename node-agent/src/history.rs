//! What is remembered of each instance: one small file each, for Docker does not count what the agent restarts.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::labels::short_hash;
use crate::observed::History;

/// The folder of these files.
#[derive(Clone, Debug)]
pub(crate) struct Histories {
    folder: PathBuf,
}

/// A file: a uid is no file name until it is checked, so the file is named by its hash and says the uid itself.
#[derive(Serialize, Deserialize)]
struct Entry {
    uid: String,
    history: History,
}

impl Histories {
    /// In the agent's data folder.
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("instances");
        files::private_folder(&folder)?;
        files::sweep(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.folder.join(format!("{}.json", short_hash(uid, 32)))
    }

    /// All that is remembered. A file that cannot be read is as good as none: it costs an instance three more restarts.
    pub(crate) fn load(&self) -> io::Result<BTreeMap<String, History>> {
        let mut all = BTreeMap::new();
        for file in fs::read_dir(&self.folder)? {
            let path = file?.path();
            let read = fs::read(&path).and_then(|content| Ok(serde_json::from_slice::<Entry>(&content)?));
            match read {
                Ok(entry) => {
                    all.insert(entry.uid, entry.history);
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "what was remembered cannot be read"),
            }
        }
        Ok(all)
    }

    /// Writes what is remembered of an instance.
    pub(crate) fn save(&self, uid: &str, history: &History) -> io::Result<()> {
        let entry = Entry { uid: uid.to_owned(), history: history.clone() };
        files::replace(&self.path(uid), &serde_json::to_vec(&entry)?)
    }

    /// Forgets an instance.
    pub(crate) fn forget(&self, uid: &str) -> io::Result<()> {
        files::remove(&self.path(uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_survives_and_can_be_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let histories = Histories::new(folder.path()).unwrap();
        let mut history = History::default();
        for second in 0..20 {
            history.restart(jiff::Timestamp::from_second(second).unwrap());
        }
        assert_eq!((history.restarts, history.restarted.len()), (20, History::KEPT));
        histories.save("../../etc/passwd", &history).unwrap();
        let again = Histories::new(folder.path()).unwrap();
        assert_eq!(again.load().unwrap(), BTreeMap::from([("../../etc/passwd".to_owned(), history)]));
        // What a dying disk and a process that ended in the middle of a write leave behind.
        std::fs::write(folder.path().join("instances/x.json"), b"{").unwrap();
        std::fs::create_dir(folder.path().join("instances/y.json")).unwrap();
        std::fs::write(folder.path().join("instances/.new-abc"), b"half").unwrap();
        let again = Histories::new(folder.path()).unwrap();
        assert_eq!(again.load().unwrap().len(), 1);
        assert!(!folder.path().join("instances/.new-abc").exists());
        again.forget("../../etc/passwd").unwrap();
        assert!(again.load().unwrap().is_empty());
    }
}
