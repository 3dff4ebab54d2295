//! The example application: a folder becomes a Git repository, and its YAML names it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{self, Progress};
use crate::failure::{Exit, fail};

/// Makes (or brings up to date) a bare repository of the folder. Returns its name.
pub(crate) fn repository(folder: &Path, into: &Path) -> anyhow::Result<String> {
    let folder = folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))?;
    let name = folder.file_name().context("the example's folder has no name")?.to_string_lossy().into_owned();
    let bare = into.join(format!("{name}.git"));
    if !bare.join("HEAD").exists() {
        git(into, &["init", "--quiet", "--bare", "--initial-branch=main", "--", &bare.to_string_lossy()])?;
    }
    // The folder may be part of another repository, whose history is nobody's business here.
    let git_dir = format!("--git-dir={}", bare.display());
    let work_tree = format!("--work-tree={}", folder.display());
    git(&folder, &[&git_dir, &work_tree, "add", "--all", "--", "."])?;
    let unchanged = Command::new("git")
        .args([&git_dir, &work_tree, "diff", "--cached", "--quiet"])
        .current_dir(&folder)
        .status()
        .context("cannot run git")?
        .success();
    let empty = !bare.join("refs").join("heads").join("main").exists() && !bare.join("packed-refs").exists();
    if empty || !unchanged {
        let author = ["-c", "user.name=Berth", "-c", "user.email=berth@localhost"];
        let commit = [&git_dir, &work_tree, "commit", "--quiet", "--message", "Example application"];
        git(&folder, &author.iter().copied().chain(commit.iter().map(|a| *a as &str)).collect::<Vec<_>>())?;
    }
    Ok(format!("{name}.git"))
}

/// The folder's own YAML, with the repository's address.
pub(crate) fn application(folder: &Path, url: &str) -> anyhow::Result<Value> {
    let file = folder.join("app.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut objects = client::parse_manifest(&text)?;
    let Some(application) = objects.iter_mut().find(|object| object["kind"] == "Application") else {
        bail!("{} holds no Application", file.display());
    };
    application["spec"]["source"]["git"]["url"] = json!(url);
    Ok(application.take())
}

/// Waits until an address is answered through this machine's own port, whatever the DNS says of its host.
pub(crate) async fn until_it_answers(url: &str, port: u16, progress: &Progress) -> anyhow::Result<()> {
    /// A container that is started again with its image at hand is probed and routed within seconds.
    const PATIENCE: Duration = Duration::from_mins(2);
    const STEP: Duration = Duration::from_millis(100);
    let url = url::Url::parse(url).context("the example's address")?;
    let host = url.host_str().context("the example's address has no host")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = match tokio::time::timeout(PATIENCE, status(host, port)).await {
            Ok(Ok(status)) if !status.contains(" 404 ") && !status.contains(" 50") => return Ok(()),
            Ok(Ok(status)) => status,
            Ok(Err(error)) => error.to_string(),
            Err(_elapsed) => "there is no answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(fail(Exit::TimedOut, format!("{url} is not answered: {said}")));
        }
        progress.say(format!("waiting until {url} is answered"));
        tokio::time::sleep(STEP).await;
    }
}

/// The first line of the answer.
async fn status(host: &str, port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(line.trim_end().to_owned())
}

fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git").args(arguments).current_dir(folder).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
