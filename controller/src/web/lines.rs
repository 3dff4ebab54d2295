//! Pieces of several logs as one text of whole lines, each with the name of its instance: pure.

/// A line that is longer is passed on in parts, so that one without an end is not gathered without end.
const LINE_BYTES_MAX: usize = 16 << 10;

/// One instance's part of the text. Bytes, because a program writes what it likes.
pub(super) struct Lines {
    /// What stands before each line; nothing if there is only one instance.
    prefix: Option<String>,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn new(prefix: Option<String>) -> Self {
        Self { prefix, rest: Vec::new() }
    }

    /// Adds a piece and returns what can be shown.
    pub(super) fn add(&mut self, text: &[u8]) -> Vec<u8> {
        let Some(prefix) = &self.prefix else {
            return text.to_vec();
        };
        let mut shown = Vec::with_capacity(text.len() + prefix.len() * 4);
        self.rest.extend_from_slice(text);
        let mut from = 0;
        while let Some(length) = line(&self.rest[from..]) {
            let part = &self.rest[from..from + length];
            shown.extend_from_slice(prefix.as_bytes());
            shown.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                shown.push(b'\n');
            }
            from += length;
        }
        self.rest.drain(..from);
        shown
    }

    /// What is left when there is no more, with a line end.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        match &self.prefix {
            Some(prefix) if !rest.is_empty() => [prefix.as_bytes(), &rest, b"\n"].concat(),
            _ => Vec::new(),
        }
    }

    /// A remark of Berth's own, on a line of its own.
    pub(super) fn remark(&mut self, text: &str) -> Vec<u8> {
        let mut shown = self.end();
        let prefix = self.prefix.as_deref().unwrap_or_default();
        shown.extend_from_slice(format!("{prefix}--- {text}\n").as_bytes());
        shown
    }
}

/// The length of the first line with its end, or of a part of one that is too long.
fn line(text: &[u8]) -> Option<usize> {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) if end < LINE_BYTES_MAX => Some(end + 1),
        _ if text.len() >= LINE_BYTES_MAX => {
            // Not in the middle of a character: its further bytes begin with 10, and there are three at most.
            let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
            Some((LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(|at| !inside(*at)).unwrap_or(LINE_BYTES_MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::new(Some("[a] ".to_owned()));
        assert_eq!(lines.add(b"one\ntw"), b"[a] one\n");
        assert_eq!(lines.add(b"o\n\nthr\xffee"), b"[a] two\n[a] \n");
        assert_eq!(lines.remark("the log ends here"), b"[a] thr\xffee\n[a] --- the log ends here\n");
        assert_eq!(lines.end(), b"");
    }

    #[test]
    fn a_line_without_an_end_is_passed_on_in_parts() {
        let mut lines = Lines::new(Some("[a] ".to_owned()));
        let shown = lines.add("é".repeat(LINE_BYTES_MAX).as_bytes());
        assert_eq!(shown.len(), 2 * (LINE_BYTES_MAX + "[a] \n".len()));
    }

    #[test]
    fn a_single_log_is_passed_on_as_it_is() {
        let mut lines = Lines::new(None);
        assert_eq!((lines.add(b"a\nb"), lines.end()), (b"a\nb".to_vec(), Vec::new()));
    }
}
