//! Row 4: reading all objects, by four clients at once. What comes is counted and thrown away.

use anyhow::Context;
use serde_json::Value;

use crate::etcd::{self, Channel, Etcd};
use crate::http::Connection;
use crate::load::{Client, closed, fill};
use crate::measure::Setting;
use crate::measure::create::each;
use crate::row::Figure;
use crate::server::{OWN, PATH, Server, object};

const CLIENTS: usize = 4;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for objects in [10_000, 11_000] {
        let server = Server::fresh(&setting.berth, &setting.fresh_folder("berth")?).await?;
        fill(server.access.creators(64).await?, objects).await?;
        let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
        fill(peer.putters(64, object).await?, objects).await?;
        anyhow::ensure!(etcd::count(&mut peer.channel().await?).await? == i64::try_from(objects)?, "keys are missing");
        let list: Value = serde_json::from_slice(&server.access.connect().await?.get(PATH).await?)?;
        let items = list["items"].as_array().context("a list has items")?;
        let ours = items.iter().filter(|item| item["metadata"]["name"] != OWN).count();
        anyhow::ensure!(ours == usize::try_from(objects)?, "{ours} objects are listed");

        let least = usize::try_from(objects)? * 1024;
        let (mut berth, mut others) = (Vec::new(), Vec::new());
        for _ in 0..setting.repetitions {
            let connections = server.access.connections(CLIENTS).await?;
            let listers = connections.into_iter().map(|connection| Lister { connection, least });
            berth.push(closed(listers.collect(), setting.period).await?);
            let mut listers = Vec::new();
            for _ in 0..CLIENTS {
                listers.push(EtcdLister { channel: peer.channel().await?, least });
            }
            others.push(closed(listers, setting.period).await?);
        }
        peer.stop().await?;
        server.stop().await?;

        let name = format!("{} range of all keys", setting.etcd_version);
        let id = format!("4 list {objects} objects 4 at once");
        let meaning = "goal of the design for the median; what is measured is how long each of four lists takes";
        figures.extend([
            Figure::at_most(format!("{id} p50"), "ms", each(&berth, |f| f.p50), 20.0)
                .beside(&name, each(&others, |f| f.p50))
                .meaning(meaning),
            Figure::at_most(format!("{id} p99"), "ms", each(&berth, |f| f.p99), 60.0)
                .beside(&name, each(&others, |f| f.p99))
                .meaning("three times the goal of the median"),
        ]);
    }
    Ok(figures)
}

pub(crate) struct Lister {
    pub(crate) connection: Connection,
    pub(crate) least: usize,
}

impl Client for Lister {
    async fn call(&mut self, _number: u64) -> anyhow::Result<()> {
        let bytes = self.connection.drain(PATH).await?;
        anyhow::ensure!(bytes >= self.least, "only {bytes} bytes came");
        Ok(())
    }
}

pub(crate) struct EtcdLister {
    pub(crate) channel: Channel,
    pub(crate) least: usize,
}

impl Client for EtcdLister {
    async fn call(&mut self, _number: u64) -> anyhow::Result<()> {
        let bytes = etcd::drain(&mut self.channel).await?;
        anyhow::ensure!(bytes >= self.least, "only {bytes} bytes came");
        Ok(())
    }
}
