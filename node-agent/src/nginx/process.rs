//! The processes of the agent's own Nginx: finding them again, starting, telling and ending them.
//!
//! The master process is no child of the agent: an agent that ends or crashes takes no traffic with it. It is found
//! again by its pid file, and believed only if its command line names our folder.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, Signal, System};
use tokio::process::Command;
use tokio::time::timeout;

use super::render::{ERROR_LOG, PID_FILE};

/// How long `nginx -t`, or Nginx's own start, may take. Binding a port that is being freed is tried for 2.5 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// The program and the folder it works in.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// The binary.
    pub(super) binary: PathBuf,
    /// The folder that is ours.
    pub(super) prefix: PathBuf,
}

/// What a binary says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its version.
    pub(super) version: String,
    /// Where its modules are, if it loads any.
    pub(super) modules_path: Option<String>,
}

impl Program {
    /// Asks the binary what it is.
    pub(super) async fn facts(&self) -> Result<Facts, String> {
        let (_, text) = self.run(["-V"].map(AsRef::as_ref)).await?;
        facts(&text).ok_or_else(|| format!("{} is no Nginx: {text}", self.binary.display()))
    }

    /// Whether a configuration is one that Nginx would run with.
    pub(super) async fn test(&self, conf: &Path) -> Result<(), String> {
        match self.run(["-t".as_ref(), "-q".as_ref(), "-c".as_ref(), conf.as_os_str()]).await? {
            (true, _) => Ok(()),
            (false, text) => Err(text),
        }
    }

    /// Starts the master process with a configuration, in the background.
    pub(super) async fn start(&self, conf: &Path) -> Result<(), String> {
        match self.run(["-c".as_ref(), conf.as_os_str()]).await? {
            (true, _) => Ok(()),
            (false, text) => Err(text),
        }
    }

    async fn run<const N: usize>(&self, args: [&OsStr; N]) -> Result<(bool, String), String> {
        let error_log = self.prefix.join(ERROR_LOG);
        let mut command = Command::new(&self.binary);
        command.arg("-p").arg(&self.prefix).arg("-e").arg(&error_log).args(args);
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        // A pipe would be held open by the processes that go on; a file is not waited for.
        let said = tempfile::tempfile().map_err(|e| e.to_string())?;
        command.stderr(said.try_clone().map_err(|e| e.to_string())?);
        let mut child = command.spawn().map_err(|e| format!("{}: {e}", self.binary.display()))?;
        let status = timeout(PATIENCE, child.wait())
            .await
            .map_err(|_elapsed| format!("{} did not end within {PATIENCE:?}", self.binary.display()))?
            .map_err(|e| e.to_string())?;
        Ok((status.success(), read_tail(said)))
    }

    /// The master process, if it lives.
    pub(super) fn master(&self) -> Option<u32> {
        let pid: u32 = std::fs::read_to_string(self.prefix.join(PID_FILE)).ok()?.trim().parse().ok()?;
        let command = command_line(pid)?;
        let ours = format!("-p {} ", self.prefix.display());
        (command.starts_with("nginx: master process") && command.contains(&ours)).then_some(pid)
    }

    /// Tells the master process to read its configuration again.
    pub(super) fn reload(&self) -> bool {
        self.master().is_some_and(|pid| signal(pid, Signal::Hangup))
    }

    /// Tells the master process to end: when the requests that it has are answered, or at once.
    pub(super) fn end(&self, patiently: bool) -> bool {
        let how = if patiently { Signal::Quit } else { Signal::Term };
        self.master().is_some_and(|pid| signal(pid, how))
    }

    /// Ends workers whose master is gone. They hold the ports, and nobody tells them anything any more.
    pub(super) fn end_orphans(&self) -> bool {
        let orphans = self.workers_without_master();
        for pid in &orphans {
            signal(*pid, Signal::Quit);
        }
        !orphans.is_empty()
    }

    /// Workers are called the same on every Nginx of a machine; ours have our error log open.
    fn workers_without_master(&self) -> BTreeSet<u32> {
        let log = self.prefix.join(ERROR_LOG);
        let ours = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
            command_line(pid).is_some_and(|line| line.starts_with("nginx: worker process"))
                && files.is_ok_and(|mut files| {
                    files.any(|file| file.is_ok_and(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == log)))
                })
        };
        let Ok(processes) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
        let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| ours(*pid)).collect()
    }
}

fn command_line(pid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

fn signal(pid: u32, signal: Signal) -> bool {
    let Ok(mut system) = System::new() else { return false };
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, ProcessRefreshKind::nothing());
    system.process(pid).and_then(|process| process.kill_with(signal)).unwrap_or(false)
}

/// The last 4 KiB of what was said: Nginx says what is wrong at the end.
fn read_tail(mut file: std::fs::File) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    let start = file.metadata().map_or(0, |meta| meta.len()).saturating_sub(4096);
    if file.seek(SeekFrom::Start(start)).is_ok() {
        // What cannot be read is not worth more than an empty message.
        _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn facts(text: &str) -> Option<Facts> {
    let version = text.lines().find_map(|line| line.split_once("version: ")?.1.split_once('/'))?.1;
    let version = version.split_whitespace().next()?.to_owned();
    let modules_path = text.split_whitespace().find_map(|word| word.strip_prefix("--modules-path=")).map(str::to_owned);
    Some(Facts { version, modules_path })
}

/// The program called `nginx`: on the path, or where Debian puts it, which is on no ordinary user's path.
pub fn find_binary(path: Option<&OsStr>) -> Option<PathBuf> {
    let folders = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>()).unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/openresty/nginx/sbin"].map(PathBuf::from);
    folders.into_iter().chain(usual).map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_says_what_it_is() {
        let text = "nginx version: nginx/1.22.1\nbuilt with OpenSSL\nconfigure arguments: --with-cc-opt='-g' \
                    --modules-path=/usr/lib/nginx/modules --with-compat";
        let expected = Facts { version: "1.22.1".to_owned(), modules_path: Some("/usr/lib/nginx/modules".to_owned()) };
        assert_eq!(facts(text), Some(expected));
        assert_eq!(facts("bash: nginx: not found"), None);
    }
}
