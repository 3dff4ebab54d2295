//! Row 5: from sending a create until a watcher has its event, and whether every watcher gets every event; row 103: the
//! same on PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use e2e::Postgres;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::etcd::wire::{PutRequest, PutResponse, WatchResponse};
use crate::etcd::{self, Channel, Etcd, Messages};
use crate::figures::{Figures, Times, float};
use crate::http::Connection;
use crate::load::{Client, fill};
use crate::measure::Setting;
use crate::measure::create::each;
use crate::row::Figure;
use crate::server::{OWN, Server, create_namespace, object};

/// A watcher that hears nothing for so long has lost what is still missing.
const SILENCE_SECONDS_MAX: u64 = 20;
/// The row has several cases, and each of its repetitions is a hundred thousand events: three say enough.
const REPETITIONS_MAX: u32 = 3;

/// Who watches what while it is written.
struct Case {
    watchers: usize,
    /// Over how many namespaces the writes go; each watcher watches one.
    namespaces: usize,
    /// Writes a second; `None`: as fast as 64 clients can.
    pace: Option<f64>,
    writes: usize,
    writers: usize,
    goal_p99: f64,
    name: &'static str,
}

const CASES: &[Case] = &[
    Case {
        watchers: 5,
        namespaces: 1,
        pace: None,
        writes: 20_000,
        writers: 64,
        goal_p99: 20.0,
        name: "5 watch 5 watchers of all, 64 writers at full speed",
    },
    Case {
        watchers: 20,
        namespaces: 1,
        pace: None,
        writes: 20_000,
        writers: 64,
        goal_p99: 20.0,
        name: "5 watch 20 watchers of all, 64 writers at full speed",
    },
    Case {
        watchers: 50,
        namespaces: 1,
        pace: Some(1_000.0),
        writes: 4_000,
        writers: 16,
        goal_p99: 20.0,
        name: "5 watch 50 watchers of all, 1000 writes/s",
    },
    Case {
        watchers: 1_000,
        namespaces: 1_000,
        pace: Some(1_000.0),
        writes: 4_000,
        writers: 16,
        goal_p99: 20.0,
        name: "5 watch 1000 watchers of a namespace each, 1000 writes/s",
    },
    Case {
        watchers: 1_000,
        namespaces: 1,
        pace: Some(20.0),
        writes: 200,
        writers: 4,
        goal_p99: 100.0,
        name: "5 watch 1000 watchers of all, 20 writes/s",
    },
];

const POSTGRES_CASES: &[Case] = &[
    Case {
        watchers: 50,
        namespaces: 1,
        pace: Some(500.0),
        writes: 2_000,
        writers: 16,
        goal_p99: 40.0,
        name: "103 watch 50 watchers of all, 500 writes/s, PostgreSQL",
    },
    Case {
        watchers: 1_000,
        namespaces: 1_000,
        pace: Some(500.0),
        writes: 2_000,
        writers: 16,
        goal_p99: 40.0,
        name: "103 watch 1000 watchers of a namespace each, 500 writes/s, PostgreSQL",
    },
    Case {
        watchers: 1_000,
        namespaces: 1,
        pace: Some(20.0),
        writes: 200,
        writers: 4,
        goal_p99: 100.0,
        name: "103 watch 1000 watchers of all, 20 writes/s, PostgreSQL",
    },
];

impl Case {
    /// The goal's meaning.
    fn meaning(&self) -> &'static str {
        if self.goal_p99 > 20.0 {
            "the design has no goal for this case: every event is sent a thousand times, or goes through a database"
        } else {
            "goal of the design, which speaks of 1,000 watchers at 1,000 writes/s, for every case"
        }
    }
}

/// What one repetition of a case came to.
struct Outcome {
    latency: Figures,
    lost: f64,
    written_per_second: f64,
}

pub(crate) async fn on_sqlite(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    measure(setting, CASES, || Ok(None)).await
}

pub(crate) async fn on_postgres(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    measure(setting, POSTGRES_CASES, || Postgres::new().map(Some)).await
}

async fn measure(
    setting: &Setting,
    cases: &[Case],
    database: fn() -> anyhow::Result<Option<Postgres>>,
) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for case in cases {
        let (mut berth, mut others) = (Vec::new(), Vec::new());
        for _ in 0..setting.repetitions.min(REPETITIONS_MAX) {
            let made = database()?;
            let url = made.as_ref().map(Postgres::url);
            berth.push(on_berth(setting, case, url).await.context("Berth")?);
            others.push(on_etcd(setting, case).await.context("etcd")?);
        }
        let peer = format!("{} watch", setting.etcd_version);
        let latency = |of: &[Outcome], figure: fn(&Figures) -> f64| {
            each(&of.iter().map(|outcome| outcome.latency).collect::<Vec<_>>(), figure)
        };
        let of = |outcomes: &[Outcome], figure: fn(&Outcome) -> f64| outcomes.iter().map(figure).collect::<Vec<_>>();
        let name = case.name;
        let meaning = case.meaning();
        figures.extend([
            Figure::at_most(format!("{name} p50"), "ms", latency(&berth, |f| f.p50), case.goal_p99)
                .beside(&peer, latency(&others, |f| f.p50))
                .meaning("the goal is that of the 99th percentile; the median has none of its own"),
            Figure::at_most(format!("{name} p99"), "ms", latency(&berth, |f| f.p99), case.goal_p99)
                .beside(&peer, latency(&others, |f| f.p99))
                .meaning(meaning),
            Figure::at_most(format!("{name} lost"), "", of(&berth, |o| o.lost), 0.0)
                .beside(&peer, of(&others, |o| o.lost))
                .meaning("every watcher gets every event"),
            Figure::at_least(
                format!("{name} written"),
                "1/s",
                of(&berth, |o| o.written_per_second),
                // A pace cannot be kept to the last write.
                case.pace.map_or(1_000.0, |pace| pace * 0.98),
            )
            .beside(&peer, of(&others, |o| o.written_per_second))
            .meaning("so many writes a second are to be taken while the watchers are served"),
        ]);
    }
    Ok(figures)
}

async fn on_berth(setting: &Setting, case: &Case, database: Option<&str>) -> anyhow::Result<Outcome> {
    let server = Server::fresh_on(&setting.berth, &setting.fresh_folder("berth")?, database).await?;
    let mut connection = server.access.connect().await?;
    for namespace in 0..case.namespaces {
        create_namespace(&mut connection, &format!("bench-{namespace}")).await?;
    }
    let mut watchers = Vec::new();
    for number in 0..case.watchers {
        let path = format!("/api/v1/namespaces/bench-{}/configmaps?watch=1", number % case.namespaces);
        let mut connection = server.access.connect().await?;
        let answer = connection.send(http::Method::GET, &path, Bytes::new(), None).await?;
        anyhow::ensure!(answer.status().is_success(), "the watch was refused: {}", answer.status());
        watchers.push(BerthWatcher { body: answer.into_body(), buffer: BytesMut::new(), _connection: connection });
    }
    let board = Arc::new(Board::new(case.writes));
    let connections = server.access.connections(case.writers).await?;
    let writers = connections.into_iter().map(|connection| Paced {
        write: BerthWriter { connection, namespaces: case.namespaces },
        pace: case.pace,
        board: Arc::clone(&board),
    });
    let outcome = observe(case, watchers, writers.collect(), &board).await?;
    server.stop().await?;
    Ok(outcome)
}

async fn on_etcd(setting: &Setting, case: &Case) -> anyhow::Result<Outcome> {
    let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
    let mut watchers = Vec::new();
    for number in 0..case.watchers {
        let mut channel = peer.channel().await?;
        let messages = etcd::watch(&mut channel, &format!("/bench-{}/", number % case.namespaces)).await?;
        watchers.push(EtcdWatcher { messages, _channel: channel });
    }
    let board = Arc::new(Board::new(case.writes));
    let mut writers = Vec::new();
    for _ in 0..case.writers {
        let write = EtcdWriter { channel: peer.channel().await?, namespaces: case.namespaces };
        writers.push(Paced { write, pace: case.pace, board: Arc::clone(&board) });
    }
    let outcome = observe(case, watchers, writers, &board).await?;
    peer.stop().await?;
    Ok(outcome)
}

/// When each write was sent.
struct Board {
    begin: Instant,
    nanoseconds: Vec<AtomicU64>,
}

impl Board {
    fn new(writes: usize) -> Self {
        Self { begin: Instant::now(), nanoseconds: (0..writes).map(|_| AtomicU64::new(0)).collect() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn write(&self, number: u64) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|number| self.nanoseconds.get(number)) {
            slot.store(self.now(), Ordering::Relaxed);
        }
    }

    /// How long ago a write was sent, by a clock read for a whole batch of events.
    fn since(&self, number: usize, now: u64) -> anyhow::Result<u64> {
        let sent = self.nanoseconds.get(number).context("an event of an object that nobody made")?;
        Ok(now.saturating_sub(sent.load(Ordering::Relaxed)))
    }
}

/// Something that hears of objects by their numbers.
trait Watcher: Send + 'static {
    /// Waits for events and adds the numbers of their objects.
    fn hear(&mut self, numbers: &mut Vec<usize>) -> impl Future<Output = anyhow::Result<()>> + Send;
}

async fn observe<W: Watcher, C: Client>(
    case: &Case,
    watchers: Vec<W>,
    writers: Vec<C>,
    board: &Arc<Board>,
) -> anyhow::Result<Outcome> {
    let expected = case.writes / case.namespaces;
    // The first tenth warms up: it must arrive, but its latency does not count.
    let counted_from = case.writes / 10;
    let mut tasks = JoinSet::new();
    for mut watcher in watchers {
        let board = Arc::clone(board);
        tasks.spawn(async move {
            let (mut times, mut heard, mut numbers) = (Times::default(), 0, Vec::new());
            while heard < expected {
                numbers.clear();
                let hearing = watcher.hear(&mut numbers);
                match tokio::time::timeout(Duration::from_secs(SILENCE_SECONDS_MAX), hearing).await {
                    Ok(heard) => heard?,
                    Err(_silence) => break,
                }
                let now = board.now();
                heard += numbers.len();
                for number in &numbers {
                    let time = board.since(*number, now)?;
                    if *number >= counted_from {
                        times.add_nanoseconds(time);
                    }
                }
            }
            anyhow::Ok((times, expected.saturating_sub(heard)))
        });
    }
    let begin = Instant::now();
    fill(writers, u64::try_from(case.writes)?).await?;
    let written_per_second = float(case.writes) / begin.elapsed().as_secs_f64();
    let (mut all, mut lost) = (Times::default(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (times, missing) = ended??;
        all.append(times);
        lost += missing;
    }
    Ok(Outcome { latency: all.figures(Duration::from_secs(1))?, lost: float(lost), written_per_second })
}

/// A writer that keeps to the pace, if there is one, and notes when it sent what.
struct Paced<W> {
    write: W,
    pace: Option<f64>,
    board: Arc<Board>,
}

trait Write: Send + 'static {
    fn write(&mut self, number: u64) -> impl Future<Output = anyhow::Result<()>> + Send;
}

impl<W: Write> Client for Paced<W> {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        if let Some(pace) = self.pace {
            let turn = u32::try_from(number).map(f64::from)? / pace;
            tokio::time::sleep_until(self.board.begin + Duration::from_secs_f64(turn)).await;
        }
        self.board.write(number);
        self.write.write(number).await
    }
}

struct BerthWriter {
    connection: Connection,
    namespaces: usize,
}

impl Write for BerthWriter {
    async fn write(&mut self, number: u64) -> anyhow::Result<()> {
        let namespace = usize::try_from(number)? % self.namespaces;
        let path = format!("/api/v1/namespaces/bench-{namespace}/configmaps");
        self.connection.post(&path, object(number)).await.map(drop)
    }
}

struct EtcdWriter {
    channel: Channel,
    namespaces: usize,
}

impl Write for EtcdWriter {
    async fn write(&mut self, number: u64) -> anyhow::Result<()> {
        let namespace = usize::try_from(number)? % self.namespaces;
        let request = PutRequest { key: format!("/bench-{namespace}/o{number}").into(), value: object(number) };
        self.channel.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &request).await.map(drop)
    }
}

struct BerthWatcher {
    body: Incoming,
    buffer: BytesMut,
    _connection: Connection,
}

impl Watcher for BerthWatcher {
    async fn hear(&mut self, numbers: &mut Vec<usize>) -> anyhow::Result<()> {
        let frame = self.body.frame().await.context("the watch has ended")??;
        if let Ok(data) = frame.into_data() {
            self.buffer.extend_from_slice(&data);
        }
        // Events are lines; the last one may not be whole yet.
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end + 1);
            numbers.extend(number_of(&line)?);
        }
        Ok(())
    }
}

/// The number in the name of the object of an event; none in that of the server's own. Reading all of the JSON would cost
/// more than serving it does.
fn number_of(line: &[u8]) -> anyhow::Result<Option<usize>> {
    let text = std::str::from_utf8(line)?;
    anyhow::ensure!(text.starts_with(r#"{"type":"ADDED""#), "not an added object: {text}");
    let Some((_, rest)) = text.split_once(r#""name":"o"#) else {
        anyhow::ensure!(text.contains(OWN), "an object without a name");
        return Ok(None);
    };
    let digits = rest.split_once('"').context("a name without an end")?.0;
    Ok(Some(digits.parse()?))
}

struct EtcdWatcher {
    messages: Messages,
    _channel: Channel,
}

impl Watcher for EtcdWatcher {
    async fn hear(&mut self, numbers: &mut Vec<usize>) -> anyhow::Result<()> {
        let message: WatchResponse = self.messages.next().await?.context("the watch has ended")?;
        anyhow::ensure!(!message.canceled, "the watch was cancelled");
        for event in message.events {
            let key = event.kv.context("an event without a key")?.key;
            let key = std::str::from_utf8(&key)?;
            numbers.push(key.rsplit_once("/o").context("a key that nobody made")?.1.parse()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_object() {
        let line = br#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"labels":{"name":"x"},"name":"o42"}}}"#;
        assert_eq!(number_of(line).unwrap(), Some(42));
        let own = br#"{"type":"ADDED","object":{"kind":"ConfigMap","metadata":{"name":"kube-root-ca.crt"}}}"#;
        assert_eq!(number_of(own).unwrap(), None);
        assert!(number_of(br#"{"type":"ADDED","object":{"metadata":{"name":"x"}}}"#).is_err());
        assert!(number_of(br#"{"type":"ERROR","object":{"metadata":{"name":"o42"}}}"#).is_err());
    }
}
