//! Measures the store alone: durable creates of 1 KiB objects by 64 clients at once, by 1,000, and by one in sequence,
//! and how long a restart with what was written takes. Prints one JSON object a line.
//!
//! `cargo run --release -p apiserver --example store_bench [FOLDER | postgres://…] [SECONDS]`
//!
//! A PostgreSQL database must be an empty one that nobody needs: it is filled.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use apiserver::store::{Key, KindId, Postgres, Settings, Sqlite, Store, Table, Write};
use apiserver::task;
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next();
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse()).context("SECONDS is a whole number")?;
    let time = Duration::from_secs(seconds);
    if let Some(url) = place.as_deref().filter(|place| place.starts_with("postgres:")) {
        return run(&Place::Postgres(url), time).await;
    }
    let folder = place.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = run(&Place::Folder(&folder), time).await;
    std::fs::remove_dir_all(&folder)?;
    result
}

/// Where the store is.
enum Place<'a> {
    Folder(&'a Path),
    Postgres(&'a str),
}

async fn run(place: &Place<'_>, time: Duration) -> anyhow::Result<()> {
    for clients in [64, 1_000, 1] {
        let store = open(place, clients).await?;
        creates(&store, clients, time).await?;
        let objects = store.snapshot_across_namespaces(KindId(0)).len();
        store.close().await?;
        drop(store);
        let resident = resident_bytes();
        let started = Instant::now();
        let store = open(place, clients).await?;
        let elapsed = started.elapsed();
        anyhow::ensure!(store.snapshot_across_namespaces(KindId(0)).len() == objects, "objects are missing");
        print(&json!({
            "measure": "open", "objects": objects, "milliseconds": milliseconds(elapsed),
            "resident_bytes_before": resident, "resident_bytes": resident_bytes(),
        }));
        store.close().await?;
    }
    Ok(())
}

async fn open(place: &Place<'_>, clients: usize) -> anyhow::Result<Store> {
    let tables = vec![Table { name: "core_configmaps".into(), ..Table::default() }];
    Ok(match place {
        Place::Folder(folder) => {
            let file = folder.join(format!("{clients}.sqlite"));
            Store::open(Sqlite::open(file).await?, tables, Settings::default()).await?
        }
        Place::Postgres(url) => Store::open(Postgres::connect(url).await?, tables, Settings::default()).await?,
    })
}

/// `clients` clients create one object after the other for some time.
async fn creates(store: &Store, clients: usize, time: Duration) -> anyhow::Result<()> {
    let count = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::new();
    for client in 0..clients {
        let (store, count) = (store.clone(), Arc::clone(&count));
        tasks.push(task::spawn("bench-client", async move {
            let mut latencies = Vec::new();
            let namespace = format!("customer-{}", client % 64);
            while started.elapsed() < time {
                // Whatever an earlier measurement has left in a database.
                let name = format!("object-{clients}-{}", count.fetch_add(1, Ordering::Relaxed));
                let body = object(&namespace, &name);
                let asked = Instant::now();
                store.write(Write::Create { key: Key::new(KindId(0), &*namespace, name), body }).await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        }));
    }
    let mut latencies = Vec::new();
    let cpu = cpu_seconds();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let percentile = |p: usize| latencies.get(latencies.len() * p / 1_000).map_or(0.0, |time| milliseconds(*time));
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    let (rate, cpu_micros) =
        ((latencies.len() as f64 / elapsed).round(), ((cpu_seconds() - cpu) * 1e6 / latencies.len() as f64).round());
    print(&json!({
        "measure": "durable creates of 1 KiB", "clients": clients, "creates": latencies.len(), "per_second": rate,
        "cpu_us_per_create": cpu_micros,
        "p50_ms": percentile(500), "p99_ms": percentile(990), "p999_ms": percentile(999),
        "resident_bytes": resident_bytes(),
    }));
    Ok(())
}

fn object(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "namespace": namespace, "name": name, "uid": uuid::Uuid::now_v7().to_string(),
            "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, "labels": { "app": "bench" },
        },
        "data": { "text": "x".repeat(720) },
    })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// The processor time that this process has taken, clients included, as Linux counts it; 0 elsewhere.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// What the process has in memory, in bytes, as Linux counts it; 0 elsewhere.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4_096
}

#[expect(clippy::print_stdout, reason = "this program's result is what it prints")]
fn print(line: &Value) {
    println!("{line}");
}
