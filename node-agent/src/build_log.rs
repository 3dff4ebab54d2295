//! Logs of builds, in files, until the gateway says that it has them: neither a lost connection nor a restart of the
//! agent loses a line.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use crate::files;
use crate::labels::short_hash;

/// The longest log of one build; what comes after is not kept, and that is said once. The build goes on, unheard.
pub(crate) const LOG_BYTES_MAX: u64 = 16 << 20;

/// The folder of these files.
#[derive(Clone, Debug)]
pub(crate) struct BuildLogs {
    folder: Arc<PathBuf>,
    /// Counts changes, so that the session can wait for one.
    changes: watch::Sender<u64>,
}

impl BuildLogs {
    /// In the agent's data folder.
    pub(crate) fn new(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join("build-logs");
        files::private_folder(&folder)?;
        Ok(Self { folder: Arc::new(folder), changes: watch::Sender::new(0) })
    }

    fn path(&self, build: &str) -> PathBuf {
        self.folder.join(format!("{}.log", short_hash(build, 32)))
    }

    /// Appends to a build's log.
    pub(crate) fn append(&self, build: &str, text: &str) {
        if let Err(error) = self.try_append(build, text) {
            tracing::warn!(build, %error, "a build's log cannot be written");
        }
        self.changes.send_modify(|count| *count += 1);
    }

    fn try_append(&self, build: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path(build))?;
        let length = file.metadata()?.len();
        if length >= LOG_BYTES_MAX {
            return Ok(());
        }
        file.write_all(text.as_bytes())?;
        if length + text.len() as u64 >= LOG_BYTES_MAX {
            file.write_all(b"\n[the log is longer than 16 MiB; the rest is not kept]\n")?;
        }
        Ok(())
    }

    /// A piece of a build's log from a byte on, at most so long and cut between characters; empty if there is no more.
    pub(crate) fn read(&self, build: &str, offset: u64, bytes_max: u64) -> io::Result<String> {
        let mut file = match OpenOptions::new().read(true).open(self.path(build)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        // Whole pieces of text were appended, so only the cut itself can fall into a character.
        let whole = match std::str::from_utf8(&bytes) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
        };
        bytes.truncate(whole);
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    /// Removes the logs of all builds but these.
    pub(crate) fn keep_only<'a>(&self, builds: impl Iterator<Item = &'a str>) {
        let kept: BTreeSet<PathBuf> = builds.map(|build| self.path(build)).collect();
        let Ok(entries) = fs::read_dir(&*self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !kept.contains(path)) {
            if let Err(error) = files::remove(&path) {
                tracing::debug!(%error, "an old log cannot be removed");
            }
        }
    }

    /// Changes whenever something was appended.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_any_byte_and_never_in_half_a_character() {
        let folder = tempfile::tempdir().unwrap();
        let logs = BuildLogs::new(folder.path()).unwrap();
        logs.append("b", "äöü");
        logs.append("b", "x");
        assert_eq!(logs.read("b", 0, 3).unwrap(), "ä");
        assert_eq!(logs.read("b", 2, 100).unwrap(), "öüx");
        assert_eq!(logs.read("b", 7, 100).unwrap(), "");
        assert_eq!(logs.read("c", 0, 100).unwrap(), "");
        logs.keep_only(["c"].into_iter());
        assert_eq!(logs.read("b", 0, 100).unwrap(), "");
    }

    #[test]
    fn a_log_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let logs = BuildLogs::new(folder.path()).unwrap();
        let megabyte = "x".repeat(1 << 20);
        for _ in 0..20 {
            logs.append("b", &megabyte);
        }
        let length = fs::metadata(logs.path("b")).unwrap().len();
        assert!(length < LOG_BYTES_MAX + 100, "{length}");
        assert!(logs.read("b", LOG_BYTES_MAX, 100).unwrap().contains("not kept"));
    }
}
