//! The project's own chores, run as `cargo xtask NAME`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore speaks to the person who runs it")]

mod check;
mod generate;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let task = std::env::args().nth(1);
    let result = match task.as_deref() {
        Some("check") => check::run(&root),
        Some("generate") => generate::run(&root),
        _ => Err(anyhow::anyhow!(
            "usage: cargo xtask check      the boundaries of ARCHITECTURE.md\n       cargo xtask generate   writes what is generated: crds/*.yaml"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
