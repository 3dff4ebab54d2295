//! The example application: a folder becomes a Git repository, and its YAML names it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::client;

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

fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("git").args(arguments).current_dir(folder).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
