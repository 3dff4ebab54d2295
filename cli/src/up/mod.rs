//! `berth up` and `berth down`: Berth on one machine, with one command.
//!
//! `up` looks at what is there and does what is missing, so it can be run again at any time: after a failure, after a
//! reboot, after an upgrade of the program.

mod checks;
mod example;
mod process;

pub(crate) use process::write_private;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::Instant;

use crate::args::{Down, Up};
use crate::client::{self, Progress, Session};
use crate::failure::{Exit, fail};
use crate::print;
use process::Process;

/// Where `up` keeps everything, unless told otherwise.
pub(crate) const DEFAULT_DATA: &str = "/var/lib/berth";
/// The master key of the server that `berth up` starts.
pub(crate) const DEFAULT_MASTER_KEY: &str = "/var/lib/berth/server/master.key";
/// Where `berth up` has its server's data.
pub(crate) const DEFAULT_SERVER_DATA: &str = "/var/lib/berth/server";
/// The plans and runtimes of a new installation.
const DEFAULTS: &[&str] =
    &[include_str!("../../../manifests/plans.yaml"), include_str!("../../../manifests/runtimes.yaml")];

pub(crate) async fn up(options: &Up) -> anyhow::Result<()> {
    checks::machine(options).await?;
    let data = &options.data;
    for folder in ["server", "agent", "log", "run", "git"] {
        let folder = data.join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let address = own_address();
    let progress = Progress::new();

    progress.say("starting the server");
    let server = Process::new(data, "server");
    server.ensure(&server_arguments(options, address))?;
    let session = until_serving(&server, &data.join("server").join("admin.kubeconfig"), options.listen).await?;
    step("The server is ready.");

    progress.say("applying the default plans and runtimes");
    for text in DEFAULTS {
        client::create_missing(&session, text).await?;
    }
    step("Plans and runtimes are in place: berth get plans,runtimes");

    progress.say("starting the agent");
    let agent = Process::new(data, "agent");
    let token_file = data.join("agent").join("token");
    if !data.join("agent").join("identity.json").exists() {
        let token = client::join_token(&session, "default", 3600, 1).await?;
        write_private(&token_file, token.as_bytes())?;
    }
    agent.ensure(&agent_arguments(options, address, &token_file))?;
    until_node_ready(&session, &agent, &progress).await?;
    step("This machine is a node.");

    let mut url = None;
    if let Some(folder) = &options.example {
        progress.say("deploying the example");
        let repository = example::repository(folder, &data.join("git"))?;
        let git = Process::new(data, "git");
        let listen = SocketAddr::new(address, options.git_port);
        git.ensure(&[
            "git".into(),
            "serve".into(),
            "--root".into(),
            data.join("git").into(),
            "--listen".into(),
            listen.to_string().into(),
        ])?;
        let application = example::application(folder, &format!("http://{listen}/{repository}"))?;
        let applied = client::apply_documents(&session, vec![application], false).await?;
        let example = applied.first().context("the example is one application")?;
        let address = client::until_ready(&session, example, 900, &progress).await?;
        // Its status may be of before everything was stopped: what is printed is what answers.
        example::until_it_answers(&address, options.http_port, &progress).await?;
        url = Some(address);
    }
    drop(progress);
    print::line(&farewell(options, url.as_deref()));
    Ok(())
}

fn step(text: &str) {
    print::note(&format!("✓ {text}"));
}

fn farewell(options: &Up, url: Option<&str>) -> String {
    let kubeconfig = options.data.join("server").join("admin.kubeconfig");
    let example = url.map_or_else(String::new, |url| {
        let host = url.trim_start_matches("http://").split(['/', ':']).next().unwrap_or_default();
        format!(
            "\nThe example is served at {url}\n  curl --resolve '{host}:{port}:127.0.0.1' {url}\n",
            port = options.http_port
        )
    });
    format!(
        "\nBerth is up.\n{example}\nUse kubectl, or berth itself:\n  export KUBECONFIG={}\n  kubectl get berth -A\n  \
         berth get applications\n\nStop it with `berth down --data {}`; the data stays.",
        kubeconfig.display(),
        options.data.display()
    )
}

fn server_arguments(options: &Up, address: IpAddr) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec!["server".into(), "--data".into()];
    arguments.push(options.data.join("server").into());
    arguments.extend(["--listen".into(), options.listen.to_string().into()]);
    arguments.extend(["--platform-domain".into(), options.platform_domain.clone().into()]);
    arguments.extend(["--http-port".into(), options.http_port.to_string().into()]);
    arguments
        .extend(["--source-network".into(), format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }).into()]);
    arguments
}

fn agent_arguments(options: &Up, address: IpAddr, token_file: &Path) -> Vec<std::ffi::OsString> {
    let mut arguments: Vec<std::ffi::OsString> = vec!["agent".into(), "--server".into()];
    arguments.push(format!("https://{}", options.listen).into());
    arguments.extend(["--token-file".into(), token_file.into()]);
    arguments.extend(["--data".into(), options.data.join("agent").into()]);
    arguments.extend(["--docker-host".into(), options.docker_host.clone().into()]);
    arguments.extend(["--http-port".into(), options.http_port.to_string().into()]);
    arguments.extend(["--https-port".into(), options.https_port.to_string().into()]);
    arguments
        .extend(["--source-network".into(), format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 }).into()]);
    if let Some(file) = &options.extra_ca {
        arguments.extend(["--extra-ca".into(), file.into()]);
    }
    arguments
}

/// The address by which containers on this machine reach it: that of the way out, or of Docker's own bridge.
fn own_address() -> IpAddr {
    let outward = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        // Connecting a datagram socket sends nothing: it only asks the kernel for the way.
        socket.connect(("198.51.100.1", 9))?;
        Ok(socket.local_addr()?.ip())
    };
    outward().unwrap_or_else(|_no_way_out| IpAddr::from([172, 17, 0, 1]))
}

/// Waits until the server answers that it is ready.
async fn until_serving(server: &Process, kubeconfig: &Path, listen: SocketAddr) -> anyhow::Result<Session> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        if kubeconfig.exists() {
            let session = client::connect_with(kubeconfig, None).await?;
            let request = http::Request::get("/readyz").body(Vec::new())?;
            if session.client.request_text(request).await.is_ok_and(|answer| answer.trim() == "ok") {
                return Ok(session);
            }
        }
        if Instant::now() >= deadline || !server.is_running() {
            let log = server.log_tail();
            return Err(fail(
                Exit::Failed,
                format!("the server does not answer at {listen}. The end of its log:\n{log}"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_node_ready(session: &Session, agent: &Process, progress: &Progress) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_mins(2);
    loop {
        let nodes = session.send("GET", "/apis/berth.dev/v1alpha1/nodes", "application/json").await?;
        let ready = |node: &Value| {
            node["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        if nodes["items"].as_array().is_some_and(|items| items.iter().any(ready)) {
            return Ok(());
        }
        progress.say("waiting until this machine is ready as a node");
        if Instant::now() >= deadline || !agent.is_running() {
            let log = agent.log_tail();
            return Err(fail(
                Exit::Failed,
                format!("this machine does not become a node. The end of the agent's log:\n{log}"),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) async fn down(options: &Down) -> anyhow::Result<()> {
    if !options.data.join("run").exists() {
        return Err(fail(Exit::NotFound, format!("nothing was started with --data {}", options.data.display())));
    }
    let progress = Progress::new();
    for name in ["git", "agent", "server"] {
        progress.say(format!("stopping the {name}"));
        Process::new(&options.data, name).stop().await?;
    }
    if !options.keep_applications {
        progress.say("stopping the applications");
        if let Some(docker_host) = Process::new(&options.data, "agent").argument("--docker-host") {
            node_agent::stop_all(&options.data.join("agent"), &docker_host).await?;
        }
    }
    drop(progress);
    print::note(&format!("Berth is stopped; its data stays in {}.", options.data.display()));
    Ok(())
}
