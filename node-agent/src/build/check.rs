//! A customer's Dockerfile: what is not allowed in it, with the line where it stands.
//!
//! The walls are elsewhere: builds have no privileges, limits, and a network of their own. This refuses what would try
//! them, and what could reach another customer's image, before anything runs, with words that say what to do instead.

use std::collections::BTreeMap;

use super::dockerfile::{Instruction, expand, from_of, of_source, read, refused};
use super::failure::Failure;

/// More stages than any sensible Dockerfile has. Each costs a container.
const STAGES_MAX: usize = 20;
/// More instructions than Docker can stack layers.
const INSTRUCTIONS_MAX: usize = 120;
/// A longer one was written by a machine that went wrong.
const BYTES_MAX: usize = 256 << 10;

/// What a Dockerfile needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// The Dockerfile as it was read: one instruction a line, images with their arguments put in. Docker gets this and
    /// not what the customer wrote, so that it cannot read there what was not checked here.
    pub(super) text: String,
    /// Images that it is built from, with the line that names each.
    pub(super) images: Vec<(usize, String)>,
    /// Its stages, in order.
    pub(super) stages: Vec<StageStart>,
}

/// Where a stage begins, and what that asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageStart {
    /// The number of its FROM's line, in the text as it was read.
    pub(super) line: usize,
    /// Whether it runs commands.
    pub(super) runs: bool,
}

/// Checks a Dockerfile. `args` are the build arguments that the application gives.
pub(super) fn check(text: &str, args: &BTreeMap<String, String>) -> Result<Checked, Failure> {
    if text.len() > BYTES_MAX {
        return Err(Failure::new(
            "DockerfileRefused",
            format!("the Dockerfile is longer than {} KiB", BYTES_MAX >> 10),
        ));
    }
    let (escape, instructions) = read(text)?;
    if instructions.len() > INSTRUCTIONS_MAX {
        return Err(refused(
            instructions[INSTRUCTIONS_MAX].line,
            &format!("more than {INSTRUCTIONS_MAX} instructions"),
        )
        .hint("join commands with && in one RUN"));
    }
    let mut checked = Checked::default();
    if escape != '\\' {
        checked.text = format!("# escape={escape}\n");
    }
    let mut globals: BTreeMap<String, String> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for instruction in &instructions {
        let line = instruction.line;
        let mut written = instruction.text();
        let Some(first) = instruction.rest.split_whitespace().next() else {
            return Err(refused(line, &format!("{} with nothing behind it", instruction.name)));
        };
        match instruction.name.as_str() {
            "ARG" if checked.stages.is_empty() => {
                for word in instruction.rest.split_whitespace() {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    let value = args.get(name).cloned().unwrap_or_else(|| value.trim_matches(['"', '\'']).to_owned());
                    globals.insert(name.to_owned(), value);
                }
            }
            "FROM" => {
                let image = expand(first, &globals).ok_or_else(|| {
                    refused(line, &format!("{first} names no image that can be told before the build"))
                        .hint("give the ARG a value before the first FROM")
                })?;
                checked.stages.push(StageStart { line: checked.text.lines().count() + 1, runs: false });
                if checked.stages.len() > STAGES_MAX {
                    return Err(refused(line, &format!("more than {STAGES_MAX} stages")));
                }
                if image != "scratch" && !names.contains(&image.to_lowercase()) {
                    check_image(&image, line)?;
                    checked.images.push((line, image.clone()));
                }
                check_platform(instruction)?;
                let words: Vec<&str> = instruction.rest.split_whitespace().collect();
                written = match words[..] {
                    [_, and, name] if and.eq_ignore_ascii_case("as") => {
                        names.push(name.to_lowercase());
                        format!("FROM {image} AS {name}")
                    }
                    [_] => format!("FROM {image}"),
                    _ => return Err(refused(line, "FROM needs an image, and AS with a name or nothing")),
                };
            }
            _ if checked.stages.is_empty() => {
                return Err(refused(line, &format!("{} stands before the first FROM", instruction.name)));
            }
            "RUN" => {
                check_run(instruction)?;
                if let Some(stage) = checked.stages.last_mut() {
                    stage.runs = true;
                }
            }
            "COPY" => {
                check_copy(instruction, &names, &mut checked)?;
                if from_of(instruction).is_none() {
                    written = of_source(instruction)?;
                }
            }
            "ADD" => {
                check_copy(instruction, &names, &mut checked)?;
                check_add(instruction)?;
                written = of_source(instruction)?;
            }
            "ONBUILD" => {
                return Err(
                    refused(line, "ONBUILD is for images that others build from").hint("write the instruction itself")
                );
            }
            _ => {}
        }
        checked.text.push_str(&written);
        checked.text.push('\n');
    }
    if checked.stages.is_empty() {
        return Err(Failure::new("DockerfileRefused", "the Dockerfile has no FROM"));
    }
    Ok(checked)
}

/// An image for another machine would be fetched by the builder itself, after all others were looked at.
fn check_platform(instruction: &Instruction) -> Result<(), Failure> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "linux/amd64",
        "aarch64" => "linux/arm64",
        other => other,
    };
    for flag in &instruction.flags {
        let platform = flag.strip_prefix("--platform=");
        if !platform.is_some_and(|name| name == own || matches!(name, "$BUILDPLATFORM" | "$TARGETPLATFORM")) {
            return Err(refused(instruction.line, &format!("FROM {flag} is not supported"))
                .hint(format!("leave it out: this node builds for {own}")));
        }
    }
    Ok(())
}

fn check_run(instruction: &Instruction) -> Result<(), Failure> {
    for flag in &instruction.flags {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        match name {
            "--network" if matches!(value, "default" | "none") => {}
            "--network" | "--security" | "--device" => {
                return Err(refused(instruction.line, &format!("RUN {flag} would leave the build's own walls"))
                    .hint("leave it out: builds reach the Internet as they are"));
            }
            "--mount" => {
                return Err(refused(instruction.line, "RUN --mount is not supported").hint(
                    "layers are cached for each application: copy the lock file and install before copying the rest",
                ));
            }
            _ => return Err(refused(instruction.line, &format!("RUN {flag} is not supported"))),
        }
    }
    if instruction.rest.contains("<<") && heredoc(&instruction.rest) {
        return Err(refused(instruction.line, "a here-document is not supported")
            .hint("put the script into a file, or join commands with &&"));
    }
    Ok(())
}

/// `RUN <<EOF` and `COPY <<EOF`: the lines behind it would be read as instructions here.
fn heredoc(rest: &str) -> bool {
    rest.split_whitespace().next().is_some_and(|word| word.starts_with("<<") && word.len() > 2)
}

fn check_copy(instruction: &Instruction, names: &[String], checked: &mut Checked) -> Result<(), Failure> {
    let line = instruction.line;
    if heredoc(&instruction.rest) {
        return Err(
            refused(line, "a here-document is not supported").hint("put the text into a file of the repository")
        );
    }
    for flag in &instruction.flags {
        match flag.split_once('=') {
            Some(("--from", from)) => {
                // A number that is no stage before this one would be looked for among the node's images.
                let before = checked.stages.len().saturating_sub(1);
                let stage = names.contains(&from.to_lowercase()) || from.parse::<usize>().is_ok_and(|n| n < before);
                if !stage {
                    if from.contains('$') {
                        return Err(refused(line, &format!("{from} names no image that can be told before the build")));
                    }
                    check_image(from, line)?;
                    checked.images.push((line, from.to_owned()));
                }
            }
            Some(("--chown" | "--chmod" | "--link", _)) => {}
            _ if flag == "--link" => {}
            _ => return Err(refused(line, &format!("{} {flag} is not supported", instruction.name))),
        }
    }
    Ok(())
}

/// ADD names plain paths, and nothing that could become an address once Docker has taken quotes, escapes and variables
/// out, for it fetches addresses itself, from the host's own network.
fn check_add(instruction: &Instruction) -> Result<(), Failure> {
    let words = instruction.words();
    let odd =
        |word: &&String| word.contains(['\'', '"', '\\', '`', '$']) || word.contains("://") || word.contains("git@");
    if let Some(word) = words.iter().find(odd) {
        return Err(refused(instruction.line, &format!("ADD of {word}: only plain paths can be added"))
            .hint("fetch an address with `RUN curl` or `RUN git clone`, and use COPY for other names"));
    }
    Ok(())
}

fn check_image(image: &str, line: usize) -> Result<(), Failure> {
    if crds::image::is_local(image) {
        return Err(refused(line, &format!("{image} is an image of this node"))
            .hint("name an image of a registry; where its name could be an id, write its tag too"));
    }
    if !crds::image::is_reference(image) {
        return Err(refused(line, &format!("{image:?} is no image")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match check(text, &BTreeMap::new()) {
            Ok(checked) => panic!("{text:?} is allowed: {checked:?}"),
            Err(failure) => {
                assert_eq!(failure.reason, "DockerfileRefused");
                failure.message
            }
        }
    }

    #[test]
    fn ordinary_dockerfiles_are_allowed() {
        let text = "# syntax is a fine word\nARG BASE=berth/python:3.11\nFROM --platform=$TARGETPLATFORM ${BASE} AS build\n\
                    RUN apt-get update && \\\n    # a comment inside\n    apt-get install -y x\nCOPY --chown=1:1 . /app\n\
                    from scratch\nCOPY --from=build /app /app\nCOPY --from=0 /a /b\nCOPY --from=nginx:1 /a /b\nCMD [\"/app/x\"]\n";
        let checked = check(text, &BTreeMap::new()).unwrap();
        assert_eq!(checked.images, [(3, "berth/python:3.11".to_owned()), (11, "nginx:1".to_owned())]);
        assert_eq!(
            checked.stages.iter().map(|stage| (stage.line, stage.runs)).collect::<Vec<_>>(),
            [(2, true), (5, false)]
        );
        insta::assert_snapshot!(checked.text);
    }

    #[test]
    fn docker_reads_what_was_checked() {
        let written = |text: &str| check(text, &BTreeMap::new()).unwrap().text;
        // Behind an ordinary comment `# escape=` is a comment, and the backslash goes on joining lines.
        let text = "# hello\n# escape=`\nFROM x\nRUN echo \\\nADD http://169.254.169.254/ /x\n";
        assert_eq!(written(text), "FROM x\nRUN echo ADD http://169.254.169.254/ /x\n");
        assert_eq!(written("# check=skip=all\n# escape=`\nFROM x\nRUN a `\n b\n"), "# escape=`\nFROM x\nRUN a  b\n");
        // Docker takes the quotes out of an argument's name, and would build from another image than was looked at.
        let hidden = "ARG 'B'=berth-stage/acme/shop:0\nFROM ${B:-nginx:1} AS base\n";
        assert!(written(hidden).ends_with("\nFROM nginx:1 AS base\n"), "{}", written(hidden));
        assert_eq!(
            written("FROM x\nADD --chown=1:1 [\"\\u0061\", \"/x y\"]\n"),
            "FROM x\nADD --chown=1:1 [\"source/a\",\"/x y\"]\n"
        );
    }

    #[test]
    fn what_is_copied_comes_from_the_source() {
        let written = |text: &str| check(&format!("FROM x\n{text}\n"), &BTreeMap::new()).map(|checked| checked.text);
        for (text, expected) in [
            ("COPY . /app", r#"COPY ["source/","/app"]"#),
            ("COPY --chown=1:1 / ./", r#"COPY --chown=1:1 ["source/","./"]"#),
            ("COPY ./a b/ /app/", r#"COPY ["source/a","source/b","/app/"]"#),
            ("COPY [\"a b\", \"./*\", \"/app/\"]", r#"COPY ["source/a b","source/*","/app/"]"#),
            ("COPY [a-c]* /app/", r#"COPY ["source/[a-c]*","/app/"]"#),
            ("COPY a/../b /app/", r#"COPY ["source/b","/app/"]"#),
            ("COPY ${X}/$Y \"c\" /app/", r#"COPY ["source/${X}/$Y","source/\"c\"","/app/"]"#),
            ("ADD a.tar /app", r#"ADD ["source/a.tar","/app"]"#),
        ] {
            assert_eq!(written(text).unwrap(), format!("FROM x\n{expected}\n"));
        }
        assert_eq!(written("COPY --from=nginx:1 /a /b").unwrap(), "FROM x\nCOPY --from=nginx:1 /a /b\n");
        for text in ["COPY /app", "COPY ../a /app", "ADD a/../../.berth-from /app"] {
            assert_eq!(written(text).unwrap_err().reason, "DockerfileRefused", "{text}");
        }
    }

    #[test]
    fn arguments_of_the_application_come_before_defaults() {
        let args = BTreeMap::from([("V".to_owned(), "12".to_owned())]);
        let checked = check("ARG V=11\nFROM debian:$V\n", &args).unwrap();
        assert_eq!(checked.images, [(2, "debian:12".to_owned())]);
    }

    #[test]
    fn what_would_leave_the_walls_is_refused_with_its_line() {
        for (text, line) in [
            ("# syntax=evil/frontend:1\nFROM x\n", 1),
            ("#syntax = docker/dockerfile:1-labs\nFROM x\n", 1),
            ("FROM x\nRUN --security=insecure id\n", 2),
            ("FROM x\nRUN --network=host id\n", 2),
            ("FROM x\nRUN --mount=type=bind,from=b,target=/b id\n", 2),
            ("FROM x\nrun --device=/dev/kvm id\n", 2),
            ("FROM x\nRUN x \\\n\n  y\nADD https://example.com/x.tar /\n", 5),
            ("FROM x\nADD [\"git@host:x\", \"/\"]\n", 2),
            ("FROM x\nADD $URL /\n", 2),
            ("FROM x\nADD 'http://169.254.169.254/latest/' /x\n", 2),
            ("FROM x\nADD h\\ttp://169.254.169.254/ /x\n", 2),
            ("FROM x\nADD ht\"\"tp://169.254.169.254/ /x\n", 2),
            ("FROM x\nADD [\"\\u0068ttp://169.254.169.254/\",\"/x\"]\n", 2),
            ("FROM x\nRUN x \\\\\nADD y /\n", 2),
            ("# escape=`\nFROM x\nADD ht`tp://169.254.169.254/ /x\n", 3),
            ("# escape=x\nFROM x\n", 1),
            ("FROM --platform=linux/s390x x\n", 1),
            ("FROM x y\n", 1),
            ("FROM a3f\n", 1),
            ("FROM docker.io/a3f AS x\n", 1),
            ("FROM berth-stage/acme/shop:0\n", 1),
            ("FROM x\nCOPY --from=berth-stage/acme/shop:0 /secret /\n", 2),
            ("FROM x\nCOPY --from=a3f /secret /\n", 2),
            ("FROM x\nCOPY --from=7 /secret /\n", 2),
            ("FROM x\nCOPY --from=0 /secret /\n", 2),
            ("FROM sha256:0123456789abcdef\n", 1),
            ("FROM deadbeef0123\n", 1),
            ("FROM berth/acme/shop-1:latest\n", 1),
            ("FROM docker.io/berth/acme/shop-1\n", 1),
            ("FROM x\nCOPY --from=berth/acme/shop-1 /secret /\n", 2),
            ("FROM x\nCOPY --from=$X /secret /\n", 2),
            ("FROM $NOTHING\n", 1),
            ("FROM x\nONBUILD RUN id\n", 2),
            ("FROM x\nRUN <<EOF\nUSER root\nEOF\n", 2),
            ("RUN id\nFROM x\n", 1),
            ("FROM\n", 1),
            ("FROM x;b\n", 1),
        ] {
            assert!(refusal(text).starts_with(&format!("line {line} ")), "{text:?}: {}", refusal(text));
        }
        assert_eq!(refusal("ARG A=1\n"), "the Dockerfile has no FROM");
        assert!(refusal(&"FROM x\n".repeat(21)).contains("20 stages"));
        assert!(refusal(&("FROM x\n".to_owned() + &"RUN x\n".repeat(200))).contains("120 instructions"));
        assert!(refusal(&"#".repeat(300 << 10)).contains("KiB"));
    }
}
