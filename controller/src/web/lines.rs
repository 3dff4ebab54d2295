//! Pieces of several logs as one text of whole lines, each with the name of its instance: pure.

/// A line that is longer is passed on in parts, so that one without an end is not gathered without end.
const LINE_BYTES_MAX: usize = 16 << 10;

/// One instance's part of the text.
pub(super) struct Lines {
    /// What stands before each line; nothing if there is only one instance.
    prefix: Option<String>,
    rest: String,
}

impl Lines {
    pub(super) fn new(prefix: Option<String>) -> Self {
        Self { prefix, rest: String::new() }
    }

    /// Adds a piece and returns what can be shown.
    pub(super) fn add(&mut self, text: &str) -> String {
        let Some(prefix) = &self.prefix else {
            return text.to_owned();
        };
        let mut shown = String::with_capacity(text.len() + prefix.len() * 4);
        self.rest.push_str(text);
        let mut from = 0;
        while let Some(length) = line(&self.rest[from..]) {
            let part = &self.rest[from..from + length];
            shown.push_str(prefix);
            shown.push_str(part);
            if !part.ends_with('\n') {
                shown.push('\n');
            }
            from += length;
        }
        self.rest.drain(..from);
        shown
    }

    /// What is left when there is no more, with a line end.
    pub(super) fn end(&mut self) -> String {
        let rest = std::mem::take(&mut self.rest);
        match &self.prefix {
            Some(prefix) if !rest.is_empty() => format!("{prefix}{rest}\n"),
            _ => String::new(),
        }
    }

    /// A remark of Berth's own, on a line of its own.
    pub(super) fn remark(&mut self, text: &str) -> String {
        let mut shown = self.end();
        shown.push_str(self.prefix.as_deref().unwrap_or_default());
        shown.push_str("--- ");
        shown.push_str(text);
        shown.push('\n');
        shown
    }
}

/// The length of the first line with its end, or of a part of one that is too long.
fn line(text: &str) -> Option<usize> {
    match text.find('\n') {
        Some(end) if end < LINE_BYTES_MAX => Some(end + 1),
        _ if text.len() >= LINE_BYTES_MAX => Some(text.floor_char_boundary(LINE_BYTES_MAX)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines() {
        let mut lines = Lines::new(Some("[a] ".to_owned()));
        assert_eq!(lines.add("one\ntw"), "[a] one\n");
        assert_eq!(lines.add("o\n\nthree"), "[a] two\n[a] \n");
        assert_eq!(lines.remark("5 bytes are missing"), "[a] three\n[a] --- 5 bytes are missing\n");
        assert_eq!(lines.end(), "");
    }

    #[test]
    fn a_line_without_an_end_is_passed_on_in_parts() {
        let mut lines = Lines::new(Some("[a] ".to_owned()));
        let shown = lines.add(&"é".repeat(LINE_BYTES_MAX));
        assert_eq!(shown.len(), 2 * (LINE_BYTES_MAX + "[a] \n".len()));
    }

    #[test]
    fn a_single_log_is_passed_on_as_it_is() {
        let mut lines = Lines::new(None);
        assert_eq!((lines.add("a\nb"), lines.end()), ("a\nb".to_owned(), String::new()));
    }
}
