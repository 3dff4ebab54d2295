//! What git is given: its settings, its environment, what signs in. It is told to trust nothing of a repository.

use bytes::Bytes;
use node_protocol::GitAccess;
use url::Url;

/// The files that are put into a container: settings of git, and what signs in if it is to sign in.
pub(super) fn files(git: &GitAccess, certificates: Option<&[u8]>, online: bool) -> std::io::Result<Bytes> {
    let mut files = vec![
        ("berth/gitconfig", settings(git.url.starts_with("http://"), certificates.is_some())),
        // What the repository says of its own archive is not heeded: all files are wanted, as they are.
        ("berth/template/info/attributes", "* -export-ignore -export-subst\n".to_owned()),
    ];
    if let Some(certificates) = certificates {
        files.push(("berth/certificates.pem", String::from_utf8_lossy(certificates).into_owned()));
    }
    if online {
        if let (Some(password), Ok(mut url)) = (&git.password, Url::parse(&git.url)) {
            let user = git.username.as_deref().filter(|user| !user.is_empty()).unwrap_or("git");
            if url.scheme().starts_with("http")
                && url.set_username(user).is_ok()
                && url.set_password(Some(password)).is_ok()
            {
                url.set_path("");
                files.push(("berth/credentials", format!("{url}\n")));
            }
        }
        if let Some(key) = &git.ssh_private_key {
            files.push(("berth/key", format!("{}\n", key.trim_end())));
        }
        files.push(("berth/known_hosts", git.known_hosts.clone().unwrap_or_default()));
    }
    let mut builder = tar::Builder::new(Vec::new());
    for folder in ["berth/", "berth/template/", "berth/template/info/"] {
        append(&mut builder, folder, tar::EntryType::Directory, 0o700, b"")?;
    }
    for (name, text) in files {
        append(&mut builder, name, tar::EntryType::Regular, 0o600, text.as_bytes())?;
    }
    Ok(builder.into_inner()?.into())
}

fn append(
    builder: &mut tar::Builder<Vec<u8>>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    content: &[u8],
) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(65532);
    header.set_gid(65532);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, name, content)
}

pub(super) fn environment() -> Vec<(String, String)> {
    let ssh = "ssh -F /dev/null -i /berth/key -o IdentitiesOnly=yes -o UserKnownHostsFile=/berth/known_hosts \
               -o StrictHostKeyChecking=yes -o BatchMode=yes -o ConnectTimeout=20";
    [
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/berth/gitconfig"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ASKPASS", "/bin/false"),
        ("GIT_SSH_COMMAND", ssh),
        ("GIT_OPTIONAL_LOCKS", "0"),
        ("HOME", "/tmp"),
        ("LC_ALL", "C.UTF-8"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Git's settings: nothing of a repository is run, only known transports, no redirects, every object checked.
fn settings(plain_http: bool, certificates: bool) -> String {
    let mut text = "\
[core]
	hooksPath = /dev/null
	fsmonitor = false
	protectHFS = true
	protectNTFS = true
	bigFileThreshold = 8m
[protocol]
	allow = never
[protocol \"https\"]
	allow = always
[protocol \"ssh\"]
	allow = always
[http]
	followRedirects = false
	lowSpeedLimit = 1000
	lowSpeedTime = 60
[credential]
	helper = store --file=/berth/credentials
[transfer]
	fsckObjects = true
[fetch \"fsck\"]
	zeroPaddedFilemode = warn
	badTimezone = warn
	missingSpaceBeforeDate = warn
[submodule]
	recurse = false
[fetch]
	recurseSubmodules = false
[gc]
	auto = 0
[maintenance]
	auto = false
[pack]
	threads = 2
	windowMemory = 256m
[advice]
	detachedHead = false
[safe]
	directory = *
"
    .to_owned();
    if plain_http {
        text.push_str("[protocol \"http\"]\n\tallow = always\n");
    }
    if certificates {
        text.push_str("[http]\n\tsslCAInfo = /berth/certificates.pem\n");
    }
    text
}
