//! The PostgreSQL of tests and benchmarks: one cluster for all, a database for each.

use anyhow::bail;

use crate::root;

/// A new database, which ends with this value.
#[derive(Debug)]
pub struct Postgres {
    url: String,
}

impl Postgres {
    /// Makes one, and the cluster if there is none.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { url: script(&["create"])? })
    }

    /// The address for `--database-url`; there is no password in it.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = script(&["drop", &self.url]) {
            eprintln!("a database is left behind: {error:#}");
        }
    }
}

/// Runs `scripts/postgres`.
fn script(arguments: &[&str]) -> anyhow::Result<String> {
    let output = std::process::Command::new(root().join("scripts/postgres")).args(arguments).output()?;
    if !output.status.success() {
        bail!("scripts/postgres {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
