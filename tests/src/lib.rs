//! A whole Berth for tests: the real program with real Docker, Nginx, Git and kubectl, in a folder of its own.
//!
//! Nothing here looks inside: it does what a person would do, with the programs that a person would use.
#![expect(clippy::disallowed_methods, reason = "tests take their settings from the environment and start plain tasks")]
#![expect(clippy::print_stderr, reason = "a leak on the machine must be seen even though the test has passed")]
#![expect(clippy::panic, reason = "a test helper fails the test that uses it")]

mod dice;
mod kubectl;
mod load;
mod platform;
mod ports;
mod postgres;
mod repository;
mod server;
mod tool;
mod traces;
mod wait;

pub use dice::Dice;
pub use load::{Load, Report};
pub use platform::{Platform, Program};
pub use ports::{free_port, free_ports};
pub use postgres::Postgres;
pub use repository::{Repositories, examples};
pub use server::{Database, Server};
pub use tool::Tool;
pub use wait::{until, within};

use std::path::PathBuf;

/// The root of the checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the checkout is there while it is tested")
}

/// A setting that `scripts/test` makes. A test that needs it and does not have it fails: it must not pass unseen.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
}

/// The `berth` program that was built beside this test.
pub fn berth() -> PathBuf {
    let here = std::env::current_exe().expect("a running test has a file");
    let folder = here.ancestors().find(|folder| folder.join("berth").is_file());
    folder.unwrap_or_else(|| panic!("berth is not built: run the tests with `make test`")).join("berth")
}
