//! `.dockerignore`: which files of a folder a customer's Dockerfile is not to see.

/// The patterns of a file, in order: the last one that fits decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ignore(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    parts: Vec<String>,
    keeps: bool,
}

/// More patterns than anybody writes; each is held against each file.
const PATTERNS_MAX: usize = 500;

impl Ignore {
    /// Reads patterns.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let pattern = |line: &str| {
            let (keeps, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim_start()));
            let parts = line.split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect();
            Pattern { parts, keeps }
        };
        Self(lines.map(pattern).filter(|pattern| !pattern.parts.is_empty()).take(PATTERNS_MAX).collect())
    }

    /// Whether a file is left out.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |pattern: &Pattern| {
            let pattern: Vec<&str> = pattern.parts.iter().map(String::as_str).collect();
            // A pattern that fits a folder fits all that is in it.
            (1..=parts.len()).any(|length| path_fits(&pattern, &parts[..length]))
        };
        self.0.iter().rfind(|pattern| fits(pattern)).is_some_and(|pattern| !pattern.keeps)
    }
}

fn path_fits(pattern: &[&str], path: &[&str]) -> bool {
    // One row of a table a part of the pattern: `row[n]` says whether the pattern so far fits the first n parts.
    let mut row = vec![false; path.len() + 1];
    row[0] = true;
    for part in pattern {
        let mut next = vec![false; path.len() + 1];
        for index in 0..=path.len() {
            next[index] = if *part == "**" {
                row[index] || (index > 0 && next[index - 1])
            } else {
                index > 0 && row[index - 1] && part_fits(part.as_bytes(), path[index - 1].as_bytes())
            };
        }
        row = next;
    }
    row[path.len()]
}

/// `*` is any text, `?` any byte, `[a-z]` one of a set, `\x` an x. Goes back to the last star only, so it is quick.
fn part_fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match one(pattern, p, text[t]) {
            _ if pattern.get(p) == Some(&b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(width) => {
                p += width;
                t += 1;
            }
            None => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of the pattern fit one byte of text, if any do.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(1),
        b'\\' => (pattern.get(at + 1) == Some(&byte)).then_some(2),
        b'[' => {
            let end = pattern[at..].iter().position(|b| *b == b']').filter(|end| *end > 1)?;
            let set = &pattern[at + 1..at + end];
            let (not, set) = match set.strip_prefix(b"^") {
                Some(rest) => (true, rest),
                None => (false, set),
            };
            let (mut inside, mut index) = (false, 0);
            while index < set.len() {
                let range = set.get(index + 1) == Some(&b'-') && index + 2 < set.len();
                let last = if range { set[index + 2] } else { set[index] };
                inside |= (set[index]..=last).contains(&byte);
                index += if range { 3 } else { 1 };
            }
            (inside != not).then_some(end + 1)
        }
        b'*' => None,
        plain => (plain == byte).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_docker_says() {
        for (patterns, out, kept) in [
            (
                "node_modules",
                &["node_modules", "node_modules/a/b.js"][..],
                &["src/node_modules/a", "node_modules2"][..],
            ),
            ("**/node_modules", &["node_modules/a", "a/b/node_modules/c"], &["a/b"]),
            ("*.md\n!README.md", &["a.md"], &["README.md", "docs/a.md"]),
            ("/dist/", &["dist/x"], &["a/dist/x"]),
            ("a/*/c", &["a/b/c", "a/b/c/d"], &["a/c", "a/b/b/c"]),
            ("# x\n\n  *.l?g ", &["a.log"], &["a.lg"]),
            ("[a-c]*", &["bus"], &["dog"]),
            ("**/*.py[co]", &["a/b.pyc", "c.pyo"], &["b.py"]),
            ("*\n!src", &["a", "b/c"], &["src/x"]),
            ("a**b", &["axb"], &["xb"]),
        ] {
            let ignore = Ignore::parse(patterns);
            for path in out {
                assert!(ignore.leaves_out(path), "{patterns:?} leaves out {path}");
            }
            for path in kept {
                assert!(!ignore.leaves_out(path), "{patterns:?} keeps {path}");
            }
        }
    }

    #[test]
    fn hostile_patterns_cost_little() {
        let ignore = Ignore::parse(&format!("{}b", "*a".repeat(1000)));
        assert!(!ignore.leaves_out(&"a".repeat(4000)));
        let ignore = Ignore::parse(&"**/*/".repeat(300));
        assert!(!ignore.leaves_out(&"a/".repeat(100)));
    }
}
