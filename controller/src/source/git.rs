//! Asks a Git repository what a branch points to.
//!
//! The host is looked up here, its addresses are judged, and Git is told to connect to one of those and to nothing
//! else: what a name means cannot change in between. What signs in goes through the environment and files of the
//! process's own, never through arguments, which everybody on the machine can read.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use ipnet::IpNet;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;
use url::{Host, Url};

use crds::address::may_be_asked;

use crate::credentials::Credentials;

/// A forge answers within a second or two; whoever takes longer is asked again later.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How long a host may take to accept a connection: three times what the far side of the world needs with a packet lost.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 3;
/// One line is expected. A repository cannot make us read on.
const OUTPUT_BYTES_MAX: u64 = 64 << 10;
/// What of Git's complaints is kept.
const ERROR_BYTES_MAX: u64 = 8 << 10;

/// The commit that a branch points to, or a sentence on why it cannot be told.
pub(super) async fn look_up(
    url: &str,
    branch: &str,
    access: &Credentials,
    allowed: &[IpNet],
) -> Result<String, String> {
    tokio::time::timeout(TIMEOUT, ask(url, branch, access, allowed))
        .await
        .unwrap_or_else(|_elapsed| Err(format!("the repository did not answer within {} s", TIMEOUT.as_secs())))
}

async fn ask(url: &str, branch: &str, access: &Credentials, allowed: &[IpNet]) -> Result<String, String> {
    let parsed = Url::parse(url).map_err(|error| format!("the address cannot be read: {error}"))?;
    let home = TempDir::new().map_err(|error| format!("no folder for the look-up could be made: {error}"))?;
    let peer = resolve(&parsed, allowed).await?;
    let mut git = Command::new("git");
    git.env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path())
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for setting in [
        "protocol.allow=never",
        "protocol.https.allow=always",
        "protocol.http.allow=always",
        "protocol.ssh.allow=always",
        "core.hooksPath=/dev/null",
        "credential.helper=",
        "http.followRedirects=false",
        // A transport that Git has started ends by itself if Git was ended.
        "http.lowSpeedLimit=1",
        "http.lowSpeedTime=20",
    ] {
        git.args(["-c", setting]);
    }
    if parsed.scheme() == "ssh" {
        ssh(&mut git, &parsed, peer, access, &home).await?;
    } else {
        https(&mut git, &parsed, peer, access);
    }
    let reference = format!("refs/heads/{branch}");
    git.args(["ls-remote", "--heads", "--", url, &reference]);
    let (output, complaint) = run(git).await?;
    let found = output.lines().filter_map(|line| line.split_once('\t')).find(|(_, name)| *name == reference);
    let commit = found.map(|(commit, _)| commit);
    match commit.filter(|commit| matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit())) {
        Some(commit) => Ok(commit.to_owned()),
        None if complaint.is_empty() => Err(format!("the repository has no branch {branch:?}")),
        None => Err(explained(&complaint, url)),
    }
}

/// Runs Git; its output, and its complaints if it did not end well.
async fn run(mut git: Command) -> Result<(String, String), String> {
    let failed = |error: std::io::Error| format!("git could not be run: {error}");
    let mut child = git.spawn().map_err(failed)?;
    let (Some(output), Some(complaint)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("git could not be run: it has no output".to_owned());
    };
    let (mut text, mut error) = (Vec::new(), Vec::new());
    let mut output = BufReader::new(output).take(OUTPUT_BYTES_MAX);
    let mut complaint = BufReader::new(complaint).take(ERROR_BYTES_MAX);
    tokio::try_join!(output.read_to_end(&mut text), complaint.read_to_end(&mut error)).map_err(failed)?;
    // Whoever writes more than is read has its pipe closed, and ends.
    drop((output, complaint));
    let status = child.wait().await.map_err(failed)?;
    let error = if status.success() { String::new() } else { String::from_utf8_lossy(&error).into_owned() };
    let error = if !status.success() && error.trim().is_empty() { format!("git ended with {status}") } else { error };
    Ok((String::from_utf8_lossy(&text).into_owned(), error))
}

/// An address of the host that may be connected to.
async fn resolve(url: &Url, allowed: &[IpNet]) -> Result<SocketAddr, String> {
    let port = url.port_or_known_default().unwrap_or(22);
    let addresses: Vec<SocketAddr> = match url.host() {
        None => return Err("the address has no host".to_owned()),
        Some(Host::Ipv4(ip)) => vec![SocketAddr::new(IpAddr::V4(ip), port)],
        Some(Host::Ipv6(ip)) => vec![SocketAddr::new(IpAddr::V6(ip), port)],
        Some(Host::Domain(name)) => tokio::net::lookup_host((name, port))
            .await
            .map_err(|_error| format!("the host {name} was not found"))?
            .collect(),
    };
    let host = url.host_str().unwrap_or_default();
    // All of them: one that is refused beside one that is not is an attempt to get past this.
    if addresses.iter().any(|peer| !may_be_asked(peer.ip(), allowed)) {
        return Err(format!("the host {host} is not on the public internet, where sources must be"));
    }
    // Git waits for a host that takes no connections until its time is over, and others wait for this place.
    for peer in addresses.iter().take(ADDRESSES_MAX) {
        if let Ok(Ok(_)) = tokio::time::timeout(CONNECT_WITHIN, tokio::net::TcpStream::connect(peer)).await {
            return Ok(*peer);
        }
    }
    Err(format!("the host {host} does not answer on port {port}"))
}

fn https(git: &mut Command, url: &Url, peer: SocketAddr, access: &Credentials) {
    if let Some(Host::Domain(host)) = url.host() {
        let address = match peer.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        git.args(["-c", &format!("http.curloptResolve={host}:{}:{address}", peer.port())]);
    }
    let Some(password) = &access.password else { return };
    // Forges take any user name beside a token.
    let user = access.username.as_deref().unwrap_or("git");
    let value = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let origin = url.origin().ascii_serialization();
    git.env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", format!("http.{origin}/.extraHeader"))
        .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {value}"));
}

async fn ssh(
    git: &mut Command,
    url: &Url,
    peer: SocketAddr,
    access: &Credentials,
    home: &TempDir,
) -> Result<(), String> {
    let (Some(key), Some(hosts)) = (&access.ssh_private_key, &access.known_hosts) else {
        return Err("an ssh address needs a Secret with ssh-privatekey and known_hosts, named in \
                    spec.source.git.credentials"
            .to_owned());
    };
    let host = url.host_str().unwrap_or_default();
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte)) {
        return Err("the host of an ssh address must be a plain name".to_owned());
    }
    let path = |name: &str| home.path().join(name);
    let config = format!(
        "Host *\n  HostName {}\n  HostKeyAlias {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  \
         UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
         ForwardAgent no\n  ConnectTimeout 10\n  ServerAliveInterval 5\n  ServerAliveCountMax 2\n",
        peer.ip(),
        host.trim_matches(['[', ']']),
        path("key").display(),
        path("known_hosts").display(),
    );
    // A key without its last line end is none to OpenSSH.
    for (name, text) in [("key", format!("{}\n", key.trim_end())), ("known_hosts", hosts.clone()), ("config", config)] {
        private(&path(name), text).await.map_err(|error| format!("the ssh key could not be kept: {error}"))?;
    }
    // The one value is a path that we made; nothing of a customer's is in it.
    git.env("GIT_SSH_COMMAND", format!("ssh -F {}", path("config").display())).env("GIT_SSH_VARIANT", "ssh");
    Ok(())
}

/// Writes a file that only we can read.
async fn private(path: &std::path::Path, text: String) -> std::io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let mut file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
    file.write_all(text.as_bytes()).await?;
    file.flush().await
}

/// Git's complaint in the words of somebody who filled in a form.
fn explained(complaint: &str, url: &str) -> String {
    let words = crds::git::words(complaint);
    let any = |needles: &[&str]| needles.iter().any(|needle| words.contains(needle));
    if any(&["could not read username", "authentication failed", "error: 403", "error: 401"]) {
        return "the repository is private or does not exist: name a Secret with username and password in \
                spec.source.git.credentials"
            .to_owned();
    }
    if any(&["permission denied (publickey"]) {
        return "the ssh key of the Secret is not accepted by the repository's host".to_owned();
    }
    if any(&["host key verification failed"]) {
        return "the host's key is not among the known_hosts of the Secret".to_owned();
    }
    if any(&["not found", "does not appear to be a git repository"]) {
        return "there is no such repository".to_owned();
    }
    if any(&["could not resolve host", "couldn't connect", "failed to connect", "connection refused", "timed out"]) {
        return "the repository's host does not answer".to_owned();
    }
    let line = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = line.trim().trim_start_matches("fatal: ").replace(url, &crds::git::redacted(url));
    line.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;

    use super::*;

    /// A repository as a plain web server has it, which asks for a password under `/private.git`.
    async fn forge() -> String {
        let refs = || async {
            format!("{}\trefs/heads/main\n{}\trefs/heads/x/refs/heads/old\n", "1".repeat(40), "2".repeat(40))
        };
        let private = |headers: HeaderMap| async move {
            match headers.get("authorization").and_then(|value| value.to_str().ok()) {
                // "ada:secret"
                Some("Basic YWRhOnNlY3JldA==") => Ok(format!("{}\trefs/heads/main\n", "3".repeat(40))),
                _ => Err((StatusCode::UNAUTHORIZED, [("www-authenticate", "Basic realm=x")])),
            }
        };
        let away = || async { (StatusCode::FOUND, [("location", "http://127.0.0.1:1/other.git/info/refs")]) };
        let router = Router::new()
            .route("/public.git/info/refs", get(refs))
            .route("/private.git/info/refs", get(private))
            .route("/away.git/info/refs", get(away));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        crate::task::spawn("forge", async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    fn local() -> Vec<IpNet> {
        vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]
    }

    #[tokio::test]
    async fn a_branch_is_looked_up_by_its_whole_name() {
        let forge = forge().await;
        let url = format!("{forge}/public.git");
        let none = Credentials::default();
        assert_eq!(look_up(&url, "main", &none, &local()).await, Ok("1".repeat(40)));
        let named = url.replace("127.0.0.1", "localhost");
        assert_eq!(look_up(&named, "main", &none, &local()).await, Ok("1".repeat(40)));
        assert_eq!(look_up(&url, "old", &none, &local()).await, Err("the repository has no branch \"old\"".to_owned()));
        let elsewhere = look_up(&format!("{forge}/nothing.git"), "main", &none, &local()).await;
        assert_eq!(elsewhere, Err("there is no such repository".to_owned()));
        let away = look_up(&format!("{forge}/away.git"), "main", &none, &local()).await;
        assert!(away.is_err(), "no redirection is followed: {away:?}");
    }

    #[tokio::test]
    async fn passwords_sign_in_and_their_lack_is_explained() {
        let url = format!("{}/private.git", forge().await);
        let access = Credentials {
            username: Some("ada".to_owned()),
            password: Some("secret".to_owned()),
            ..Credentials::default()
        };
        assert_eq!(look_up(&url, "main", &access, &local()).await, Ok("3".repeat(40)));
        let error = look_up(&url, "main", &Credentials::default(), &local()).await.unwrap_err();
        assert!(error.starts_with("the repository is private or does not exist"), "{error}");
    }

    #[test]
    fn what_a_server_answers_is_not_what_its_repositories_are_called() {
        let absent = "there is no such repository";
        let url = "http://127.0.0.1:40130/401.git";
        assert_eq!(explained(&format!("fatal: repository '{url}/' not found"), url), absent);
        let url = "http://127.0.0.1:40130/certificates.git";
        let refused =
            explained(&format!("fatal: unable to access '{url}/': The requested URL returned error: 403"), url);
        assert!(refused.starts_with("the repository is private"), "{refused}");
        let broken =
            explained(&format!("fatal: unable to access '{url}/': The requested URL returned error: 500"), url);
        assert!(broken.ends_with("The requested URL returned error: 500"), "{broken}");
    }

    #[tokio::test]
    async fn private_networks_are_not_asked() {
        let url = format!("{}/public.git", forge().await);
        let error = look_up(&url, "main", &Credentials::default(), &[]).await.unwrap_err();
        assert_eq!(error, "the host 127.0.0.1 is not on the public internet, where sources must be");
        let ssh = url.replace("http://", "ssh://git@");
        let error = look_up(&ssh, "main", &Credentials::default(), &local()).await.unwrap_err();
        assert!(error.starts_with("an ssh address needs a Secret"), "{error}");
    }
}
