//! The PostgreSQL of the tests: one cluster for all, a database each.

use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres");

/// A database of one test, which ends with it.
pub(super) struct Database {
    url: String,
}

impl Database {
    pub(super) fn new() -> Self {
        Self { url: script(&["create"]) }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// The folder of the cluster's socket.
    pub(super) fn socket_folder(&self) -> &str {
        self.url.split_once("?host=").expect("the tests' cluster listens on a socket").1
    }

    /// Runs a statement and returns what it prints, without decoration.
    pub(super) fn query(&self, sql: &str) -> String {
        let mut psql = Command::new("psql");
        output(psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql, &self.url]))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Panicking in a drop would hide why a test failed.
        let dropped = Command::new(SCRIPT).args(["drop", &self.url]).output();
        if !dropped.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("the database {} is left: {dropped:?}", self.url);
        }
    }
}

fn script(arguments: &[&str]) -> String {
    output(Command::new(SCRIPT).args(arguments))
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it can be run: scripts/setup --for test");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
