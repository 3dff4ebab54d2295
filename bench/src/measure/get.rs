//! Row 3: reading one object of 10,000, a different one each time.

use std::path::Path;

use crate::etcd::{self, Channel, Etcd};
use crate::http::Connection;
use crate::load::{Client, closed, fill};
use crate::measure::Setting;
use crate::measure::create::each;
use crate::measure::limits::Nginx;
use crate::row::Figure;
use crate::server::{PATH, Server, object};

const CLIENTS: usize = 64;
const OBJECTS: u64 = 10_000;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let folder = setting.fresh_folder("berth")?;
    let server = Server::fresh(&setting.berth, &folder).await?;
    fill(server.access.creators(CLIENTS).await?, OBJECTS).await?;
    let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
    fill(peer.putters(CLIENTS, object).await?, OBJECTS).await?;
    let nginx = Nginx::start(&setting.fresh_folder("nginx")?, &pki_of(&folder)).await?;

    let (mut berth, mut others, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..setting.repetitions {
        let getters = server.access.connections(CLIENTS).await?.into_iter().map(|connection| Getter { connection });
        berth.push(closed(getters.collect(), setting.period).await?);
        let mut channels = Vec::new();
        for _ in 0..CLIENTS {
            channels.push(EtcdGetter { channel: peer.channel().await? });
        }
        others.push(closed(channels, setting.period).await?);
        let nothing = nginx.connections(CLIENTS).await?.into_iter().map(|connection| Getter { connection });
        limit.push(closed(nothing.collect(), setting.period).await?);
    }
    nginx.stop().await?;
    peer.stop().await?;
    server.stop().await?;

    let name = format!("{} range of one key", setting.etcd_version);
    let meaning =
        "goal of the design; the machine's limit is Nginx with `return 200` and 1 KiB, over TLS, with the same clients";
    let middle = |figures: Vec<f64>| crate::figures::median(&figures);
    Ok(vec![
        Figure::at_least("3 get one object", "1/s", each(&berth, |f| f.rate), 50_000.0)
            .beside(&name, each(&others, |f| f.rate))
            .machine(middle(each(&limit, |f| f.rate)))
            .meaning(meaning),
        Figure::at_most("3 get one object p50", "ms", each(&berth, |f| f.p50), 3.0)
            .beside(&name, each(&others, |f| f.p50))
            .machine(middle(each(&limit, |f| f.p50)))
            .meaning("the goal is that of the 99th percentile; the median has none of its own"),
        Figure::at_most("3 get one object p99", "ms", each(&berth, |f| f.p99), 3.0)
            .beside(&name, each(&others, |f| f.p99))
            .machine(middle(each(&limit, |f| f.p99)))
            .meaning(meaning),
    ])
}

/// Where a server keeps its certificates.
fn pki_of(folder: &Path) -> std::path::PathBuf {
    folder.join("data").join("pki")
}

/// Spreads the reads over all objects: 7,919 is a prime that 10,000 is no multiple of.
fn spread(number: u64) -> u64 {
    number.wrapping_mul(7_919) % OBJECTS
}

pub(crate) struct Getter {
    pub(crate) connection: Connection,
}

impl Client for Getter {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        let body = self.connection.get(&format!("{PATH}/o{}", spread(number))).await?;
        anyhow::ensure!(body.len() >= 1024, "only {} bytes came", body.len());
        Ok(())
    }
}

struct EtcdGetter {
    channel: Channel,
}

impl Client for EtcdGetter {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        let value = etcd::get(&mut self.channel, spread(number)).await?;
        anyhow::ensure!(value.len() == 1024, "only {} bytes came", value.len());
        Ok(())
    }
}
