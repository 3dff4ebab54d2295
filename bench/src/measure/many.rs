//! 100,000 objects on each store: what they need, how long all of them take to be listed, and a server to come back; and
//! what a watch needs that hears nothing.

use std::time::Duration;

use bytes::Bytes;
use e2e::Postgres;

use crate::etcd::{self, Etcd};
use crate::figures::Figures;
use crate::load::{closed, fill};
use crate::measure::Setting;
use crate::measure::create::each;
use crate::measure::list::{EtcdLister, Lister};
use crate::row::Figure;
use crate::server::{Server, object};

const OBJECTS: u64 = 100_000;
const WATCHES: usize = 1_000;
const LISTERS: usize = 4;
/// Each takes minutes.
const REPETITIONS_MAX: u32 = 2;
/// Caches are filled and what was only needed for a moment is given back.
const SETTLE: Duration = Duration::from_secs(2);

/// What one system came to.
#[derive(Default)]
struct Sizes {
    bytes_an_object: Vec<f64>,
    kilobytes_a_watch: Vec<f64>,
    list: Vec<Figures>,
    start: Vec<f64>,
}

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (mut sqlite, mut postgres, mut etcd) = (Sizes::default(), Sizes::default(), Sizes::default());
    for _ in 0..setting.repetitions.min(REPETITIONS_MAX) {
        on_berth(setting, None, &mut sqlite).await?;
        let database = Postgres::new()?;
        on_berth(setting, Some(database.url()), &mut postgres).await?;
        drop(database);
        on_etcd(setting, &mut etcd).await?;
    }
    let name = &setting.etcd_version;
    let mut figures = Vec::new();
    for (store, sizes) in [("SQLite", &sqlite), ("PostgreSQL", &postgres)] {
        figures.extend([
            Figure::at_most(
                format!("102 list 100000 objects 4 at once, {store} p50"),
                "ms",
                each(&sizes.list, |f| f.p50),
                200.0,
            )
            .beside(format!("{name} range of all keys"), each(&etcd.list, |f| f.p50))
            .meaning("ten times the goal for 10,000"),
            Figure::at_most(
                format!("102 memory of an object of 1 KiB, {store}"),
                "bytes",
                sizes.bytes_an_object.clone(),
                3_072.0,
            )
            .beside(format!("{name} alone"), etcd.bytes_an_object.clone())
            .meaning("of 100,000: the ready-to-send JSON with managed fields, and what selectors and watchers need"),
            Figure::at_most(
                format!("102 memory of an idle watch, {store}"),
                "KB",
                sizes.kilobytes_a_watch.clone(),
                100.0,
            )
            .beside(format!("{name} alone"), etcd.kilobytes_a_watch.clone())
            .meaning("of 1,000 watches on connections of their own, TLS included"),
            Figure::at_most(format!("102 start to ready 100000 objects, {store}"), "ms", sizes.start.clone(), 500.0)
                .beside(format!("{name} until it answers"), etcd.start.clone())
                .meaning("goal of the design for 150,000 objects on SQLite"),
        ]);
    }
    Ok(figures)
}

async fn on_berth(setting: &Setting, database: Option<&str>, sizes: &mut Sizes) -> anyhow::Result<()> {
    let folder = setting.fresh_folder("berth")?;
    let server = Server::fresh_on(&setting.berth, &folder, database).await?;
    fill(server.access.creators(64).await?, OBJECTS).await?;
    server.stop().await?;

    // What filling took is given back by a new start.
    let server = Server::start_on(&setting.berth, &folder, database).await?;
    sizes.start.push(milliseconds(server.start));
    tokio::time::sleep(SETTLE).await;
    let full = server.resident_megabytes()?;
    let mut watches = Vec::new();
    for mut connection in server.access.connections(WATCHES).await? {
        // One that hears nothing: nobody writes there.
        let path = "/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0&sendInitialEvents=false\
                    &resourceVersionMatch=NotOlderThan";
        let answer = connection.send(http::Method::GET, path, Bytes::new(), None).await?;
        anyhow::ensure!(answer.status().is_success(), "the watch was refused: {}", answer.status());
        watches.push((answer, connection));
    }
    tokio::time::sleep(SETTLE).await;
    let watched = server.resident_megabytes()?;
    drop(watches);
    sizes.kilobytes_a_watch.push((watched - full) * 1e3 / crate::figures::float(WATCHES));
    let least = usize::try_from(OBJECTS)? * 1024;
    let listers = server.access.connections(LISTERS).await?;
    let listers = listers.into_iter().map(|connection| Lister { connection, least });
    sizes.list.push(closed(listers.collect(), setting.period).await?);
    server.stop().await?;

    let empty = Server::start(&setting.berth, &setting.fresh_folder("empty")?).await?;
    tokio::time::sleep(SETTLE).await;
    let nothing = empty.resident_megabytes()?;
    empty.stop().await?;
    sizes.bytes_an_object.push((full - nothing) * 1e6 / crate::figures::float(usize::try_from(OBJECTS)?));
    Ok(())
}

async fn on_etcd(setting: &Setting, sizes: &mut Sizes) -> anyhow::Result<()> {
    let folder = setting.fresh_folder("etcd")?;
    let peer = Etcd::start(&setting.etcd, &folder).await?;
    tokio::time::sleep(SETTLE).await;
    let nothing = peer.resident_megabytes()?;
    fill(peer.putters(64, object).await?, OBJECTS).await?;
    peer.stop().await?;

    let peer = Etcd::start(&setting.etcd, &folder).await?;
    sizes.start.push(milliseconds(peer.start));
    tokio::time::sleep(SETTLE).await;
    let full = peer.resident_megabytes()?;
    sizes.bytes_an_object.push((full - nothing) * 1e6 / crate::figures::float(usize::try_from(OBJECTS)?));
    let mut watches = Vec::new();
    for _ in 0..WATCHES {
        let mut channel = peer.channel().await?;
        let messages = etcd::watch(&mut channel, "/nothing/").await?;
        watches.push((messages, channel));
    }
    tokio::time::sleep(SETTLE).await;
    let watched = peer.resident_megabytes()?;
    drop(watches);
    sizes.kilobytes_a_watch.push((watched - full) * 1e3 / crate::figures::float(WATCHES));
    let least = usize::try_from(OBJECTS)? * 1024;
    let mut listers = Vec::new();
    for _ in 0..LISTERS {
        listers.push(EtcdLister { channel: peer.channel().await?, least });
    }
    sizes.list.push(closed(listers, setting.period).await?);
    peer.stop().await
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
