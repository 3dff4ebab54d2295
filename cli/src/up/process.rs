//! The programs that `up` leaves running: started apart from the terminal, found again by their process id *and* the
//! time they were started at, so that a number that another process got since is never taken for ours.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use apiserver::file;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How much of a log is shown when something did not start.
const LOG_TAIL_BYTES: u64 = 4096;
/// The server and the agent end in a few seconds; what has not ended by then is ended by force.
const STOP_SECONDS: u64 = 30;
/// How often it is looked whether a program has ended.
const LOOK: Duration = Duration::from_millis(50);

/// One of the programs.
pub(crate) struct Process {
    name: &'static str,
    record: PathBuf,
    log: PathBuf,
}

/// What is written down of a started program.
#[derive(Serialize, Deserialize)]
struct Record {
    pid: u32,
    /// In clock ticks since the machine was booted, from `/proc/PID/stat`.
    started: u64,
    boot: String,
    arguments: Vec<String>,
}

impl Process {
    pub(crate) fn new(data: &Path, name: &'static str) -> Self {
        Self {
            name,
            record: data.join("run").join(format!("{name}.json")),
            log: data.join("log").join(format!("{name}.log")),
        }
    }

    /// Starts it with these arguments, unless it runs with them already. A changed program or changed arguments
    /// start it anew.
    pub(crate) fn ensure(&self, arguments: &[OsString]) -> anyhow::Result<()> {
        let end = Duration::from_secs(STOP_SECONDS);
        // One that was killed a moment ago still has its files and ports, and will not serve.
        wait_blocking(end, || self.life() != Life::Ends);
        let wanted: Vec<String> = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
        if let Some(record) = self.running() {
            if record.arguments == wanted && !is_replaced(record.pid) {
                return Ok(());
            }
            signal(record.pid, "-TERM")?;
            wait_blocking(end, || self.is_gone());
        }
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        // After an upgrade in place Linux calls the old file so.
        let program = PathBuf::from(program.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            // A group of its own: what the terminal sends to `up` does not reach it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the {}", self.name))?;
        let started = started(child.id()).with_context(|| format!("the {} ended at once", self.name))?;
        let record = Record { pid: child.id(), started, boot: boot_id(), arguments: wanted };
        write_private(&self.record, &serde_json::to_vec(&record)?)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Whether nothing of it is left, nor of its hold on files and ports.
    pub(crate) fn is_gone(&self) -> bool {
        self.life() == Life::Gone
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(&self.record).ok()?).ok()
    }

    fn running(&self) -> Option<Record> {
        self.record().filter(|record| record.life() == Life::Runs)
    }

    fn life(&self) -> Life {
        self.record().map_or(Life::Gone, |record| record.life())
    }

    /// The value of an option it was started with last.
    pub(crate) fn argument(&self, option: &str) -> Option<String> {
        let mut arguments = self.record()?.arguments.into_iter().skip_while(|argument| argument != option);
        arguments.nth(1)
    }

    /// Stops it and waits until it has ended.
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let Some(record) = self.running() else { return Ok(()) };
        signal(record.pid, "-TERM")?;
        let deadline = Instant::now() + Duration::from_secs(STOP_SECONDS);
        while Instant::now() < deadline {
            if self.is_gone() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        signal(record.pid, "-KILL")?;
        // What is killed ends at once, unless the kernel itself waits for a disk.
        for _look in 0..100 {
            if self.is_gone() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        anyhow::bail!("the {} does not end, or somebody starts it again", self.name)
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("{}: {error}", self.log.display()))
    }
}

fn wait_blocking(limit: Duration, mut done: impl FnMut() -> bool) {
    let mut waited = Duration::ZERO;
    while !done() && waited < limit {
        std::thread::sleep(LOOK);
        waited += LOOK;
    }
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Runs,
    /// It was killed or is exiting: the kernel still takes it apart.
    Ends,
    Gone,
}

impl Record {
    fn life(&self) -> Life {
        match stat(self.pid) {
            Some((started, life)) if self.boot == boot_id() && started == self.started => life,
            _ => Life::Gone,
        }
    }
}

/// When a process was started; `None` if there is none or it has ended.
fn started(pid: u32) -> Option<u64> {
    stat(pid).filter(|(_, life)| *life != Life::Gone).map(|(started, _)| started)
}

/// When a process was started, and how far it is, from `/proc/PID/stat`; see proc_pid_stat(5).
fn stat(pid: u32) -> Option<(u64, Life)> {
    /// `PF_EXITING` and `PF_SIGNALED` of the kernel's `sched.h`.
    const ENDING: u64 = 0x4 | 0x400;
    /// SIGKILL in the set of signals that wait to be taken.
    const KILLED: u64 = 1 << 8;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name stands in parentheses and may hold anything, so fields are counted behind the last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    let (flags, threads, started, pending) = (number(6)?, number(17)?, number(19)?, number(28)?);
    let life = match *fields.first()? {
        // It has ended and only waits to be collected, unless others of its threads still have its files.
        "Z" | "X" => {
            if threads > 1 {
                Life::Ends
            } else {
                Life::Gone
            }
        }
        _ if flags & ENDING != 0 || pending & KILLED != 0 => Life::Ends,
        _ => Life::Runs,
    };
    Some((started, life))
}

/// Whether the program's file was replaced since it was started.
fn is_replaced(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"))
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn signal(pid: u32, which: &str) -> anyhow::Result<()> {
    // The standard library has no kill(2), and our crates have no unsafe code.
    Command::new("kill").args([which, "--", &pid.to_string()]).status().context("cannot run kill")?;
    Ok(())
}

/// Writes a file that only its owner reads, at once or not at all; when this returns, a loss of power does not undo it.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    file::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_alone_is_no_process_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("run")).unwrap();
        let process = Process::new(folder.path(), "server");
        let own = std::process::id();
        let record = |started| Record { pid: own, started, boot: boot_id(), arguments: Vec::new() };
        let since = started(own).unwrap();
        write_private(&process.record, &serde_json::to_vec(&record(since)).unwrap()).unwrap();
        assert!(process.is_running());
        write_private(&process.record, &serde_json::to_vec(&record(since + 1)).unwrap()).unwrap();
        assert!(!process.is_running());
    }

    #[test]
    fn what_was_killed_does_not_run() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let (started, life) = stat(child.id()).unwrap();
        let record = Record { pid: child.id(), started, boot: boot_id(), arguments: Vec::new() };
        assert_eq!((life, record.life()), (Life::Runs, Life::Runs));
        signal(child.id(), "-KILL").unwrap();
        assert_ne!(record.life(), Life::Runs, "not even in the moment in which it was killed");
        wait_blocking(Duration::from_mins(1), || record.life() == Life::Gone);
        assert_eq!(record.life(), Life::Gone, "it waits to be collected");
        child.wait().unwrap();
        assert_eq!(record.life(), Life::Gone);
    }
}
