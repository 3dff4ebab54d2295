//! A program under measurement: its own process, ended when it is no longer needed.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};

/// Both ends stop in well under a second; what hangs must not hang the benchmark.
const STOP_SECONDS_MAX: u64 = 30;

/// A running program. Dropping it kills it.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program whose output goes to a file.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let name = program.display().to_string();
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot run {name}"))?;
        Ok(Self { name, child })
    }

    /// Fails if the program has ended, which none of them should.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}", self.name),
        }
    }

    pub(crate) fn resident_megabytes(&self) -> anyhow::Result<f64> {
        resident_megabytes(self.child.id().context("the program has ended")?.into())
    }

    /// Asks the program to end and waits for it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("the program has ended")?;
        Command::new("kill").args(["-TERM", "--", &pid.to_string()]).status().await?;
        tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), self.child.wait())
            .await
            .with_context(|| format!("{} does not stop", self.name))??;
        Ok(())
    }
}

/// What a process has in memory, in units of a million bytes. The kernel adds up its pages for this, while the
/// counter in `status` may be off by some hundred kilobytes a processor.
pub(crate) fn resident_megabytes(pid: u64) -> anyhow::Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss in smaps_rollup")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().context("Rss is no number")?;
    Ok(kibibytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_in_memory() {
        let megabytes = super::resident_megabytes(std::process::id().into()).unwrap();
        assert!((0.5..1000.0).contains(&megabytes), "{megabytes}");
    }
}
