//! What must be so before anything is started, each with what to do about it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use crate::args::Up;
use crate::failure::{Exit, fail};
use crate::up::process::Process;

/// Looks at the machine and says everything that is missing at once.
pub(crate) async fn machine(options: &Up) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !is_root() {
        missing.push("root: the agent runs containers, Nginx and firewall rules; run it with sudo".to_owned());
    }
    if let Some(problem) = docker(&options.docker_host).await {
        missing.push(problem);
    }
    for (program, package) in [("nginx", "nginx"), ("git", "git"), ("iptables", "iptables")] {
        if !is_installed(program) {
            missing.push(format!("{program}: install the package {package}"));
        }
    }
    let running = |name| !Process::new(&options.data, name).is_gone();
    if !running("server") && !is_free(options.listen).await {
        missing.push(format!("{}: another program listens there; choose another with --listen", options.listen));
    }
    if !running("agent") {
        for (port, option) in [(options.http_port, "--http-port"), (options.https_port, "--https-port")] {
            if !nginx_runs(&options.data) && !is_free(SocketAddr::from(([0, 0, 0, 0], port))).await {
                missing.push(format!("port {port}: another program listens there; choose another with {option}"));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join("\n  - ");
    Err(fail(
        Exit::Usage,
        format!("this machine is not ready. What is missing:\n  - {list}\n`make up` installs what it can."),
    ))
}

/// Whether Docker answers; what is wrong if not.
async fn docker(host: &str) -> Option<String> {
    let Some(path) = host.strip_prefix("unix://").or_else(|| host.strip_prefix("unix:")) else {
        return Some(format!("Docker: {host} is no unix socket; give --docker-host unix:///path"));
    };
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => None,
        Err(error) => Some(format!("Docker: nothing answers at {path} ({error}); install docker.io and start it")),
    }
}

/// Our own Nginx goes on while the agent is down.
fn nginx_runs(data: &Path) -> bool {
    std::fs::read_to_string(data.join("agent").join("nginx").join("nginx.pid"))
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists())
}

/// Whether nobody listens there. A program that has just been killed holds its sockets for a moment longer.
async fn is_free(address: SocketAddr) -> bool {
    const LOOKS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(50);
    for _look in 0..LOOKS {
        if TcpListener::bind(address).is_ok() {
            return true;
        }
        tokio::time::sleep(PAUSE).await;
    }
    false
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .is_some_and(|ids| ids.split_whitespace().nth(1) == Some("0"))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}
