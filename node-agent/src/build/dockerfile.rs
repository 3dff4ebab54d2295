//! Reading a Dockerfile, and taking it apart into its stages.
//!
//! Each stage is built by itself, and what it takes from another one is put into its context as files. Docker's first
//! builder, the one that keeps to limits of memory and to a network of the build's own, cannot copy between stages where
//! the daemon maps users; and a stage that nothing needs is not built.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::json;

use super::context::SOURCE;
use super::failure::Failure;

/// One instruction, with continued lines joined.
pub(super) struct Instruction {
    pub(super) line: usize,
    pub(super) last_line: usize,
    pub(super) name: String,
    pub(super) flags: Vec<String>,
    pub(super) rest: String,
}

pub(super) fn refused(line: usize, what: &str) -> Failure {
    Failure::new("DockerfileRefused", format!("line {line} of the Dockerfile: {what}"))
}

/// Puts in the values of arguments: `$NAME`, `${NAME}`, `${NAME:-value}`.
pub(super) fn expand(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        let (name, default, after) = if let Some(inside) = behind.strip_prefix('{') {
            let (inside, after) = inside.split_once('}')?;
            let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, value)| (name, Some(value)));
            (name, default, after)
        } else {
            let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
            (&behind[..end], None, &behind[end..])
        };
        let value = values.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default)?;
        expanded.push_str(value);
        rest = after;
    }
    expanded.push_str(rest);
    Some(expanded).filter(|text| !text.is_empty() && !text.contains('$'))
}

impl Instruction {
    /// The instruction on one line.
    pub(super) fn text(&self) -> String {
        let words = [self.name.as_str()].into_iter().chain(self.flags.iter().map(String::as_str));
        words.chain([self.rest.as_str()]).collect::<Vec<_>>().join(" ")
    }

    /// What stands behind COPY and ADD, a list or words: what is copied, and last where to.
    pub(super) fn words(&self) -> Vec<String> {
        let list: Option<Vec<String>> = serde_json::from_str(&self.rest).ok();
        list.unwrap_or_else(|| self.rest.split_whitespace().map(str::to_owned).collect())
    }

    /// What is copied, and where to.
    fn copied(&self) -> Result<(Vec<String>, String), Failure> {
        let mut paths = self.words();
        match paths.pop() {
            Some(target) if !paths.is_empty() => Ok((paths, target)),
            _ => Err(refused(self.line, &format!("{} needs what to copy and where to", self.name))),
        }
    }
}

/// A COPY or ADD from the context as Docker is to read it: out of the folder that the source is in, whatever it names.
pub(super) fn of_source(instruction: &Instruction) -> Result<String, Failure> {
    let (paths, target) = instruction.copied()?;
    let mut list = Vec::new();
    for path in paths {
        let mut parts = Vec::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part != ".." {
                parts.push(part);
            } else if parts.pop().is_none() {
                return Err(refused(instruction.line, &format!("{path} leads up")));
            }
        }
        list.push(format!("{SOURCE}{}", parts.join("/")));
    }
    list.push(target);
    Ok(written(&instruction.name, instruction.flags.iter().map(String::as_str), &list))
}

/// An instruction with a list, which is read in one way only.
fn written<'a>(name: &'a str, flags: impl Iterator<Item = &'a str>, list: &[String]) -> String {
    let words: Vec<&str> = [name].into_iter().chain(flags).collect();
    format!("{} {}", words.join(" "), json!(list))
}

/// Reads a Dockerfile as Docker's parser does: the escape character, and the instructions.
pub(super) fn read(text: &str) -> Result<(char, Vec<Instruction>), Failure> {
    let mut escape = '\\';
    let mut directives = true;
    let mut instructions = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim_end_matches('\r')));
    while let Some((line, first)) = lines.next() {
        let trimmed = first.trim();
        if let Some(comment) = trimmed.strip_prefix('#') {
            let directive = comment.split_once('=').filter(|_| directives);
            match directive.map(|(name, value)| (name.trim().to_lowercase(), value.trim())) {
                Some((name, _)) if name == "syntax" => {
                    return Err(refused(line, "another syntax is another program, which would read this file")
                        .hint("remove the `# syntax=` line"));
                }
                Some((name, value)) if name == "escape" => match value {
                    "`" => escape = '`',
                    "\\" => {}
                    _ => return Err(refused(line, "the escape character can be \\ or ` only")),
                },
                Some((name, _)) if name == "check" => {}
                // Behind the first line that is no directive, `# escape=` is a comment like any other.
                _ => directives = false,
            }
            continue;
        }
        directives = false;
        if trimmed.is_empty() {
            continue;
        }
        let (mut words, mut last_line) = (trimmed.to_owned(), line);
        while words.ends_with(escape) {
            words.pop();
            if words.ends_with(escape) {
                // Some of Docker's parsers go on with the next line here, and some do not.
                return Err(refused(last_line, &format!("a line must not end with {escape}{escape}"))
                    .hint("put what stands there into quotes, or a space and a comment behind it"));
            }
            // Comments and empty lines inside a continued instruction are skipped, as Docker does.
            let next = lines.by_ref().find(|(_, next)| !next.trim().is_empty() && !next.trim().starts_with('#'));
            let Some((number, next)) = next else { break };
            last_line = number;
            words.push_str(next.trim_end());
        }
        let (name, rest) = words.split_once(char::is_whitespace).unwrap_or((&words, ""));
        let mut rest = rest.trim_start();
        let mut flags = Vec::new();
        while rest.starts_with("--") {
            let (flag, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            flags.push(flag.to_owned());
            rest = behind.trim_start();
        }
        let (name, rest) = (name.to_uppercase(), rest.to_owned());
        instructions.push(Instruction { line, last_line, name, flags, rest });
    }
    Ok((escape, instructions))
}

/// A stage, to be built by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    /// Its number, from 0.
    pub(super) number: usize,
    /// Its Dockerfile. Stages before it that it builds on are called as `image` says.
    pub(super) text: String,
    /// What it takes from others.
    pub(super) takes: Vec<Take>,
}

/// Something that a stage takes from another one, or from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Take {
    /// Where from.
    pub(super) from: From,
    /// Its path there.
    pub(super) path: String,
    /// The folder of the context that it goes to, with a slash.
    pub(super) place: String,
}

/// Where a stage takes something from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A stage before it.
    Stage(usize),
    /// An image.
    Image(String),
}

/// Takes a Dockerfile apart: the stages that the last one needs, in order. `image` names the image of a stage. A
/// Dockerfile that copies nothing between stages is one piece.
pub(super) fn stages(text: &str, image: impl Fn(usize) -> String) -> Result<Vec<Stage>, Failure> {
    let (_, instructions) = read(text)?;
    let copies = |instruction: &Instruction| from_of(instruction).is_some();
    if !instructions.iter().any(copies) {
        return Ok(vec![Stage { number: 0, text: text.to_owned(), takes: Vec::new() }]);
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut head = String::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    let (mut all, mut needs): (Vec<Stage>, Vec<BTreeSet<usize>>) = (Vec::new(), Vec::new());
    for instruction in &instructions {
        let written = lines[instruction.line - 1..instruction.last_line].join("\n");
        if instruction.name == "FROM" {
            let number = all.len();
            let mut need = BTreeSet::new();
            let words: Vec<&str> = instruction.rest.split_whitespace().collect();
            let base = words.first().copied().unwrap_or_default();
            let line = match names.get(&base.to_lowercase()) {
                Some(before) => {
                    need.insert(*before);
                    format!("FROM {}", image(*before))
                }
                None => written,
            };
            if let [_, _, name] = words[..] {
                names.insert(name.to_lowercase(), number);
            }
            all.push(Stage { number, text: format!("{head}{line}\n"), takes: Vec::new() });
            needs.push(need);
            continue;
        }
        let (Some(stage), Some(need)) = (all.last_mut(), needs.last_mut()) else {
            // What stands before the first stage holds for all.
            _ = writeln!(head, "{written}");
            continue;
        };
        let Some(from) = from_of(instruction) else {
            _ = writeln!(stage.text, "{written}");
            continue;
        };
        let before =
            names.get(&from.to_lowercase()).copied().or_else(|| from.parse().ok().filter(|n| *n < stage.number));
        need.extend(before);
        let from = before.map_or_else(|| From::Image(from.to_owned()), From::Stage);
        let rewritten = rewrite(instruction, &from, stage)?;
        _ = writeln!(stage.text, "{rewritten}");
    }
    let mut wanted = BTreeSet::from([all.len() - 1]);
    for number in (0..all.len()).rev() {
        if wanted.contains(&number) {
            wanted.extend(&needs[number]);
        }
    }
    Ok(all.into_iter().filter(|stage| wanted.contains(&stage.number)).collect())
}

pub(super) fn from_of(instruction: &Instruction) -> Option<&str> {
    let copies = instruction.name == "COPY";
    instruction.flags.iter().filter(|_| copies).find_map(|flag| flag.strip_prefix("--from="))
}

/// A `COPY --from` as a COPY from the context.
fn rewrite(instruction: &Instruction, from: &From, stage: &mut Stage) -> Result<String, Failure> {
    let (paths, target) = instruction.copied()?;
    let mut sources = Vec::new();
    for path in paths {
        if path.contains('$') {
            return Err(refused(instruction.line, &format!("COPY --from with a variable in {path} is not supported"))
                .hint("write the path out"));
        }
        let place = format!(".berth-from/{}/", stage.takes.len());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(refused(instruction.line, &format!("{path} leads up")));
        }
        // What has a star in it is looked for in the context, in the folder that holds it.
        let plain = parts.iter().position(|part| part.contains(['*', '?', '['])).unwrap_or(parts.len());
        let (taken, pattern) = parts.split_at(plain);
        let name = taken.last().copied().unwrap_or(".");
        let inside: Vec<&str> = [name].iter().chain(pattern).copied().collect();
        sources.push(format!("{place}{}", inside.join("/")));
        stage.takes.push(Take { from: from.clone(), path: format!("/{}", taken.join("/")), place });
    }
    sources.push(target);
    let flags = instruction.flags.iter().map(String::as_str);
    let flags = flags.filter(|flag| !flag.starts_with("--from=") && *flag != "--link");
    Ok(written("COPY", flags, &sources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_falls_apart_into_the_stages_that_are_needed() {
        let text = "ARG V=1\nFROM a:$V AS base\nRUN one \\\n  two\nFROM x AS unused\nRUN no\nFROM base AS build\nRUN make\n\
                    FROM scratch\nCOPY --from=build --chown=1:2 /app/out/ /app/\nCOPY --from=nginx:1 [\"/etc/a b\", \"/etc/*.conf\", \"/c/\"]\n\
                    COPY . /here\nCMD [\"/x\"]\n";
        let stages = stages(text, |number| format!("stage:{number}")).unwrap();
        let shown: Vec<String> =
            stages.iter().map(|stage| format!("{}\n{}{:?}", stage.number, stage.text, stage.takes)).collect();
        insta::assert_snapshot!(shown.join("\n\n"));
    }

    #[test]
    fn what_copies_nothing_between_stages_is_left_as_it_is() {
        let text = "FROM a AS b\n# comment\nFROM b\nCOPY . /x\n";
        let stages = stages(text, |number| number.to_string()).unwrap();
        assert_eq!(stages, [Stage { number: 0, text: text.to_owned(), takes: Vec::new() }]);
    }

    #[test]
    fn paths_that_cannot_be_told_are_refused() {
        for text in [
            "FROM a AS b\nFROM c\nCOPY --from=b $X /\n",
            "FROM a AS b\nFROM c\nCOPY --from=b ../x /\n",
            "FROM a AS b\nFROM c\nCOPY --from=b /x\n",
        ] {
            assert_eq!(stages(text, |number| number.to_string()).unwrap_err().reason, "DockerfileRefused", "{text}");
        }
    }
}
