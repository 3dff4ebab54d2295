//! Where a password comes from: a file, standard input, or the person at the terminal. Never an argument or a variable, which
//! other processes see.

use std::io::{IsTerminal, Read};
use std::path::Path;

use anyhow::Context;

use crate::failure::{Exit, fail};

/// Longer ones are refused by the server; this only bounds what is read.
const BYTES_MAX: u64 = 4_096;

/// The password from a file (`-` is standard input), or asked for.
pub(super) fn read(file: Option<&Path>, prompt: &str) -> anyhow::Result<String> {
    match file {
        Some(file) if file == Path::new("-") => {
            first_line(std::io::stdin().lock()).context("cannot read standard input")
        }
        Some(file) => {
            let opened = std::fs::File::open(file).map_err(|error| {
                fail(Exit::Usage, format!("cannot read the password file {}: {error}", file.display()))
            })?;
            first_line(opened).with_context(|| format!("cannot read {}", file.display()))
        }
        None => ask(prompt),
    }
}

/// A new password: asked for twice.
pub(super) fn read_new(file: Option<&Path>, whose: &str) -> anyhow::Result<String> {
    if file.is_some() {
        return read(file, "");
    }
    let first = ask(&format!("New password of {whose}: "))?;
    if ask("Again: ")? == first { Ok(first) } else { Err(fail(Exit::Usage, "these are two different passwords")) }
}

/// Asks without showing what is typed.
fn ask(prompt: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(fail(
            Exit::Usage,
            "there is nobody to ask for a password: give --password-file FILE, or - for standard input",
        ));
    }
    rpassword::prompt_password(prompt).context("cannot ask for a password")
}

fn first_line(from: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    from.take(BYTES_MAX).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    if line.is_empty() { Err(fail(Exit::Usage, "there is no password in the first line")) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        let read = |text: &str| first_line(text.as_bytes()).ok();
        assert_eq!(read("correct horse \r\nnext\n").as_deref(), Some("correct horse "));
        assert_eq!(read("x").as_deref(), Some("x"));
        assert_eq!(read("\nx"), None);
        assert_eq!(read(""), None);
    }
}
