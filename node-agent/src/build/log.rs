//! What a build's log keeps of what programs print: lines that are safe to show, without secrets, and not without end.

use std::collections::BTreeSet;

use crate::build_log::LOG_BYTES_MAX;
use crate::machine::LogSink;

/// The longest line; what stands behind is cut off.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Shorter texts are no secrets worth the name, and masking them would garble everything.
const SECRET_BYTES_MIN: usize = 4;
/// How many of the last lines are remembered to find out what went wrong.
const REMEMBERED_LINES: usize = 200;

/// A log being written.
pub(super) struct Log {
    sink: LogSink,
    secrets: Vec<String>,
    pending: Vec<u8>,
    /// A carriage return came: what comes next replaces the line, unless it ends it.
    returned: bool,
    bytes: u64,
    lines: i64,
    last: std::collections::VecDeque<(i64, String)>,
}

impl Log {
    /// A log that masks these texts.
    pub(super) fn new(sink: LogSink, secrets: &[&str]) -> Self {
        let mut all = BTreeSet::new();
        // A key has lines; git and ssh may print any of them.
        for secret in secrets.iter().flat_map(|secret| secret.lines().chain([*secret])) {
            all.insert(secret.trim().to_owned());
            all.insert(url::form_urlencoded::byte_serialize(secret.trim().as_bytes()).collect());
        }
        let mut secrets: Vec<String> = all.into_iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN).collect();
        // The longest first: a secret that contains another is masked whole.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self {
            sink,
            secrets,
            pending: Vec::new(),
            returned: false,
            bytes: 0,
            lines: 0,
            last: std::collections::VecDeque::new(),
        }
    }

    /// A sentence of ours.
    pub(super) fn say(&mut self, text: &str) {
        self.flush();
        self.line(&format!("[berth] {text}"));
    }

    /// What a program printed. As on a terminal, what follows a carriage return replaces the line: of a progress bar
    /// the last state stays.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            if !text.is_empty() && std::mem::take(&mut self.returned) {
                self.pending.clear();
            }
            // What is cut off of a line that is too long is not even kept until its end.
            let room = LINE_BYTES_MAX.saturating_sub(self.pending.len());
            self.pending.extend_from_slice(&text[..text.len().min(room)]);
            match end {
                Some(b'\n') => self.end_line(),
                Some(_) => self.returned = true,
                None => {}
            }
        }
    }

    /// Ends a line that was begun.
    pub(super) fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.end_line();
        }
    }

    /// The last line that a test is true of, with its number.
    pub(super) fn find(&self, test: impl Fn(&str) -> bool) -> Option<(i64, &str)> {
        self.last.iter().rev().find(|(_, line)| test(line)).map(|(number, line)| (*number, line.as_str()))
    }

    /// The number of the last line that says something.
    pub(super) fn last_line(&self) -> Option<i64> {
        self.find(|line| !line.trim().is_empty()).map(|(number, _)| number)
    }

    fn end_line(&mut self) {
        let text = clean(&String::from_utf8_lossy(&self.pending));
        self.pending.clear();
        self.returned = false;
        if !is_noise(&text) {
            self.line(&text);
        }
    }

    fn line(&mut self, text: &str) {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "***");
            }
        }
        self.lines += 1;
        self.last.push_back((self.lines, text.clone()));
        if self.last.len() > REMEMBERED_LINES {
            self.last.pop_front();
        }
        if self.bytes >= LOG_BYTES_MAX {
            return;
        }
        text.push('\n');
        self.bytes += text.len() as u64;
        (self.sink)(&text);
        if self.bytes >= LOG_BYTES_MAX {
            (self.sink)("[berth] the log is full: what follows is not kept\n");
        }
    }
}

/// What Docker's builder says of its own containers helps nobody who reads the log of a build.
fn is_noise(line: &str) -> bool {
    line.starts_with(" ---> ") || line.starts_with("Removing intermediate container ")
}

/// A line without what would move a terminal's cursor, colour its text or set its title.
fn clean(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a letter or one of a few signs.
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // A title or a link ends with a bell or another escape.
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\t' => text.push(c),
            // Signs that turn the direction of writing make a text read as something else than it is.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn logged(secrets: &[&str], pieces: &[&[u8]]) -> String {
        let text = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&text);
        let mut log = Log::new(Arc::new(move |piece: &str| sink.lock().unwrap().push_str(piece)), secrets);
        for piece in pieces {
            log.write(piece);
        }
        log.flush();
        text.lock().unwrap().clone()
    }

    #[test]
    fn what_would_play_with_a_terminal_is_left_out() {
        let text = logged(
            &[],
            &[b"\x1b[31mred\x1b[0m \x1b]0;title\x07plain\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x08\x00\tend\n"],
        );
        assert_eq!(text, "red plainlink\tend\n");
        assert_eq!(logged(&[], &["a\u{202e}b\n".as_bytes()]), "ab\n");
        assert_eq!(logged(&[], &[b"\xff\xfe\n"]), "\u{fffd}\u{fffd}\n");
    }

    #[test]
    fn secrets_are_masked_wherever_a_piece_ends() {
        let text = logged(&["hunter2", "p@ss/word"], &[b"token=hun", b"ter2 and p%40ss%2Fword\n", b"p@ss/word"]);
        assert_eq!(text, "token=*** and ***\n***\n");
        let key = "-----BEGIN KEY-----\nabcdefgh\n-----END KEY-----";
        assert_eq!(logged(&[key], &[b"line abcdefgh\n"]), "line ***\n");
    }

    #[test]
    fn progress_bars_are_lines_and_long_lines_are_cut() {
        assert_eq!(logged(&[], &[b"10%\r20%\r", b"\ndone\n\nlast\r"]), "20%\ndone\n\nlast\n");
        let long = "x".repeat(40_000);
        let text = logged(&[], &[long.as_bytes(), b"\nnext\n"]);
        assert_eq!(text, format!("{}\nnext\n", "x".repeat(LINE_BYTES_MAX)));
    }

    #[test]
    fn a_log_without_end_ends() {
        let lines = "y".repeat(8000) + "\n";
        let many = lines.repeat(9000);
        let text = logged(&[], &[many.as_bytes()]);
        assert!(text.len() < 65 << 20, "{}", text.len());
        assert!(text.ends_with("not kept\n"));
    }
}
