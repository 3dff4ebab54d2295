//! Row 12: requests that fail while an application is rolled out again and again, under load. Beside it what an Nginx
//! does whose every change is a reload, which is the usual way.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use e2e::{Platform, free_port};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::float;
use crate::http::Connection;
use crate::measure::Setting;
use crate::measure::deploy::Deployments;
use crate::measure::limits::program;
use crate::process::Process;
use crate::row::Figure;

const ROLLOUTS: u32 = 10;
const CLIENTS: usize = 16;
/// A rollout takes a second or two, and its drain as much again.
const ROLLOUT_SECONDS_MAX: u64 = 90;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let platform = Platform::start().await?;
    let mut deployments = Deployments::new(&platform).await?;
    deployments.create("rolled", json!({"instances": 2, "rollout": {"drain": "1s"}})).await?;
    deployments.until_served("rolled").await?;
    let load = Load::start(deployments.nginx(), &Deployments::host("rolled"));
    let rolled = roll(&mut deployments).await.inspect_err(|_| platform.show_logs());
    let berth = load.finish().await?;
    rolled?;
    deployments.delete("rolled").await?;
    drop(platform);
    let nginx = reloads(&setting.fresh_folder("nginx")?).await?;
    let peer = "nginx reloaded as often";
    Ok(vec![
        Figure::at_most("12 failed requests in 10 rollouts", "", vec![float(berth.failed)], 0.0)
            .beside(peer, vec![float(nginx.failed)])
            .meaning("goal of the design; a request failed if it was sent and got no good answer"),
        Figure::at_least("12 requests in 10 rollouts", "", vec![float(berth.good)], 10_000.0)
            .beside(peer, vec![float(nginx.good)])
            .meaning("how many requests the failures are out of: enough for a failure to show"),
        Figure::at_least("12 requests a second during rollouts", "1/s", vec![berth.rate()], 1_000.0)
            .beside(peer, vec![nginx.rate()])
            .meaning("the load under which was rolled out; the peer's Nginx answers by itself"),
    ])
}

/// Changes what the application says, and waits until it says nothing else.
async fn roll(deployments: &mut Deployments) -> anyhow::Result<()> {
    for number in 1..=ROLLOUTS {
        let text = format!("version {number}");
        let patch = json!({"spec": {"env": [{"name": "MESSAGE", "value": text}]}});
        deployments.patch("rolled", &patch).await?;
        let deadline = Instant::now() + Duration::from_secs(ROLLOUT_SECONDS_MAX);
        let mut in_a_row = 0;
        // With two instances, ten answers of the new version in a row mean that the old one is out of the route.
        while in_a_row < 10 {
            let (_, body) = deployments.page("rolled").await?;
            in_a_row = if body.starts_with(text.as_bytes()) { in_a_row + 1 } else { 0 };
            anyhow::ensure!(Instant::now() < deadline, "rollout {number} does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// The peer: an Nginx that is told to read its configuration anew, as often and about as far apart as the rollouts.
async fn reloads(folder: &Path) -> anyhow::Result<Report> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let configuration = format!(
        "daemon off; worker_processes auto; pid {folder}/nginx.pid; error_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; server {{ listen {address}; location / {{ return 200 ok; }} }} }}\n",
        folder = folder.display(),
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration)?;
    let nginx = program("nginx");
    let arguments = ["-c".as_ref(), file.as_os_str(), "-p".as_ref(), folder.as_os_str()];
    let mut process = Process::start(&nginx, arguments, &folder.join("nginx.log"))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !crate::docker::answers(address).await {
        process.check()?;
        anyhow::ensure!(Instant::now() < deadline, "Nginx does not answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let load = Load::start(address, "localhost");
    for _ in 0..ROLLOUTS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut reload = tokio::process::Command::new(&nginx);
        reload.args(arguments).args(["-s", "reload"]);
        anyhow::ensure!(reload.output().await?.status.success(), "Nginx does not reload");
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let report = load.finish().await?;
    process.stop().await?;
    Ok(report)
}

/// What became of the requests.
#[derive(Debug, Default)]
struct Report {
    good: usize,
    failed: usize,
    time: Duration,
}

impl Report {
    fn rate(&self) -> f64 {
        float(self.good) / self.time.as_secs_f64()
    }
}

/// Clients that ask without a pause, each on a connection that is kept.
struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Report>,
    begin: Instant,
}

impl Load {
    fn start(address: SocketAddr, host: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stop, host) = (Arc::clone(&stop), host.to_owned());
            clients.spawn(async move {
                let mut report = Report::default();
                let mut open = None;
                while !stop.load(Ordering::Relaxed) {
                    open = ask(open, address, &host, &mut report).await;
                }
                report
            });
        }
        Self { stop, clients, begin: Instant::now() }
    }

    async fn finish(self) -> anyhow::Result<Report> {
        let time = self.begin.elapsed();
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Report { time, ..Report::default() };
        for report in self.clients.join_all().await {
            total.good += report.good;
            total.failed += report.failed;
        }
        anyhow::ensure!(total.good > 0, "no request was answered");
        Ok(total)
    }
}

/// One request; the connection, if it can be used again. A connection that the other side closed before anything was sent
/// on it fails no request: the next one is sent on a new connection, as every client does.
async fn ask(open: Option<Connection>, address: SocketAddr, host: &str, report: &mut Report) -> Option<Connection> {
    let mut connection = match open {
        Some(connection) => connection,
        None => match Connection::tcp(address, host).await.context("cannot connect") {
            Ok(connection) => connection,
            Err(_refused) => {
                report.failed += 1;
                return None;
            }
        },
    };
    if connection.ready().await.is_err() {
        return None;
    }
    match connection.call(http::Method::GET, "/", bytes::Bytes::new()).await {
        Ok((200, _)) => report.good += 1,
        Ok(_) => report.failed += 1,
        Err(_broken) => {
            report.failed += 1;
            return None;
        }
    }
    Some(connection)
}
