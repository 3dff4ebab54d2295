//! A customer's Dockerfile: what is not allowed in it, with the line where it stands.
//!
//! The walls are elsewhere: builds have no privileges, limits, and a network of their own. This refuses what would try
//! them, and what could reach another customer's image, before anything runs, with words that say what to do instead.

use std::collections::BTreeMap;

use super::dockerfile::{Instruction, expand, read, refused};
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
    /// Images that it is built from, with the line that names each.
    pub(super) images: Vec<(usize, String)>,
    /// Its stages, in order.
    pub(super) stages: Vec<StageStart>,
}

/// Where a stage begins, and what that asks of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageStart {
    /// The number of the line that ends its FROM.
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
    let mut globals: BTreeMap<String, String> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for instruction in &instructions {
        let line = instruction.line;
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
                checked.stages.push(StageStart { line: instruction.last_line, runs: false });
                if checked.stages.len() > STAGES_MAX {
                    return Err(refused(line, &format!("more than {STAGES_MAX} stages")));
                }
                if image != "scratch" && !names.contains(&image.to_lowercase()) {
                    check_image(&image, line)?;
                    checked.images.push((line, image));
                }
                let words: Vec<&str> = instruction.rest.split_whitespace().collect();
                if let [_, and, name] = words[..]
                    && and.eq_ignore_ascii_case("as")
                {
                    names.push(name.to_lowercase());
                }
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
            "COPY" | "ADD" => check_copy(instruction, &names, &mut checked)?,
            "ONBUILD" => {
                return Err(
                    refused(line, "ONBUILD is for images that others build from").hint("write the instruction itself")
                );
            }
            _ => {}
        }
    }
    if checked.stages.is_empty() {
        return Err(Failure::new("DockerfileRefused", "the Dockerfile has no FROM"));
    }
    // With another escape character our own reading of continued lines would be another than Docker's.
    debug_assert!(escape == '\\' || escape == '`');
    Ok(checked)
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
                let stage = names.contains(&from.to_lowercase()) || from.parse::<usize>().is_ok_and(|n| n < STAGES_MAX);
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
    if instruction.name == "ADD" {
        let addresses = ["http://", "https://", "git@", "git://", "ftp://", "ssh://"];
        let address = instruction
            .rest
            .split([' ', '\t', '"', ',', '['])
            .find(|word| addresses.iter().any(|start| word.to_lowercase().starts_with(start)) || word.contains('$'));
        if let Some(address) = address {
            return Err(refused(line, &format!("ADD of {address} would be fetched outside the build's own network"))
                .hint("fetch it with `RUN curl` or `RUN git clone`"));
        }
    }
    Ok(())
}

fn check_image(image: &str, line: usize) -> Result<(), Failure> {
    let name = image.split('@').next().unwrap_or_default();
    // An image by its id is one that lies on the node, whoever made it.
    let id = name.starts_with("sha256:") || (name.len() >= 6 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    // What Berth builds on a node is called berth/PROJECT/BUILD; its base images have one name behind `berth/`.
    let built =
        name.strip_prefix("docker.io/").unwrap_or(name).strip_prefix("berth/").is_some_and(|rest| rest.contains('/'));
    if id || built {
        return Err(refused(line, &format!("{image} is an image of this node")).hint("name an image of a registry"));
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
        let text = "# syntax is a fine word\nARG BASE=berth/python:3.11\nFROM --platform=linux/amd64 ${BASE} AS build\n\
                    RUN apt-get update && \\\n    # a comment inside\n    apt-get install -y x\nCOPY --chown=1:1 . /app\n\
                    from scratch\nCOPY --from=build /app /app\nCOPY --from=0 /a /b\nCOPY --from=nginx:1 /a /b\nCMD [\"/app/x\"]\n";
        let checked = check(text, &BTreeMap::new()).unwrap();
        assert_eq!(checked.images, [(3, "berth/python:3.11".to_owned()), (11, "nginx:1".to_owned())]);
        assert_eq!(
            checked.stages.iter().map(|stage| (stage.line, stage.runs)).collect::<Vec<_>>(),
            [(3, true), (8, false)]
        );
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
            ("# syntax=evil/frontend:1\nFROM a\n", 1),
            ("#syntax = docker/dockerfile:1-labs\nFROM a\n", 1),
            ("FROM a\nRUN --security=insecure id\n", 2),
            ("FROM a\nRUN --network=host id\n", 2),
            ("FROM a\nRUN --mount=type=bind,from=b,target=/b id\n", 2),
            ("FROM a\nrun --device=/dev/kvm id\n", 2),
            ("FROM a\nRUN x \\\n\n  y\nADD https://example.com/x.tar /\n", 5),
            ("FROM a\nADD [\"git@host:x\", \"/\"]\n", 2),
            ("FROM a\nADD $URL /\n", 2),
            ("FROM sha256:0123456789abcdef\n", 1),
            ("FROM deadbeef0123\n", 1),
            ("FROM berth/acme/shop-1:latest\n", 1),
            ("FROM docker.io/berth/acme/shop-1\n", 1),
            ("FROM a\nCOPY --from=berth/acme/shop-1 /secret /\n", 2),
            ("FROM a\nCOPY --from=$X /secret /\n", 2),
            ("FROM $NOTHING\n", 1),
            ("FROM a\nONBUILD RUN id\n", 2),
            ("FROM a\nRUN <<EOF\nUSER root\nEOF\n", 2),
            ("RUN id\nFROM a\n", 1),
            ("FROM\n", 1),
            ("FROM a;b\n", 1),
        ] {
            assert!(refusal(text).starts_with(&format!("line {line} ")), "{text:?}: {}", refusal(text));
        }
        assert_eq!(refusal("ARG A=1\n"), "the Dockerfile has no FROM");
        assert!(refusal(&"FROM a\n".repeat(21)).contains("20 stages"));
        assert!(refusal(&("FROM a\n".to_owned() + &"RUN x\n".repeat(200))).contains("120 instructions"));
        assert!(refusal(&"#".repeat(300 << 10)).contains("KiB"));
    }
}
