//! etcd, the peer of the API server's store: its own process, its own folder, durable writes as it does them by default.

mod grpc;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use e2e::free_port;
use tokio::time::Instant;

pub(crate) use grpc::{Channel, Messages};
use wire::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    end_of_prefix,
};

use crate::load::Client;
use crate::process::Process;

/// All keys of a benchmark, as Kubernetes lays them out.
pub(crate) const PREFIX: &str = "/registry/configmaps/bench/";
/// A member alone elects itself after its election timeout, about a second; a full store is read before that.
const START_SECONDS_MAX: u64 = 120;
/// How often a starting etcd is asked.
const POLL: Duration = Duration::from_millis(1);

/// A running etcd.
pub(crate) struct Etcd {
    process: Process,
    address: SocketAddr,
    /// From its start until it answered.
    pub(crate) start: Duration,
}

impl Etcd {
    /// Starts one on a folder, which may hold what an earlier one left, and waits until it answers a read.
    pub(crate) async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let client = format!("http://{address}");
        let peer = format!("http://127.0.0.1:{}", free_port());
        std::fs::create_dir_all(folder)?;
        let data: PathBuf = folder.join("data");
        let arguments = [
            "--name=bench".to_owned(),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=bench={peer}"),
            "--log-level=error".to_owned(),
            "--logger=zap".to_owned(),
            // 2 GiB, its default, would end a long run.
            "--quota-backend-bytes=8589934592".to_owned(),
        ];
        let started = Instant::now();
        let mut process = Process::start(program, arguments, &folder.join("etcd.log"))?;
        let deadline = started + Duration::from_secs(START_SECONDS_MAX);
        loop {
            process.check()?;
            let asked = async {
                let mut channel = Channel::connect(address).await?;
                count(&mut channel).await
            };
            match asked.await {
                Ok(_) => break,
                Err(error) if Instant::now() > deadline => return Err(error.context("etcd does not answer")),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
        Ok(Self { process, address, start: started.elapsed() })
    }

    pub(crate) async fn channel(&self) -> anyhow::Result<Channel> {
        Channel::connect(self.address).await
    }

    /// Clients, each with a connection of its own, that put one object after the other.
    pub(crate) async fn putters(&self, count: usize, body: fn(u64) -> Bytes) -> anyhow::Result<Vec<Putter>> {
        let mut putters = Vec::with_capacity(count);
        for _ in 0..count {
            putters.push(Putter { channel: self.channel().await?, body });
        }
        Ok(putters)
    }

    pub(crate) fn resident_megabytes(&self) -> anyhow::Result<f64> {
        self.process.resident_megabytes()
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }
}

/// The version, as `etcd --version` says it.
pub(crate) async fn version(program: &Path) -> anyhow::Result<String> {
    let output = tokio::process::Command::new(program)
        .arg("--version")
        .output()
        .await
        .with_context(|| format!("cannot run {}: `scripts/setup --for bench` installs it", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.lines().find_map(|line| line.strip_prefix("etcd Version: ")).context("etcd has no version")?;
    Ok(format!("etcd {number}"))
}

/// Puts objects under ever new keys.
pub(crate) struct Putter {
    channel: Channel,
    body: fn(u64) -> Bytes,
}

impl Client for Putter {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        let request = PutRequest { key: key(number), value: (self.body)(number) };
        self.channel.unary::<_, PutResponse>("/etcdserverpb.KV/Put", &request).await.map(drop)
    }
}

pub(crate) fn key(number: u64) -> Bytes {
    format!("{PREFIX}o{number}").into()
}

/// Reads one key. A linearisable read, as Kubernetes asks for it.
pub(crate) async fn get(channel: &mut Channel, number: u64) -> anyhow::Result<Bytes> {
    let request = RangeRequest { key: key(number), ..RangeRequest::default() };
    let answer: RangeResponse = channel.unary("/etcdserverpb.KV/Range", &request).await?;
    let kv = answer.kvs.into_iter().next().context("the key is not there")?;
    Ok(kv.value)
}

/// Reads all objects and throws them away; how many bytes they were.
pub(crate) async fn drain(channel: &mut Channel) -> anyhow::Result<usize> {
    let request = RangeRequest { key: PREFIX.into(), range_end: end_of_prefix(PREFIX), ..RangeRequest::default() };
    channel.drain("/etcdserverpb.KV/Range", &request).await
}

/// How many objects there are.
pub(crate) async fn count(channel: &mut Channel) -> anyhow::Result<i64> {
    let request = RangeRequest { key: PREFIX.into(), range_end: end_of_prefix(PREFIX), count_only: true };
    let answer: RangeResponse = channel.unary("/etcdserverpb.KV/Range", &request).await?;
    Ok(answer.count)
}

/// Watches the keys with a prefix, from now on.
pub(crate) async fn watch(channel: &mut Channel, prefix: &str) -> anyhow::Result<Messages> {
    let create = WatchCreateRequest { key: prefix.to_owned().into(), range_end: end_of_prefix(prefix) };
    let mut messages = channel.stream("/etcdserverpb.Watch/Watch", &WatchRequest { create: Some(create) }).await?;
    let first: WatchResponse = messages.next().await?.context("the watch ended at once")?;
    anyhow::ensure!(first.created && !first.canceled, "the watch was refused");
    Ok(messages)
}
