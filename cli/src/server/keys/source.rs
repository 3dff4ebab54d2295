//! Where a server has its master keys from: a file, the environment, or a program that asks somebody.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use apiserver::store::MasterKey;
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::args;
use crate::failure::{Exit, fail};
use crate::up::write_private;

/// The keys themselves may be here, since arguments are no secret.
const VARIABLE: &str = "BERTH_MASTER_KEY";
/// In the data folder, where nothing else is said.
const FILE: &str = "master.key";
/// Some dozen keys with comments.
const BYTES_MAX: u64 = 64 << 10;
/// How long a program may take: a service that is asked over the network answers within seconds.
const COMMAND_MAX: Duration = Duration::from_secs(30);
const HEAD: &str = "# The master keys of a Berth server, the one in use first. Whoever has them and the database has all Secrets;\n\
    # without them nobody has. Keep a copy elsewhere.\n";

/// Where the keys are.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file, one key a line. If it is the default one, it is made for a new store.
    File { path: PathBuf, may_be_made: bool },
    /// An environment variable.
    Variable,
    /// What a program prints.
    Command(PathBuf),
}

impl Source {
    /// What was asked for, or else the file in the data folder.
    pub(crate) fn choose(options: &args::MasterKey, data: &Path) -> Self {
        if let Some(command) = &options.master_key_command {
            Self::Command(command.clone())
        } else if let Some(path) = &options.master_key_file {
            Self::File { path: path.clone(), may_be_made: false }
        } else if std::env::var_os(VARIABLE).is_some() {
            Self::Variable
        } else {
            Self::File { path: data.join(FILE), may_be_made: true }
        }
    }

    /// The keys for a store that is sealed with those of these ids; for a new one there are none.
    pub(crate) async fn keys(&self, known: &[String]) -> anyhow::Result<Vec<MasterKey>> {
        if let Self::File { path, may_be_made: true } = self
            && !path.exists()
        {
            if let Some(id) = known.first() {
                return Err(fail(
                    Exit::Failed,
                    format!(
                        "the store is sealed with the master key {id}, and there is no {}: bring the file back, or say with \
                         --master-key-file, ${VARIABLE} or --master-key-command where the key is",
                        path.display()
                    ),
                ));
            }
            let key = MasterKey::generate()?;
            write(path, &[key])?;
            tracing::info!(file = %path.display(), "a master key was made: keep a copy of it elsewhere");
        }
        self.read().await
    }

    /// The keys that are there now.
    #[expect(
        clippy::disallowed_methods,
        reason = "a secret is no argument, so it has no option in cli/src/args.rs either"
    )]
    pub(crate) async fn read(&self) -> anyhow::Result<Vec<MasterKey>> {
        let (place, text) = match self {
            Self::File { path, .. } => (path.display().to_string(), read_file(path)?),
            Self::Variable => (format!("${VARIABLE}"), Zeroizing::new(std::env::var(VARIABLE).unwrap_or_default())),
            Self::Command(program) => (program.display().to_string(), ask(program).await?),
        };
        MasterKey::parse_all(&text).with_context(|| format!("{place} holds no master keys"))
    }

    /// Since when a file is as it is.
    pub(crate) fn changed(&self) -> Option<SystemTime> {
        match self {
            Self::File { path, .. } => std::fs::metadata(path).ok()?.modified().ok(),
            Self::Variable | Self::Command(_) => None,
        }
    }
}

/// The keys of a file.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<Vec<MasterKey>> {
    MasterKey::parse_all(&read_file(path)?).with_context(|| format!("{} holds no master keys", path.display()))
}

/// Replaces a file by one with these keys.
pub(crate) fn write(path: &Path, keys: &[MasterKey]) -> anyhow::Result<()> {
    let mut text = Zeroizing::new(HEAD.to_owned());
    for key in keys {
        text.push_str(&key.to_text());
        text.push('\n');
    }
    write_private(path, text.as_bytes())
}

fn read_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let found = std::fs::metadata(path).with_context(|| format!("cannot read the master key in {}", path.display()))?;
    if found.permissions().mode() & 0o007 != 0 {
        let message = format!("everybody on this machine may read {}: chmod 600 it", path.display());
        return Err(fail(Exit::Failed, message));
    }
    anyhow::ensure!(found.len() <= BYTES_MAX, "{} is too large for a file of master keys", path.display());
    let text = std::fs::read_to_string(path);
    Ok(Zeroizing::new(text.with_context(|| format!("cannot read the master key in {}", path.display()))?))
}

/// Runs a program, without arguments and input. What it says on its standard error is for whoever starts the server.
async fn ask(program: &Path) -> anyhow::Result<Zeroizing<String>> {
    let shown = program.display();
    let asking = async {
        let mut command = tokio::process::Command::new(program);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
        let output = child.stdout.take().context("its output")?;
        let mut text = Zeroizing::new(String::new());
        output.take(BYTES_MAX).read_to_string(&mut text).await.with_context(|| format!("{shown} printed no text"))?;
        let status = child.wait().await.with_context(|| format!("cannot wait for {shown}"))?;
        anyhow::ensure!(status.success(), "{shown} ended with {status}");
        Ok(text)
    };
    let answer = tokio::time::timeout(COMMAND_MAX, asking).await;
    answer.with_context(|| format!("{shown} did not end within {} s", COMMAND_MAX.as_secs()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path, text: &str) -> Source {
        let path = folder.join("key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Source::Command(path)
    }

    #[tokio::test]
    async fn a_program_is_asked_and_its_failure_is_told_without_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::generate().unwrap();
        let good = script(folder.path(), &format!("#!/bin/sh\necho '{}'\n", *key.to_text()));
        assert_eq!(good.read().await.unwrap()[0].id(), key.id());
        for (text, expected) in [
            ("#!/bin/sh\necho hunter2\n", "holds no master keys"),
            ("#!/bin/sh\necho hunter2\nexit 3\n", "ended with exit status: 3"),
        ] {
            let error = format!("{:#}", script(folder.path(), text).read().await.unwrap_err());
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let missing = Source::Command(folder.path().join("none"));
        assert!(format!("{:#}", missing.read().await.unwrap_err()).contains("cannot run"));
    }

    #[tokio::test]
    async fn the_default_file_is_made_for_a_new_store_only() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::choose(&args::MasterKey::default(), folder.path());
        let refused = source.keys(&["00aa".to_owned()]).await.unwrap_err().to_string();
        assert!(refused.starts_with("the store is sealed with the master key 00aa, and there is no "), "{refused}");
        let made = source.keys(&[]).await.unwrap();
        assert_eq!(source.keys(&[]).await.unwrap()[0].id(), made[0].id());
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert!(source.read().await.unwrap_err().to_string().contains("chmod 600"));
        let chosen = args::MasterKey { master_key_file: Some(folder.path().join("other")), ..Default::default() };
        assert!(Source::choose(&chosen, folder.path()).keys(&[]).await.is_err(), "a file that was named is not made");
    }
}
