//! Where source code is: parsed and refused here, so that nobody further on needs to doubt it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;
use crate::names;

/// A branch of a Git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// Address of the repository: `https://host/path` or `ssh://git@host/path`. `http://` is for networks of your own.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^(https|http|ssh)://[^\\s]+$"))]
    pub url: String,
    /// The branch that is deployed.
    #[serde(default = "main_branch")]
    #[schemars(length(min = 1, max = 250), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9._/+@-]*$"))]
    pub branch: String,
    /// The folder of the repository that holds the application, relative to its root.
    #[serde(default = "root_path")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Whether a new commit on the branch is built and rolled out by itself.
    #[serde(default = "yes")]
    pub auto_deploy: bool,
    /// How to sign in to a private repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<GitCredentials>,
}

/// The Secret with what signs in to a repository: `username` and `password` (or a token) for https,
/// `ssh-privatekey` and `known_hosts` for ssh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitCredentials {
    /// Name of a Secret in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A commit, as the clone reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// The object id, 40 or 64 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-f]{40}([0-9a-f]{24})?$"))]
    pub sha: String,
    /// The first line of its message.
    #[serde(default)]
    pub message: String,
    /// Its author's name.
    #[serde(default)]
    pub author: String,
    /// When it was committed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
}

fn main_branch() -> String {
    "main".to_owned()
}

fn root_path() -> String {
    ".".to_owned()
}

fn yes() -> bool {
    true
}

/// What is wrong with a source, if anything. `field` is its path in the object.
pub fn validate(source: &GitSource, field: &str) -> Vec<Invalid> {
    let mut wrong = Vec::new();
    if let Err(why) = check_url(&source.url) {
        wrong.push(Invalid::value(format!("{field}.url"), redacted(&source.url), why));
    }
    if !is_branch(&source.branch) {
        wrong.push(Invalid::value(format!("{field}.branch"), &source.branch, "must be the name of a Git branch"));
    }
    if !is_inside(&source.path) {
        wrong.push(Invalid::value(
            format!("{field}.path"),
            &source.path,
            "must be a folder inside the repository, for example . or services/web",
        ));
    }
    wrong
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let shape =
        "must be an address such as https://git.example.com/team/app.git or ssh://git@git.example.com/team/app.git";
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err("must have no spaces and no control characters");
    }
    let url = url::Url::parse(text).map_err(|_unsaid| shape)?;
    let ssh = match url.scheme() {
        "https" | "http" => false,
        "ssh" => true,
        _ => return Err("must use https or ssh"),
    };
    if url.password().is_some() || (!ssh && !url.username().is_empty()) {
        return Err("must not hold a user name or password: name a Secret in credentials.secretName");
    }
    if ssh && !url.username().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err("must have a plain user name, as in ssh://git@host/path");
    }
    if url.username().starts_with('-') || url.host_str().is_none_or(|host| host.is_empty() || host.starts_with('-')) {
        return Err(shape);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must have no ? and no #");
    }
    if url.path().trim_matches('/').is_empty() {
        return Err("must have the path of a repository behind the host");
    }
    Ok(())
}

/// An address for a message: without what stands before an `@`, which may be a password.
pub fn redacted(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

/// What Git says, in lower case and without the addresses that it quotes: `401` or `certificate` in the name of a
/// repository, or as part of a port, is no answer of its server.
pub fn words(said: &str) -> String {
    let own = |word: &&str| !word.starts_with('\'') && !word.contains("://");
    said.split_whitespace().filter(own).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Git's own rules for branch names (`git check-ref-format`), less what a shell or an option parser could take wrongly.
pub fn is_branch(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/+@-".contains(&byte);
    (1..=250).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with(['-', '/', '.', '@', '+'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("//")
        && !name.contains("/.")
        && !name.split('/').any(|part| part.as_bytes().ends_with(b".lock"))
}

/// Whether a path stays inside the folder it is relative to.
pub fn is_inside(path: &str) -> bool {
    let part = |part: &str| {
        part == "."
            || (!part.is_empty() && part != ".." && !part.starts_with('-') && !part.eq_ignore_ascii_case(".git"))
    };
    (1..=1024).contains(&path.len())
        && !path.contains(|c: char| c.is_control() || c == '\\' || c == ':')
        && path.trim_end_matches('/').split('/').all(part)
}

/// Whether a text is the host of a well-formed address; kept here so that every caller parses it alike.
pub fn host(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned).filter(|host| !host.is_empty())
}

/// Whether a Secret's name is one.
pub(crate) fn validate_credentials(credentials: Option<&GitCredentials>, field: &str) -> Vec<Invalid> {
    credentials
        .filter(|credentials| !credentials.secret_name.split('.').all(names::is_label))
        .map(|credentials| {
            Invalid::value(
                format!("{field}.credentials.secretName"),
                &credentials.secret_name,
                "must be the name of a Secret",
            )
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["https://git.example.com/a/b.git", "http://10.0.0.1:3000/a.git", "ssh://git@host:22/a/b.git"] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "git@host:a/b",
            "file:///etc",
            "ext::sh -c id",
            "git://host/a",
            "https://",
            "https://u:p@host/a",
            "https://host/a b",
            "https://host/a\n",
            "ssh://-oProxyCommand=id/a",
            "ssh://-x@host/a",
            "https://host",
            "https://host/a?x=1",
            "https://-host/a",
            "https://host/a#b",
        ] {
            assert!(check_url(bad).is_err(), "{bad:?}");
        }
        assert_eq!(redacted("https://user:hunter2@host/a"), "https://…@host/a");
    }

    #[test]
    fn what_git_says_is_not_what_it_quotes() {
        let said = "fatal: repository 'http://127.0.0.1:40130/not-found.git/' not found\nTry http://x/403";
        assert_eq!(words(said), "fatal: repository not found try");
        assert_eq!(words("fatal: couldn't find remote ref Main"), "fatal: couldn't find remote ref main");
    }

    #[test]
    fn branches_and_paths() {
        for good in ["main", "feature/x-1", "release-1.0", "v2"] {
            assert!(is_branch(good), "{good}");
        }
        for bad in
            ["", "-x", "--upload-pack=id", "a..b", "a b", "a;b", "a`b`", "a$b", "/a", "a/", "a.lock", "a\nb", "@{u}"]
        {
            assert!(!is_branch(bad), "{bad:?}");
        }
        for good in [".", "web", "services/web", "web/"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "..", "/etc", "a/../../b", "a//b", "-x", ".git", "a\\b", "a\0"] {
            assert!(!is_inside(bad), "{bad:?}");
        }
    }
}
