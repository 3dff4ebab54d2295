//! Everything that is written to the terminal passes here: so that a closed pipe ends quietly, and so that lines do not
//! mix with a progress line that is being drawn.

use std::io::{ErrorKind, Write};
use std::process::exit;
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;
use serde_json::Value;

use crate::args::Output;

/// The progress line that is on the terminal now.
static ACTIVE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Says which progress line is on the terminal, or that there is none any more.
pub(crate) fn set_progress(bar: Option<ProgressBar>) {
    *ACTIVE.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

fn beside_progress(write: impl FnOnce()) {
    let active = ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match active {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes bytes to standard output as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    beside_progress(|| {
        let mut out = anstream::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read us has gone, as in `berth get app | head -1`: there is nobody to tell.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => exit(0),
            Err(error) => {
                error_line(&format!("berth: cannot write the answer: {error}"));
                exit(1);
            }
        }
    });
}

/// Writes text to standard output as it is.
pub(crate) fn text(text: &str) {
    bytes(text.as_bytes());
}

/// Writes a line to standard output.
pub(crate) fn line(line: &str) {
    text(&format!("{line}\n"));
}

/// Writes a line for the person, not for the script: to standard error.
pub(crate) fn note(line: &str) {
    beside_progress(|| error_line(line));
}

fn error_line(line: &str) {
    // Nobody can be told that nobody listens.
    drop(writeln!(anstream::stderr().lock(), "{line}"));
}

/// Writes one JSON or YAML document.
pub(crate) fn document(document: &Value, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Yaml => text(&serde_saphyr::to_string(document)?),
        _ => line(&serde_json::to_string_pretty(document)?),
    }
    Ok(())
}
