//! Whether a runtime of version `20` or `3.11` is one that a source asks for: ranges as npm, Composer and Python write them.

use std::collections::BTreeSet;

use semver::{Comparator, Version, VersionReq};

/// What a source asks for: one of these ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// As it stands in the source.
    pub(super) text: String,
    /// Where it stands.
    pub(super) file: &'static str,
    any_of: Vec<VersionReq>,
}

/// How a range is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// As npm does: `^20 || >=22`.
    Npm,
    /// As Composer does: `^8.1|^8.2`, where `~8.1` allows 8.9.
    Composer,
    /// As Python does: `>=3.10,<3.13`, `~=3.11`, `==3.11.*`.
    Python,
}

impl Wanted {
    /// Reads a range; `None` if it says nothing that is understood.
    pub(super) fn parse(text: &str, file: &'static str, notation: Notation) -> Option<Self> {
        let text = text.trim();
        let parts: Vec<&str> = match notation {
            Notation::Npm => text.split("||").collect(),
            Notation::Composer => text.split('|').filter(|part| !part.trim().is_empty()).collect(),
            Notation::Python => vec![text],
        };
        let any_of: Option<Vec<VersionReq>> = parts.into_iter().map(|part| range(part.trim(), notation)).collect();
        Some(Self { text: text.to_owned(), file, any_of: any_of? }).filter(|wanted| !wanted.any_of.is_empty())
    }

    /// Whether some version that begins with `prefix` (`20`, `3.11`) is in the range.
    pub(super) fn allows(&self, prefix: &str) -> bool {
        let Some((low, high)) = bounds(prefix) else { return false };
        self.any_of.iter().any(|range| {
            // A range is a piece of a line between the versions it names: it meets ours if one of these points does.
            let mut points = BTreeSet::from([low.clone(), high.clone()]);
            for comparator in &range.comparators {
                let named =
                    Version::new(comparator.major, comparator.minor.unwrap_or(0), comparator.patch.unwrap_or(0));
                points.insert(Version::new(named.major, named.minor, named.patch + 1));
                if let Some(below) = named.patch.checked_sub(1) {
                    points.insert(Version::new(named.major, named.minor, below));
                }
                points.insert(named);
            }
            points.into_iter().any(|point| low <= point && point <= high && range.matches(&point))
        })
    }
}

fn bounds(prefix: &str) -> Option<(Version, Version)> {
    let mut numbers = prefix.split('.').map(str::parse::<u64>);
    let major = numbers.next()?.ok()?;
    let (minor, patch) = (numbers.next().transpose().ok()?, numbers.next().transpose().ok()?);
    // No language has come to a thousandth minor version.
    let low = Version::new(major, minor.unwrap_or(0), patch.unwrap_or(0));
    Some((low, Version::new(major, minor.unwrap_or(999), patch.unwrap_or(999))))
}

fn range(text: &str, notation: Notation) -> Option<VersionReq> {
    if text.is_empty() || ["*", "x", "latest", "current", "node", "stable"].contains(&text) {
        return Some(VersionReq::STAR);
    }
    if let Some((from, to)) = text.split_once(" - ") {
        return VersionReq::parse(&format!(">={}, <={}", number(from)?, number(to)?)).ok();
    }
    // `>= 18` and `>=18 <23` mean the same as `>=18, <23`.
    let mut comparators: Vec<Comparator> = Vec::new();
    let mut operator = String::new();
    for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
        let digits = word.find(|c: char| c.is_ascii_digit() || c == 'v').unwrap_or(word.len());
        operator.push_str(&word[..digits]);
        if digits == word.len() {
            continue;
        }
        comparators.extend(comparator(&std::mem::take(&mut operator), &word[digits..], notation)?);
    }
    Some(VersionReq { comparators }).filter(|_| operator.is_empty())
}

/// The comparators of one of them; none for what is only excluded, which leaves the rest of its line.
fn comparator(operator: &str, version: &str, notation: Notation) -> Option<Vec<Comparator>> {
    let read = |text: &str| VersionReq::parse(text).ok().map(|range| range.comparators);
    let version = number(version)?;
    let parts = version.split('.').count();
    let operator = match (notation, operator) {
        (_, "!=") => return Some(Vec::new()),
        // `~8.1` and `~=3.11` let the last number that is written rise, and `~8` any of 8.
        (Notation::Composer, "~") | (Notation::Python, "~=") if parts == 2 => "^",
        (Notation::Python, "~=") => "~",
        (_, "" | "==" | "===") => {
            // A plain version means its whole line: 20 is any 20, 3.11.4 any 3.11 that we have.
            return read(&line(&version));
        }
        // Above 18 begins with 19 where no more numbers are written; the last ones are taken as nines.
        (_, ">") if parts < 3 => {
            return read(&format!(">{version}{}", [".999.999", ".999"][parts - 1]));
        }
        (_, operator @ ("=" | ">" | ">=" | "<" | "<=" | "^" | "~")) => operator,
        _ => return None,
    };
    let version = version.trim_end_matches(".*").to_owned();
    read(&format!("{operator}{version}"))
}

/// `20` and `20.x` are any 20; a full version stands for its minor version, since a runtime has the newest patch.
fn line(version: &str) -> String {
    let version = version.trim_end_matches(".*");
    let kept: Vec<&str> = version.split('.').take(2).collect();
    format!("{}.*", kept.join("."))
}

fn number(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('v');
    let text = text.split(['-', '+', '@']).next()?;
    let parts: Vec<&str> = text.split('.').map(|part| if ["x", "X"].contains(&part) { "*" } else { part }).collect();
    let good = |part: &&str| *part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    ((1..=4).contains(&parts.len()) && parts.iter().all(good)).then(|| parts[..parts.len().min(3)].join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_npm() {
        for (range, yes, no) in [
            ("20.x", &["20"][..], &["18", "22"][..]),
            ("20", &["20"], &["22"]),
            ("v20.11.1", &["20"], &["22"]),
            (">=18", &["18", "20", "24"], &["16"]),
            (">= 18.0.0 < 21", &["18", "20"], &["22"]),
            ("^18 || ^20", &["18", "20"], &["22"]),
            ("18 - 20", &["18", "20"], &["22"]),
            ("~20.11", &["20"], &["22"]),
            (">=20.11.0", &["20", "22"], &["18"]),
            ("<20", &["18"], &["20"]),
            ("*", &["18", "24"], &[]),
            (">18", &["20"], &["18", "16"]),
        ] {
            let wanted = Wanted::parse(range, "package.json", Notation::Npm).expect(range);
            for version in yes {
                assert!(wanted.allows(version), "{range} allows {version}");
            }
            for version in no {
                assert!(!wanted.allows(version), "{range} does not allow {version}");
            }
        }
        for nonsense in ["twenty", "=>18", "20;", "../20"] {
            assert_eq!(Wanted::parse(nonsense, "package.json", Notation::Npm), None, "{nonsense}");
        }
    }

    #[test]
    fn ranges_of_composer_and_python() {
        for (range, notation, yes, no) in [
            ("^8.1", Notation::Composer, &["8.2"][..], &["7.4"][..]),
            ("~8.1", Notation::Composer, &["8.2"], &["9.0"]),
            (">=7.4 <8.2", Notation::Composer, &["7.4"], &["8.2"]),
            ("^7.4|^8.0", Notation::Composer, &["8.2"], &["5.6"]),
            ("8.2.*", Notation::Composer, &["8.2"], &["8.3"]),
            (">=3.10", Notation::Python, &["3.11"], &["3.9"]),
            (">=3.10,<3.12", Notation::Python, &["3.11"], &["3.12"]),
            ("~=3.11", Notation::Python, &["3.11", "3.12"], &["3.10"]),
            ("==3.11.*", Notation::Python, &["3.11"], &["3.12"]),
            ("3.11.4", Notation::Python, &["3.11"], &["3.12"]),
            (">=3.8,!=3.9.1", Notation::Python, &["3.11"], &["3.7"]),
            ("^3.11", Notation::Python, &["3.11"], &["3.10"]),
        ] {
            let wanted = Wanted::parse(range, "composer.json", notation).expect(range);
            for version in yes {
                assert!(wanted.allows(version), "{range} allows {version}");
            }
            for version in no {
                assert!(!wanted.allows(version), "{range} does not allow {version}");
            }
        }
    }
}
