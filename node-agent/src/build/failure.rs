//! Why there is no image: a word for programs, a sentence for people, and what to do about it.

use crds::build::BuildFailure;

use crate::machine::Error;

/// A build that cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// One CamelCase word, as [`BuildFailure::reason`] lists them.
    pub(super) reason: &'static str,
    /// What happened.
    pub(super) message: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
    /// Exit code of the command that ended it.
    pub(super) exit_code: Option<i64>,
    /// The line of the log that shows it.
    pub(super) line: Option<i64>,
}

impl Failure {
    pub(super) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hint: None, exit_code: None, line: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn exit_code(mut self, code: i64) -> Self {
        self.exit_code = Some(code);
        self
    }

    /// As the API shows it.
    pub(super) fn report(self) -> BuildFailure {
        BuildFailure { reason: self.reason.to_owned(), message: self.message, hint: self.hint, line: self.line }
    }
}

/// What the words of a program mean: a part of a line in lower case, what to do about it.
const HINTS: &[(&str, &str)] = &[
    (
        "can only install packages when your package.json and package-lock.json",
        "run `npm install` and commit package-lock.json",
    ),
    ("your lockfile needs to be updated", "run `yarn install` and commit yarn.lock"),
    ("err_pnpm_outdated_lockfile", "run `pnpm install` and commit pnpm-lock.yaml"),
    ("npm error eresolve", "two packages want different versions of a third: make them agree in package.json"),
    ("npm err! code eresolve", "two packages want different versions of a third: make them agree in package.json"),
    ("npm error 404", "a package in package.json is not in the registry: check its name, and .npmrc for a private one"),
    ("missing script:", "package.json has no script of this name"),
    ("could not find a version that satisfies", "check the package's name and version in the list of requirements"),
    ("no matching distribution found", "check the package's name and version in the list of requirements"),
    ("pipfile.lock (", "run `pipenv lock` and commit Pipfile.lock"),
    ("pyproject.toml changed significantly since poetry.lock", "run `poetry lock` and commit poetry.lock"),
    ("your lock file does not contain a compatible set of packages", "run `composer update` and commit composer.lock"),
    (
        "your requirements could not be resolved to an installable set",
        "composer found no versions that fit together: see the problems it lists",
    ),
    ("heap out of memory", "the program needs more memory than the build has: choose a larger plan"),
    (
        "certificate verify failed",
        "the server's certificate is not trusted: the administrator can add its authority for builds",
    ),
    (
        "self-signed certificate in certificate chain",
        "the server's certificate is not trusted: the administrator can add its authority for builds",
    ),
    (
        "unable to get local issuer certificate",
        "the server's certificate is not trusted: the administrator can add its authority for builds",
    ),
    ("no space left on device", "the node's disk is full: the administrator must make room"),
    ("temporary failure in name resolution", "builds cannot reach this address: check its name"),
    ("enotfound", "builds cannot reach this address: check its name"),
    ("copy failed: file not found", "the file is not in the repository, or .dockerignore leaves it out"),
    ("copy failed: stat", "the file is not in the repository, or .dockerignore leaves it out"),
];

/// What to do about a line of a log, if that is known.
pub(super) fn hint_for(line: &str) -> Option<&'static str> {
    let line = line.to_lowercase();
    HINTS.iter().find(|(part, _)| line.contains(part)).map(|(_, hint)| *hint)
}

/// What a failed step of the builder means. `memory_bytes` is what the build had.
pub(super) fn of_build(words: &str, memory_bytes: u64) -> Failure {
    let lower = words.to_lowercase();
    if let Some((command, code)) = returned_code(words) {
        // A program that the kernel ends for want of memory has this code, and nothing else of ours sends this signal.
        if code == 137 || lower.contains("heap out of memory") {
            let mebibytes = memory_bytes >> 20;
            return Failure::new(
                "OutOfMemory",
                format!("{command} was ended: the build had {mebibytes} MiB of memory"),
            )
            .hint("choose a larger plan, or let the build need less memory")
            .exit_code(code);
        }
        return Failure::new("CommandFailed", format!("{command} ended with exit code {code}")).exit_code(code);
    }
    let absent = [
        "pull access denied",
        "manifest unknown",
        "manifest for",
        "repository does not exist",
        "no such image",
        "no such host",
        "failed to resolve reference",
    ];
    if absent.iter().any(|part| lower.contains(part)) {
        return Failure::new("ImageNotFound", first_line(words))
            .hint("check the image's name, and that this node can reach its registry");
    }
    if lower.contains("dockerfile parse error")
        || lower.contains("unknown instruction")
        || lower.contains("unknown flag")
    {
        return Failure::new("DockerfileRefused", first_line(words));
    }
    let failure = Failure::new("CommandFailed", first_line(words));
    match hint_for(words) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Docker says: `The command '/bin/sh -c npm ci' returned a non-zero code: 1`.
fn returned_code(words: &str) -> Option<(String, i64)> {
    let (_, rest) = words.split_once("The command '")?;
    let (command, rest) = rest.split_once("' returned a non-zero code: ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let command = command.strip_prefix("/bin/sh -c ").unwrap_or(command);
    let command: String = command.chars().take(200).collect();
    Some((format!("`{command}`"), digits.parse().ok()?))
}

fn first_line(words: &str) -> String {
    words.trim().lines().next().unwrap_or("the build failed").chars().take(500).collect()
}

/// What git's complaint means.
pub(super) fn of_clone(words: &str, branch: &str, code: i64) -> Failure {
    let said = words.lines().rev().find(|line| line.starts_with("fatal:") || line.starts_with("ERROR:"));
    let said = said.or_else(|| words.trim().lines().next_back()).unwrap_or("git said nothing");
    let said: String = said.trim().trim_start_matches("fatal: ").chars().take(500).collect();
    let known: &[(&[&str], &str)] = &[
        (
            &[
                "authentication failed",
                "could not read username",
                "could not read password",
                "permission denied",
                "error: 403",
            ],
            "the repository needs credentials: name a Secret in spec.source.git.credentials, and check what it holds",
        ),
        (&["remote branch"], "check spec.source.git.branch"),
        (
            &["couldn't find remote ref", "not our ref", "reference is not a tree"],
            "the commit is not on the server any more",
        ),
        (&["could not resolve host"], "check the host in spec.source.git.url"),
        (
            &[
                "connection refused",
                "connection timed out",
                "failed to connect",
                "no route to host",
                "operation too slow",
            ],
            "the server does not answer: check spec.source.git.url",
        ),
        (
            &["host key verification failed", "no matching host key"],
            "put the server's key as known_hosts into the Secret with the credentials",
        ),
        (
            &["unable to update url base from redirection", "the requested url returned error: 30"],
            "the address redirects: write the one that it leads to into spec.source.git.url",
        ),
        (
            &["certificate"],
            "the server's certificate is not trusted: the administrator can add its authority for builds",
        ),
        (
            &["not found", "does not exist", "does not appear to be a git repository", "error: 404"],
            "check spec.source.git.url; a private repository needs credentials",
        ),
    ];
    let failure =
        Failure::new("CloneFailed", format!("git could not fetch the branch {branch}: {said}")).exit_code(code);
    let own = crds::git::words(words);
    match known.iter().find(|(parts, _)| parts.iter().any(|part| own.contains(part))) {
        Some((_, hint)) => failure.hint(*hint),
        None => failure,
    }
}

/// What the engine's own trouble means for a build.
pub(super) fn of_engine(problem: &Error) -> Failure {
    match problem {
        Error::Cancelled => Failure::new("Cancelled", "the build was cancelled"),
        Error::NotFound(what) => Failure::new("ImageNotFound", what.clone())
            .hint("the administrator must build the base images on this node: images/build"),
        other => Failure::new("BuilderUnavailable", other.to_string())
            .hint("try again; if it stays so, the node needs its administrator"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_its_code() {
        let failure = of_build("The command '/bin/sh -c npm run build' returned a non-zero code: 2", 512 << 20);
        assert_eq!((failure.reason, failure.exit_code), ("CommandFailed", Some(2)));
        assert_eq!(failure.message, "`npm run build` ended with exit code 2");
    }

    #[test]
    fn a_want_of_memory_is_told_as_such() {
        let failure = of_build("The command '/bin/sh -c npm ci' returned a non-zero code: 137", 512 << 20);
        assert_eq!(failure.reason, "OutOfMemory");
        assert!(failure.message.contains("512 MiB"), "{failure:?}");
    }

    #[test]
    fn an_absent_image_is_told_as_such() {
        let words = "pull access denied for acme/base, repository does not exist or may require 'docker login'";
        assert_eq!(of_build(words, 0).reason, "ImageNotFound");
        assert_eq!(of_build("dockerfile parse error line 3: unknown instruction: RUM", 0).reason, "DockerfileRefused");
        let copy = of_build("COPY failed: file not found in build context: stat app.py: file does not exist", 0);
        assert!(copy.hint.unwrap().contains(".dockerignore"));
    }

    #[test]
    fn what_git_says_becomes_a_hint() {
        for (words, hint) in [
            ("fatal: Authentication failed for 'https://x/'", "credentials"),
            ("fatal: could not read Username for 'https://x': terminal prompts disabled", "credentials"),
            ("warning: Could not find remote branch nope to clone.\nfatal: Remote branch nope not found", "branch"),
            ("fatal: unable to access 'https://x/': Could not resolve host: x", "host"),
            ("fatal: unable to access 'http://x/': Failed to connect to x port 80", "does not answer"),
            ("fatal: repository 'https://x/a.git/' not found", "private"),
            ("fatal: repository 'https://x/certificate.git/' not found", "private"),
            ("fatal: unable to update url base from redirection:\n  asked for: x", "redirects"),
            ("No ED25519 host key is known for x\nHost key verification failed.\nfatal: Could not read", "known_hosts"),
        ] {
            let failure = of_clone(words, "main", 128);
            assert!(failure.hint.as_deref().is_some_and(|found| found.contains(hint)), "{words}: {failure:?}");
        }
    }
}
