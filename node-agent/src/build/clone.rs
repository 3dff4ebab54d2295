//! Fetches source: git runs in containers of its own, as nobody, and hands out an archive.
//!
//! Its address is resolved and judged here, and the container gets the answer, so that the name cannot mean another
//! machine a moment later. What signs in is put into the container as a file, and goes with it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crds::address::may_be_asked;
use crds::git::Commit;
use ipnet::IpNet;
use node_protocol::BuildTask;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::context::SOURCE_BYTES_MAX;
use super::failure::{Failure, of_clone};
use super::log::Log;
use crate::labels;
use crate::machine::{Error, HelperNetwork, HelperSpec, VolumeMount, Workshop};

/// Where the repository lies in the helper containers, on a volume that they share.
const REPOSITORY: &str = "/app/repository";
/// Memory of a helper: git needs some to put together what it receives.
const MEMORY_BYTES: u64 = 1 << 30;
/// Processes of a helper: git starts a few of its own.
const PIDS: u64 = 64;
/// How much git may say of a commit.
const SAID_BYTES_MAX: usize = 64 << 10;
/// How many addresses of a host are passed on.
const ADDRESSES_MAX: usize = 4;
/// A server on the other side of the world answers within a second; a lost packet is sent again after one, three and
/// seven.
const CONNECT: Duration = Duration::from_secs(10);

/// What a fetch needs to know.
pub(super) struct Fetch<'a, W> {
    pub(super) workshop: &'a W,
    pub(super) task: &'a BuildTask,
    /// Image with git.
    pub(super) image: &'a str,
    /// Networks that a source may be in although they are private.
    pub(super) networks: &'a [IpNet],
    /// Certificates to trust, PEM.
    pub(super) certificates: Option<&'a [u8]>,
    pub(super) log: &'a Mutex<Log>,
    pub(super) cancel: &'a CancellationToken,
}

/// Fails if none of the addresses takes a connection: git itself would wait for minutes.
async fn check_answers(addresses: &[IpAddr], port: u16) -> Result<(), Failure> {
    let connect = |address: &IpAddr| Box::pin(TcpStream::connect(SocketAddr::new(*address, port)));
    let first = timeout(CONNECT, futures::future::select_ok(addresses.iter().map(connect))).await;
    let problem = match first {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(problem)) => problem.to_string(),
        Err(_) => format!("no answer within {} s", CONNECT.as_secs()),
    };
    let asked =
        addresses.iter().map(|address| SocketAddr::new(*address, port).to_string()).collect::<Vec<_>>().join(", ");
    Err(Failure::new("CloneFailed", format!("the server of the source cannot be reached at {asked}: {problem}"))
        .hint("the server does not answer: check spec.source.git.url"))
}

/// What happens to what git prints.
enum Output<'a> {
    Log,
    Text(&'a mut Vec<u8>),
    File(&'a Path),
}

impl<W: Workshop> Fetch<'_, W> {
    /// Fetches the commit's files into an archive.
    pub(super) async fn run(&self, archive: &Path) -> Result<Commit, Failure> {
        let hosts = self.pinned_hosts().await?;
        self.forget().await;
        let fetched = self.fetch(&hosts, archive).await;
        self.forget().await;
        fetched
    }

    /// Removes what the containers shared.
    async fn forget(&self) {
        if let Err(problem) = self.workshop.remove_volume(&self.volume()).await {
            tracing::warn!(%problem, build = self.task.uid, "the volume of a clone stays");
        }
    }

    async fn fetch(&self, hosts: &[String], archive: &Path) -> Result<Commit, Failure> {
        let git = &self.task.git;
        let clone = ["clone", "--progress", "--no-checkout", "--depth=1", "--single-branch", "--no-tags"];
        let clone = clone.into_iter().chain([
            "--template=/berth/template",
            "--branch",
            &git.branch,
            "--",
            &git.url,
            REPOSITORY,
        ]);
        self.git("clone", clone, hosts, Output::Log).await?;
        let mut commit = self.commit("HEAD").await?;
        let wanted = git.commit.as_deref().filter(|wanted| *wanted != commit.sha);
        if let Some(wanted) = wanted {
            // The branch has moved on since.
            let fetch = ["-C", REPOSITORY, "fetch", "--progress", "--depth=1", "--no-tags", "origin", wanted];
            self.git("fetch", fetch, hosts, Output::Log).await?;
            commit = self.commit(wanted).await?;
        }
        let path = git.path.trim_start_matches("./").trim_matches('/');
        let tree = if path.is_empty() || path == "." { commit.sha.clone() } else { format!("{}:{path}", commit.sha) };
        let failed = |failure: Failure| match path {
            "" | "." => failure,
            path => Failure::new("CloneFailed", format!("there is no folder {path} in the repository"))
                .hint("check spec.source.git.path"),
        };
        let command = ["-C", REPOSITORY, "archive", "--format=tar", &tree];
        self.git("archive", command, &[], Output::File(archive))
            .await
            .map_err(|failure| if failure.exit_code.is_some() { failed(failure) } else { failure })?;
        Ok(commit)
    }

    async fn commit(&self, name: &str) -> Result<Commit, Failure> {
        let mut said = Vec::new();
        let command = ["-C", REPOSITORY, "log", "-1", "-z", "--format=%H%x00%an%x00%cI%x00%s", name];
        self.git("log", command, &[], Output::Text(&mut said)).await?;
        parse_commit(&said).ok_or_else(|| Failure::new("CloneFailed", "git does not say which commit it fetched"))
    }

    fn volume(&self) -> String {
        format!("berth-build-{}", self.task.uid)
    }

    /// Runs git once, in a container.
    async fn git(
        &self,
        step: &str,
        args: impl IntoIterator<Item = &str>,
        hosts: &[String],
        output: Output<'_>,
    ) -> Result<(), Failure> {
        let online = !hosts.is_empty() || matches!(output, Output::Log);
        let spec = HelperSpec {
            name: format!("berth-build-{}-{step}", self.task.uid),
            image: self.image.to_owned(),
            command: ["git"].into_iter().chain(args).map(str::to_owned).collect(),
            env: environment(),
            labels: [(labels::BUILD.to_owned(), self.task.uid.clone())].into(),
            working_dir: Some("/app".to_owned()),
            user: Some("65532:65532".to_owned()),
            network: if online { HelperNetwork::Outside } else { HelperNetwork::None },
            volumes: vec![VolumeMount { volume: self.volume(), path: "/app".to_owned(), read_only: false }],
            tmpfs: vec![("/tmp".to_owned(), 16 << 20)],
            files: Some(self.files(online).map_err(|e| Failure::new("CloneFailed", e.to_string()))?),
            cpu_millis: self.task.cpu_millis.max(500),
            memory_bytes: MEMORY_BYTES,
            pids: PIDS,
            extra_hosts: hosts.to_vec(),
            keep: false,
        };
        let (sender, receiver) = mpsc::channel(16);
        let stop = self.cancel.child_token();
        let words = Mutex::new(Vec::new());
        let take = self.take(receiver, output, &words, &stop);
        let (ended, taken) = tokio::join!(self.workshop.run_helper(spec, sender, &stop), take);
        taken?;
        let ended = ended.map_err(|problem| engine_failure(&problem))?;
        if ended.code == 0 {
            return Ok(());
        }
        if ended.out_of_memory {
            return Err(Failure::new("OutOfMemory", "git needed more than 1 GiB of memory to fetch the source")
                .exit_code(ended.code));
        }
        let words = words.into_inner().unwrap_or_else(PoisonError::into_inner);
        Err(of_clone(&String::from_utf8_lossy(&words), &self.task.git.branch, ended.code))
    }

    async fn take(
        &self,
        mut receiver: mpsc::Receiver<Bytes>,
        output: Output<'_>,
        words: &Mutex<Vec<u8>>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let too_large = || {
            stop.cancel();
            Failure::new("CloneFailed", format!("the source has more than {} MiB", SOURCE_BYTES_MAX >> 20))
                .hint("keep large files elsewhere, or set spec.source.git.path")
        };
        let broken = |problem: std::io::Error| {
            stop.cancel();
            Failure::new("CloneFailed", format!("the source cannot be kept: {problem}"))
        };
        let mut file = match &output {
            Output::File(path) => Some(tokio::fs::File::create(path).await.map_err(broken)?),
            Output::Log | Output::Text(_) => None,
        };
        let mut output = output;
        let mut bytes = 0_u64;
        while let Some(piece) = receiver.recv().await {
            bytes += piece.len() as u64;
            match &mut output {
                Output::Log => {
                    self.log.lock().unwrap_or_else(PoisonError::into_inner).write(&piece);
                    let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
                    words.extend_from_slice(&piece);
                    // Only the end is ever asked for; git's progress comes before it.
                    let surplus = words.len().saturating_sub(SAID_BYTES_MAX);
                    words.drain(..surplus);
                    if received_bytes(&words).is_some_and(|received| received > SOURCE_BYTES_MAX) {
                        return Err(too_large());
                    }
                }
                Output::Text(text) if text.len() + piece.len() <= SAID_BYTES_MAX => text.extend_from_slice(&piece),
                Output::Text(_) => {}
                Output::File(_) if bytes > SOURCE_BYTES_MAX + (SOURCE_BYTES_MAX >> 2) => return Err(too_large()),
                Output::File(_) => {
                    if let Some(file) = &mut file {
                        file.write_all(&piece).await.map_err(broken)?;
                    }
                    if bytes <= SAID_BYTES_MAX as u64 {
                        words.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece);
                    }
                }
            }
        }
        if let Some(mut file) = file {
            file.flush().await.map_err(broken)?;
        }
        Ok(())
    }

    /// The lines for the container's hosts file: the addresses that the source's host has now, if all may be asked.
    async fn pinned_hosts(&self) -> Result<Vec<String>, Failure> {
        let url =
            Url::parse(&self.task.git.url).map_err(|e| Failure::new("CloneFailed", format!("the address: {e}")))?;
        let port = url.port_or_known_default().unwrap_or(22);
        let (name, addresses) = match url.host() {
            None => {
                return Err(Failure::new("CloneFailed", "the address has no host").hint("check spec.source.git.url"));
            }
            Some(Host::Ipv4(address)) => (None, vec![IpAddr::from(address)]),
            Some(Host::Ipv6(address)) => (None, vec![IpAddr::from(address)]),
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port)).await.map_err(|problem| {
                    Failure::new("CloneFailed", format!("the host {name} cannot be found: {problem}"))
                        .hint("check the host in spec.source.git.url")
                })?;
                (Some(name.to_owned()), found.map(|address: SocketAddr| address.ip()).collect())
            }
        };
        if let Some(private) = addresses.iter().find(|address| !may_be_asked(**address, self.networks)) {
            return Err(Failure::new("CloneFailed", format!("the source is at {private}, which is a private address"))
                .hint("the administrator can allow its network as a network of sources"));
        }
        // Docker takes an address in brackets for IPv6 in newer versions only; IPv4 comes first.
        let mut addresses = addresses;
        addresses.sort_by_key(IpAddr::is_ipv6);
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        check_answers(&addresses, port).await?;
        let line = |address: &IpAddr| name.as_ref().map(|name| format!("{name}:{address}"));
        Ok(addresses.iter().filter_map(line).collect())
    }

    /// The files that are put into a container: settings of git, and what signs in if it is to sign in.
    fn files(&self, online: bool) -> std::io::Result<Bytes> {
        let git = &self.task.git;
        let mut files = vec![
            ("berth/gitconfig", settings(git.url.starts_with("http://"), self.certificates.is_some())),
            // What the repository says of its own archive is not heeded: all files are wanted, as they are.
            ("berth/template/info/attributes", "* -export-ignore -export-subst\n".to_owned()),
        ];
        if let Some(certificates) = self.certificates {
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

fn environment() -> Vec<(String, String)> {
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

/// The last figure of `Receiving objects:  45% (9/20), 120.00 MiB | 10.00 MiB/s`.
fn received_bytes(words: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(words);
    let (_, rest) = text.rsplit_once("Receiving objects:")?;
    let (_, figures) = rest.split_once("), ")?;
    let mut figures = figures.split_whitespace();
    let (number, unit) = (figures.next()?, figures.next()?);
    let (whole, hundredths) = number.split_once('.').unwrap_or((number, "0"));
    let hundredths = whole.parse::<u64>().ok()?.checked_mul(100)? + hundredths.parse::<u64>().ok()?.min(99);
    let shift = ["bytes", "KiB", "MiB", "GiB"].iter().position(|known| *known == unit)?;
    Some((hundredths << (10 * shift)) / 100)
}

fn parse_commit(said: &[u8]) -> Option<Commit> {
    let text = String::from_utf8_lossy(said);
    let mut fields = text.split('\0');
    let sha = fields.next()?.trim().to_owned();
    let hex = [40, 64].contains(&sha.len()) && sha.bytes().all(|b| b.is_ascii_hexdigit());
    // People see these: no control characters, and no more than a line holds.
    let short = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(200).collect() };
    let author = short(fields.next()?);
    let time = Some(fields.next()?.to_owned()).filter(|time| time.parse::<jiff::Timestamp>().is_ok());
    let message = short(fields.next()?);
    hex.then_some(Commit { sha, message, author, time })
}

/// What the engine's own trouble means for a build.
pub(super) fn engine_failure(problem: &Error) -> Failure {
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
    fn a_commit_is_what_git_says_and_no_more() {
        let said =
            b"0123456789abcdef0123456789abcdef01234567\0Ada \x1b[31mLovelace\x002026-11-22T20:00:00+01:00\0Fix it\n\0";
        let commit = parse_commit(said).unwrap();
        assert_eq!((commit.author.as_str(), commit.message.as_str()), ("Ada [31mLovelace", "Fix it"));
        assert_eq!(commit.time.as_deref(), Some("2026-11-22T20:00:00+01:00"));
        assert_eq!(parse_commit(b"fatal: not a repository"), None);
    }

    #[test]
    fn progress_tells_how_much_came() {
        let words = b"Receiving objects:   1% (1/99)\rReceiving objects:  45% (9/20), 1.20 GiB | 10.00 MiB/s\r";
        assert_eq!(received_bytes(words), Some(120 * (1 << 30) / 100));
        assert_eq!(received_bytes(b"Cloning into 'x'"), None);
    }
}
