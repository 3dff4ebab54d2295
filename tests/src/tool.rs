//! A program that people use beside Berth, such as kubectl or helm, as it is and with one server's kubeconfig.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Platform, Server, setting, within};

/// Longer than anything takes that ends by itself; it only ends a test that hangs.
const PATIENCE_SECONDS: u64 = 180;

/// One of these programs.
#[derive(Clone, Debug)]
pub struct Tool {
    program: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
}

impl Server {
    /// kubectl for this server.
    pub fn kubectl(&self) -> Tool {
        Tool::new("BERTH_KUBECTL", self.kubeconfig(), self.folder())
    }

    /// helm for this server.
    pub fn helm(&self) -> Tool {
        Tool::new("BERTH_HELM", self.kubeconfig(), self.folder())
    }
}

impl Platform {
    /// kubectl for this platform.
    pub fn tool(&self) -> Tool {
        Tool::new("BERTH_KUBECTL", self.kubeconfig(), self.folder())
    }
}

impl Tool {
    fn new(variable: &str, kubeconfig: PathBuf, folder: &Path) -> Self {
        Self { program: setting(variable).into(), kubeconfig, folder: folder.to_owned() }
    }

    /// A command of it that does not run yet. Files are named from the test's own folder.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            // Its cache of what the server offers belongs to this server only.
            .env("HOME", &self.folder)
            .env("KUBE_EDITOR", self.folder.join("editor"))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs it with standard input; the outcome as it is.
    pub async fn output(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().context("cannot run it")?;
        let mut stdin = child.stdin.take().context("it has no standard input")?;
        let told = async {
            stdin.write_all(input.as_bytes()).await?;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(within(PATIENCE_SECONDS), told).await;
        Ok(output.with_context(|| format!("it does not end: {}", arguments.join(" ")))??)
    }

    /// What a command prints that must succeed. Its arguments are parted by spaces.
    pub async fn run(&self, line: &str) -> anyhow::Result<String> {
        let output = self.output(&line.split(' ').collect::<Vec<_>>(), "").await?;
        let (out, err) = texts(&output);
        if !output.status.success() {
            bail!("{line}: {}\n{out}{err}", output.status);
        }
        Ok(out)
    }

    /// What a command complains about that must fail.
    pub async fn refused(&self, line: &str) -> anyhow::Result<String> {
        let output = self.output(&line.split(' ').collect::<Vec<_>>(), "").await?;
        let (out, err) = texts(&output);
        if output.status.success() {
            bail!("{line}: not refused\n{out}{err}");
        }
        Ok(out + &err)
    }

    /// Runs a command that must print each of some texts, whatever space is between its words.
    pub async fn says(&self, line: &str, texts: &[&str]) -> anyhow::Result<()> {
        has(line, &self.run(line).await?, texts)
    }

    /// Runs a command that must fail with each of some texts.
    pub async fn refuses(&self, line: &str, texts: &[&str]) -> anyhow::Result<()> {
        has(line, &self.refused(line).await?, texts)
    }

    /// Runs a command that must print one text and nothing else.
    pub async fn prints(&self, line: &str, text: &str) -> anyhow::Result<()> {
        let printed = self.run(line).await?;
        if printed.trim() != text {
            bail!("{line}: {printed:?} is not {text:?}");
        }
        Ok(())
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file that its commands name.
    pub fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        Ok(std::fs::write(path, content)?)
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn has(line: &str, printed: &str, texts: &[&str]) -> anyhow::Result<()> {
    // Columns are as wide as their widest cell, which is of no interest here.
    let squeezed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in texts {
        if !squeezed.contains(text) {
            bail!("{line}: without {text:?}:\n{printed}");
        }
    }
    Ok(())
}
