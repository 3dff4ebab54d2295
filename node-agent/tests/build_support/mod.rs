//! Repositories, a server for them, and runtimes as a new installation has them.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;
use crds::application::BuildOptions;
use crds::runtime::{Language, Presets};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use node_protocol::{BuildTask, GitAccess, RuntimeChoice};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Repositories served over HTTP by git's own program, from an address that containers reach.
pub(crate) struct GitServer {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    _tasks: JoinSet<()>,
}

/// An agent's firewall on this machine, ours or one of another test, keeps builds away from the host; this lets them
/// reach the server's port. Fails where there is no firewall, which is as good.
fn firewall(change: &str, port: u16) {
    let rule = ["-i", "bth-o+", "-p", "tcp", "--dport", &port.to_string(), "-j", "ACCEPT"];
    let place: &[&str] = if change == "-I" { &["-I", "INPUT", "1"] } else { &["-D", "INPUT"] };
    drop(Command::new("iptables").arg("-w").args(place).args(rule).output());
}

impl Drop for GitServer {
    fn drop(&mut self) {
        firewall("-D", self.port);
    }
}

impl GitServer {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        firewall("-I", port);
        let mut tasks = JoinSet::new();
        let root = folder.path().to_owned();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let root = root.clone();
                let service = service_fn(move |request| answer(root.clone(), request));
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move { drop(server.serve_connection(TokioIo::new(stream), service).await) });
            }
        });
        Self { folder, address: own_address(), port, _tasks: tasks }
    }

    /// Makes a repository of some files and gives its address.
    pub(crate) fn repository(&self, name: &str, files: &[(&str, &str)]) -> String {
        let work = self.folder.path().join(format!("{name}.work"));
        for (path, text) in files {
            let file = work.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        self.publish(name, &work)
    }

    /// Makes a repository of a folder.
    pub(crate) fn repository_of(&self, name: &str, folder: &Path) -> String {
        let work = self.folder.path().join(format!("{name}.work"));
        let status = Command::new("cp").arg("-r").arg(folder).arg(&work).status().unwrap();
        assert!(status.success());
        self.publish(name, &work)
    }

    /// Commits what a folder holds and makes it the branch `main` of a bare repository.
    pub(crate) fn publish(&self, name: &str, work: &Path) -> String {
        if !work.join(".git").exists() {
            git(work, &["init", "-q", "-b", "main"]);
        }
        git(work, &["add", "-A"]);
        git(
            work,
            &[
                "-c",
                "user.name=Ada Lovelace",
                "-c",
                "user.email=ada@example.com",
                "commit",
                "-q",
                "-m",
                "Say hello\n\nAt length.",
            ],
        );
        let bare = self.folder.path().join(format!("{name}.git"));
        if !bare.exists() {
            git(self.folder.path(), &["init", "-q", "--bare", "-b", "main", bare.to_str().unwrap()]);
            git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        }
        git(work, &["push", "-q", "--force", bare.to_str().unwrap(), "main"]);
        format!("http://{}:{}/{name}.git", self.address, self.port)
    }
}

pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(folder).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The address by which this machine reaches others; no packet is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

async fn answer(root: PathBuf, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    if head.uri.path().starts_with("/private.git") && !head.headers.contains_key("authorization") {
        let refusal = Response::builder().status(401).header("www-authenticate", "Basic realm=\"git\"");
        return Ok(refusal.body(Full::default()).unwrap());
    }
    let body = body.collect().await?.to_bytes();
    let header =
        |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", head.uri.path())
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let ((), output) = tokio::join!(
        async move {
            // The program may have seen enough before it has read all.
            drop(stdin.write_all(&body).await);
        },
        child.wait_with_output()
    );
    let output = output.unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(0);
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap().parse::<u16>().unwrap()),
            name => response.header(name, value),
        };
    }
    Ok(response.body(Full::from(output[end + 4..].to_vec())).unwrap())
}

/// The runtimes of a new installation.
pub(crate) fn runtimes() -> Vec<RuntimeChoice> {
    let choice = |name: &str, language, version: &str, build: Option<&str>, run: Option<&str>, start: Option<&str>| {
        RuntimeChoice {
            name: name.to_owned(),
            language,
            version: version.to_owned(),
            build_image: build.map(str::to_owned),
            run_image: run.map(str::to_owned),
            presets: Presets { start: start.map(str::to_owned), port: run.map(|_| 8080), ..Presets::default() },
        }
    };
    let mut all: Vec<RuntimeChoice> = ["18", "20", "22", "24"]
        .iter()
        .map(|version| {
            let (run, build) = (format!("berth/nodejs:{version}"), format!("berth/nodejs:{version}-build"));
            choice(&format!("nodejs-{version}"), Language::NodeJs, version, Some(&build), Some(&run), None)
        })
        .collect();
    all.extend([
        choice(
            "python-3.11",
            Language::Python,
            "3.11",
            Some("berth/python:3.11-build"),
            Some("berth/python:3.11"),
            None,
        ),
        choice(
            "php-8.2",
            Language::Php,
            "8.2",
            Some("berth/php:8.2-build"),
            Some("berth/php:8.2"),
            Some("/usr/local/bin/berth-php"),
        ),
        choice(
            "static",
            Language::Static,
            "",
            Some("berth/nodejs:22-build"),
            Some("berth/static:1"),
            Some("/usr/local/bin/berth-static"),
        ),
        choice("dockerfile", Language::Dockerfile, "", None, None, None),
    ]);
    all
}

/// A build of a repository's branch `main`.
pub(crate) fn task(name: &str, url: &str) -> BuildTask {
    let uid = uuid::Uuid::new_v4().to_string();
    BuildTask {
        image: format!("berth/test-{}/{name}:latest", &uid[..8]),
        uid,
        namespace: "acme".to_owned(),
        name: format!("{name}-1"),
        application: name.to_owned(),
        cancel: false,
        git: GitAccess {
            url: url.to_owned(),
            branch: "main".to_owned(),
            commit: None,
            path: ".".to_owned(),
            username: None,
            password: None,
            ssh_private_key: None,
            known_hosts: None,
        },
        runtimes: runtimes(),
        detect: true,
        options: BuildOptions::default(),
        start_command: None,
        port: None,
        cpu_millis: 2000,
        memory_bytes: 1 << 30,
        timeout_milliseconds: 300_000,
    }
}

/// What is there of containers, volumes and images that bear a label.
pub(crate) fn left_over(docker_host: &str, label: &str) -> BTreeMap<&'static str, String> {
    let list = |args: &[&str]| {
        let output = Command::new("docker").env("DOCKER_HOST", docker_host).args(args).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let filter = format!("label={label}");
    BTreeMap::from([
        ("containers", list(&["ps", "-aq", "--filter", &filter])),
        ("volumes", list(&["volume", "ls", "-q", "--filter", &filter])),
    ])
}
