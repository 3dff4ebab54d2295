//! Asks an instance whether it is well, over its project's network: nothing is needed inside the container.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use node_protocol::HealthProbe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::observed::Health;

/// The first look at a started container comes after this, the next ones after twice the last time, up to
/// [`STARTING_DELAY_MAX`]: what starts in 20 ms is seen at once, what takes a minute is not asked a thousand times.
const STARTING_DELAY: Duration = Duration::from_millis(10);
const STARTING_DELAY_MAX: Duration = Duration::from_millis(250);
/// The shortest time between two probes of a running instance.
const INTERVAL_MIN: Duration = Duration::from_millis(250);
/// How much of an answer is read: its first line is in there.
const ANSWER_BYTES: usize = 1024;

/// What is probed and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Id of its container.
    pub(crate) container: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// How it is asked.
    pub(crate) probe: HealthProbe,
    /// When the container was started: another start is another life.
    pub(crate) started_at: Option<Timestamp>,
}

/// What was wrong with one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwell {
    /// For a person.
    pub(crate) message: String,
    /// Whether nobody listens at all.
    pub(crate) port_closed: bool,
}

/// What the probes of a container have found; sent when it matters.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// Id of the container.
    pub(crate) container: String,
    /// How it is.
    pub(crate) health: Health,
}

/// Probes until it is aborted or nobody listens.
pub(crate) async fn watch(target: Target, mut health: Health, findings: mpsc::Sender<Finding>) {
    let grace = Duration::from_millis(target.probe.grace_milliseconds);
    let interval = Duration::from_millis(target.probe.interval_milliseconds).max(INTERVAL_MIN);
    let began = Instant::now();
    let mut delay = STARTING_DELAY;
    loop {
        sleep(delay).await;
        let before = health.clone();
        judge(&mut health, target.probe.failures, probe(&target).await);
        let starting = !health.was_ready && began.elapsed() < grace;
        delay = if starting { (delay * 2).min(STARTING_DELAY_MAX) } else { interval };
        if matters(&before, &health) {
            let finding = Finding { container: target.container.clone(), health: health.clone() };
            if findings.send(finding).await.is_err() {
                return;
            }
        }
    }
}

/// Takes one result in: ready after one good answer, not ready after as many bad ones in a row as the probe says.
fn judge(health: &mut Health, failures_max: u32, result: Result<(), Unwell>) {
    match result {
        Ok(()) => *health = Health { ready: true, was_ready: true, ..Health::default() },
        Err(unwell) => {
            health.failures = health.failures.saturating_add(1);
            health.message = Some(unwell.message);
            health.port_closed = unwell.port_closed;
            if health.failures >= failures_max.max(1) {
                health.ready = false;
            }
        }
    }
}

/// Whether the agent must know. While an instance starts only the kind of trouble counts, not each failure.
fn matters(before: &Health, after: &Health) -> bool {
    let starting = !before.was_ready && !after.was_ready;
    before.ready != after.ready
        || before.port_closed != after.port_closed
        || before.message != after.message
        || (!starting && !after.ready && before.failures != after.failures)
}

/// One probe.
async fn probe(target: &Target) -> Result<(), Unwell> {
    let limit = Duration::from_millis(target.probe.timeout_milliseconds.max(1));
    let late = |_| Unwell { message: format!("no answer within {} ms", limit.as_millis()), port_closed: false };
    timeout(limit, ask(target.address, target.probe.path.as_deref())).await.map_err(late)?
}

async fn ask(address: SocketAddr, path: Option<&str>) -> Result<(), Unwell> {
    let mut connection = TcpStream::connect(address).await.map_err(|error| Unwell {
        message: format!("cannot connect to port {}: {error}", address.port()),
        port_closed: error.kind() == std::io::ErrorKind::ConnectionRefused,
    })?;
    let Some(path) = path else { return Ok(()) };
    let broken = |error: std::io::Error| Unwell { message: format!("GET {path}: {error}"), port_closed: false };
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unwell { message: format!("{path:?} is no path"), port_closed: false });
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: berth-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    while answer.len() < ANSWER_BYTES && !answer.contains(&b'\n') {
        if connection.read_buf(&mut answer).await.map_err(broken)? == 0 {
            break;
        }
    }
    match status(&answer) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(Unwell { message: format!("GET {path} answered {status}"), port_closed: false }),
        None => Err(Unwell { message: format!("GET {path} got an answer that is not HTTP"), port_closed: false }),
    }
}

/// The status code of an answer's first line.
fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\n').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let code = rest.get(2..5)?;
    (rest.get(1) == Some(&b' ')).then(|| std::str::from_utf8(code).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one connection with these bytes.
    async fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(connection.read(&mut request).await.unwrap() > 0);
            connection.write_all(answer).await.unwrap();
        });
        tasks.detach_all();
        address
    }

    #[tokio::test]
    async fn answers_from_200_to_399_are_well() {
        for (answer, well) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], true),
            (b"HTTP/1.0 302 Found\r\n\r\n", true),
            (b"HTTP/1.1 404 Not Found\r\n\r\n", false),
            (b"HTTP/1.1 500 Oops\r\n\r\n", false),
            (b"SSH-2.0-OpenSSH\r\n", false),
            (b"", false),
        ] {
            let address = server(answer).await;
            assert_eq!(ask(address, Some("/")).await.is_ok(), well, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_told_from_a_bad_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(ask(address, None).await, Ok(()));
        drop(listener);
        assert!(ask(address, None).await.unwrap_err().port_closed);
    }

    #[tokio::test]
    async fn a_path_cannot_smuggle_a_header() {
        let address = server(b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert!(ask(address, Some("/ HTTP/1.1\r\nX: y")).await.is_err());
    }

    #[test]
    fn ready_at_once_and_unready_after_some_failures() {
        let unwell = || Err(Unwell { message: "no".to_owned(), port_closed: false });
        let mut health = Health::default();
        judge(&mut health, 2, Ok(()));
        judge(&mut health, 2, unwell());
        assert!(health.ready);
        judge(&mut health, 2, unwell());
        assert!(!health.ready && health.was_ready && health.failures == 2);
        judge(&mut health, 2, Ok(()));
        assert!(health.ready && health.failures == 0);
    }
}
