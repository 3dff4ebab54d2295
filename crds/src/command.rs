//! Commands that customers write: how a text becomes the argument list of a process in *their* container.
//!
//! Nothing here runs on a host. A plain command is split into words as a shell would; one that uses a shell's
//! features is handed to the container's own `/bin/sh`.

/// The longest command, in bytes.
pub const LENGTH_MAX: usize = 4096;

/// The argument list for a command, or `None` when it is empty, too long, has control characters or an open quote.
pub fn argv(command: &str) -> Option<Vec<String>> {
    let command = command.trim();
    if command.is_empty() || command.len() > LENGTH_MAX || command.chars().any(char::is_control) {
        return None;
    }
    if command.contains(['$', '`', '|', '&', ';', '<', '>', '(', ')', '*', '?', '~', '#'])
        || starts_with_assignment(command)
    {
        return words(command).map(|_| vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()]);
    }
    words(command)
}

/// `NAME=value program` sets a variable in a shell and is an unknown program without one.
fn starts_with_assignment(command: &str) -> bool {
    let first = command.split_whitespace().next().unwrap_or_default();
    first.split_once('=').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().push(characters.next()?),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_plain_commands_and_leaves_the_rest_to_the_containers_shell() {
        let check = |command: &str, expected: &[&str]| {
            assert_eq!(argv(command).unwrap(), expected, "{command}");
        };
        check("node server.js", &["node", "server.js"]);
        check(r#"python -c "print(1)" 'a b' c\ d"#, &["/bin/sh", "-c", r#"python -c "print(1)" 'a b' c\ d"#]);
        check("run '' \"a b\"", &["run", "", "a b"]);
        check("gunicorn app:app --bind 0.0.0.0:$PORT", &["/bin/sh", "-c", "gunicorn app:app --bind 0.0.0.0:$PORT"]);
        check("PORT=1 ./server", &["/bin/sh", "-c", "PORT=1 ./server"]);
        for bad in ["", "  ", "echo 'a", "a\nb", "a\0", &"x".repeat(LENGTH_MAX + 1)] {
            assert_eq!(argv(bad), None, "{bad:?}");
        }
    }
}
