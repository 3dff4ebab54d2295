//! The PostgreSQL of the tests: one cluster for all, a database each.

use std::process::Command;

/// The address of the cluster: `BERTH_POSTGRES`, or that of the one that `scripts/postgres` keeps.
fn address() -> String {
    #[expect(clippy::disallowed_methods, reason = "the tests' settings come in through the environment")]
    if let Ok(address) = std::env::var("BERTH_POSTGRES") {
        return address;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/postgres");
    let output = Command::new(script).arg("ensure").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim().strip_prefix("BERTH_POSTGRES=").expect("it prints its address").to_owned()
}

/// A database of one test, which ends with it.
pub(super) struct Database {
    cluster: String,
    name: String,
}

impl Database {
    pub(super) fn new() -> Self {
        let database = Self { cluster: address(), name: format!("berth_{}", uuid::Uuid::new_v4().simple()) };
        query(&database.cluster, &format!("CREATE DATABASE {}", database.name));
        database
    }

    pub(super) fn url(&self) -> String {
        self.cluster.replacen("/postgres?", &format!("/{}?", self.name), 1)
    }

    /// The folder of the cluster's socket.
    pub(super) fn socket_folder(&self) -> &str {
        self.cluster.split_once("?host=").expect("the tests' cluster listens on a socket").1
    }

    /// Runs a statement and returns what it prints, without decoration.
    pub(super) fn query(&self, sql: &str) -> String {
        query(&self.url(), sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        query(&self.cluster, &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

fn query(url: &str, sql: &str) -> String {
    let mut psql = Command::new("psql");
    let output = psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql, url]).output();
    let output = output.expect("psql is installed: scripts/setup --for test");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
