//! What a build leaves on disk so that an agent that crashed knows how it ended.

use std::io;
use std::path::{Path, PathBuf};

use node_protocol::BuildObservation;

use crate::files;

/// The folder of all builds.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens it; makes it if it is not there.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("builds");
        files::private_folder(&path)?;
        Ok(Self(path))
    }

    /// A build's own folder. Uids come from the control plane; one that is no name gets no folder.
    pub(super) fn of(&self, uid: &str) -> Option<PathBuf> {
        let plain = !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain.then(|| self.0.join(uid))
    }

    /// Empties a build's folder: what an earlier try left is of no use. Says whether there was one.
    pub(super) fn begin(&self, uid: &str) -> io::Result<(PathBuf, bool)> {
        let folder =
            self.of(uid).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{uid:?} is no uid")))?;
        let before = folder.is_dir();
        self.remove(uid)?;
        files::private_folder(&folder)?;
        Ok((folder, before))
    }

    /// Keeps how a build ended.
    pub(super) fn finish(&self, observation: &BuildObservation) -> io::Result<()> {
        let Some(folder) = self.of(&observation.uid) else { return Ok(()) };
        files::private_folder(&folder)?;
        files::replace(&folder.join("state.json"), &serde_json::to_vec(observation)?)
    }

    /// The builds that have ended. What cannot be read is as if it had never begun.
    pub(super) fn finished(&self) -> Vec<BuildObservation> {
        let Ok(folders) = std::fs::read_dir(&self.0) else { return Vec::new() };
        let read = |folder: std::fs::DirEntry| {
            let bytes = files::read(&folder.path().join("state.json")).ok()??;
            serde_json::from_slice::<BuildObservation>(&bytes).ok().filter(|build| build.phase.is_final())
        };
        folders.flatten().filter_map(read).collect()
    }

    /// Removes a build's folder.
    pub(super) fn remove(&self, uid: &str) -> io::Result<()> {
        match self.of(uid).map(std::fs::remove_dir_all) {
            Some(Err(problem)) if problem.kind() != io::ErrorKind::NotFound => Err(problem),
            _ => Ok(()),
        }
    }
}
