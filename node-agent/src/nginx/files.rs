//! The files of the agent's Nginx: configurations side by side, a link to the live one, the table, the logs.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use super::render::{ACCESS_LOG, ERROR_LOG, LUA, Rendered, SOCKET};

/// The kernel's limit for the path of a socket, less the byte that ends it.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How large a log may become before it is put aside; one older piece is kept. About 200,000 requests.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// A folder.
#[derive(Clone, Debug)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The folder as text, if Nginx can work in it.
    pub(super) fn prefix(&self) -> Result<String, String> {
        let text = self.0.to_str().filter(|text| text.starts_with('/'));
        let text = text.ok_or_else(|| format!("{} is no absolute path in UTF-8", self.0.display()))?;
        if text.len() + 1 + SOCKET.len() > SOCKET_PATH_BYTES_MAX {
            return Err(format!("{text} is too long a path: a socket in it may have {SOCKET_PATH_BYTES_MAX} bytes"));
        }
        Ok(text.to_owned())
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    pub(super) fn live_conf(&self) -> PathBuf {
        self.0.join("live/nginx.conf")
    }

    /// Writes a configuration to a folder of its own, unless it is there, and gives its path.
    pub(super) fn write_configuration(&self, rendered: &Rendered) -> io::Result<PathBuf> {
        let folder = self.0.join("generations").join(&rendered.name);
        if !folder.is_dir() {
            // The table names what the applications of all customers are: nobody else on the machine reads it.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let unfinished = self.0.join("generations").join(format!("{}.unfinished", rendered.name));
            fs::create_dir_all(&unfinished)?;
            fs::write(unfinished.join("nginx.conf"), &rendered.conf)?;
            fs::write(unfinished.join("berth.lua"), LUA)?;
            fs::rename(&unfinished, &folder)?;
        }
        Ok(folder.join("nginx.conf"))
    }

    /// Makes a configuration the live one and gives the name of the one before.
    pub(super) fn swap(&self, name: &str) -> io::Result<Option<String>> {
        let live = self.0.join("live");
        let before = fs::read_link(&live).ok().and_then(|to| Some(to.file_name()?.to_str()?.to_owned()));
        let fresh = self.0.join("live.unfinished");
        remove(&fresh)?;
        symlink(Path::new("generations").join(name), &fresh)?;
        fs::rename(&fresh, &live)?;
        Ok(before)
    }

    /// Removes the configurations that are neither live nor the one to fall back to.
    pub(super) fn remove_old_configurations(&self, live: &str, before: Option<&str>) {
        let Ok(folders) = fs::read_dir(self.0.join("generations")) else { return };
        for folder in folders.flatten() {
            let name = folder.file_name();
            if name != live
                && before.is_none_or(|before| name != before)
                && let Err(problem) = fs::remove_dir_all(folder.path())
            {
                tracing::warn!(%problem, folder = %folder.path().display(), "an old configuration stays");
            }
        }
    }

    /// Writes the table from which an Nginx that starts anew reads.
    pub(super) fn write_table(&self, generation: u64, lines: &str) -> io::Result<()> {
        let unfinished = self.0.join("routes.unfinished");
        let mut file = fs::File::create(&unfinished)?;
        writeln!(file, "{generation}")?;
        file.write_all(lines.as_bytes())?;
        // Not synced: after a power cut the agent writes it again before it starts Nginx.
        fs::rename(&unfinished, self.0.join("routes"))
    }

    pub(super) fn remove_socket(&self) {
        if let Err(problem) = remove(&self.socket()) {
            tracing::warn!(%problem, "a socket that nobody listens on stays");
        }
    }

    /// The last things that Nginx complained of.
    pub(super) fn last_errors(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.0.join(ERROR_LOG))?;
            let start = file.metadata()?.len().saturating_sub(2048);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).lines().rev().take(5).collect::<Vec<_>>().join(" | "))
        };
        read().unwrap_or_default()
    }

    /// Puts a log aside that has become large. Nginx appends, so that it goes on with an empty file; its workers may
    /// not open files in this folder, so they cannot be told to take a new one.
    pub(super) fn shorten_logs(&self) {
        for name in [ACCESS_LOG, ERROR_LOG] {
            let log = self.0.join(name);
            if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_BYTES_MAX) {
                let aside = fs::copy(&log, self.0.join(format!("{name}.1")));
                let emptied = fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0));
                if let Err(problem) = aside.map(drop).and(emptied) {
                    tracing::warn!(%problem, log = %log.display(), "a log grows too large");
                }
            }
        }
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The user that workers run as: Debian's for web servers, or the one of Nginx's own packages. None without root, where
/// no other user can be had.
pub(super) fn worker_user() -> Option<String> {
    if fs::metadata("/proc/self").is_ok_and(|process| process.uid() != 0) {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = |name: &&str| users.lines().any(|line| line.split(':').next() == Some(name));
    ["www-data", "nginx", "nobody"].into_iter().find(known).map(str::to_owned)
}
