//! Rows 1, 2 and 16: durable creates. Each repetition has a new server with an empty store, and a new etcd.

use crate::etcd::Etcd;
use crate::figures::Figures;
use crate::load::closed;
use crate::measure::{Setting, limits};
use crate::row::Figure;
use crate::server::{Server, object};

pub(crate) async fn by_64(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (berth, etcd) = pairs(setting, 64).await?;
    let peer = format!("{} put", setting.etcd_version);
    let meaning = "goal of the design; a create is answered when it is on the disk";
    Ok(vec![
        Figure::at_least("1 durable create 64 clients", "1/s", each(&berth, |f| f.rate), 15_000.0)
            .beside(&peer, each(&etcd, |f| f.rate))
            .meaning(meaning),
        Figure::at_most("1 durable create 64 clients p50", "ms", each(&berth, |f| f.p50), 10.0)
            .beside(&peer, each(&etcd, |f| f.p50))
            .meaning("the goal is that of the 99th percentile; the median has none of its own"),
        Figure::at_most("1 durable create 64 clients p99", "ms", each(&berth, |f| f.p99), 10.0)
            .beside(&peer, each(&etcd, |f| f.p99))
            .meaning(meaning),
    ])
}

pub(crate) async fn by_one(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let synced = limits::synced_writes(&setting.fresh_folder("synced")?)?;
    let (berth, etcd) = pairs(setting, 1).await?;
    let peer = format!("{} put", setting.etcd_version);
    let meaning =
        "goal of the design; the machine's limit is writing 1 KiB into a file and syncing it, one after the other";
    Ok(vec![
        Figure::at_least("2 durable create 1 client", "1/s", each(&berth, |f| f.rate), 3_000.0)
            .beside(&peer, each(&etcd, |f| f.rate))
            .machine(1e3 / synced)
            .meaning(meaning),
        Figure::at_most("2 durable create 1 client p50", "ms", each(&berth, |f| f.p50), 0.33)
            .beside(&peer, each(&etcd, |f| f.p50))
            .machine(synced)
            .meaning(meaning),
        Figure::at_most("2 durable create 1 client p99", "ms", each(&berth, |f| f.p99), 3.3)
            .beside(&peer, each(&etcd, |f| f.p99))
            .machine(synced)
            .meaning("ten times the goal of the median"),
    ])
}

/// A failed write fails the measurement.
pub(crate) async fn by_1000(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (berth, etcd) = pairs(setting, 1_000).await?;
    let peer = format!("{} put", setting.etcd_version);
    Ok(vec![
        Figure::at_least("16 durable create 1000 clients", "1/s", each(&berth, |f| f.rate), 10_000.0)
            .beside(&peer, each(&etcd, |f| f.rate))
            .meaning("none of them fails; for 100 ms with 1,000 clients so many are needed"),
        Figure::at_most("16 durable create 1000 clients p99", "ms", each(&berth, |f| f.p99), 100.0)
            .beside(&peer, each(&etcd, |f| f.p99))
            .meaning("goal of the design"),
    ])
}

/// Berth, etcd, Berth, etcd, …: what the machine does meanwhile meets both.
async fn pairs(setting: &Setting, clients: usize) -> anyhow::Result<(Vec<Figures>, Vec<Figures>)> {
    let (mut berth, mut etcd) = (Vec::new(), Vec::new());
    for _ in 0..setting.repetitions {
        let server = Server::fresh(&setting.berth, &setting.fresh_folder("berth")?).await?;
        berth.push(closed(server.access.creators(clients).await?, setting.period).await?);
        server.stop().await?;
        let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
        etcd.push(closed(peer.putters(clients, object).await?, setting.period).await?);
        peer.stop().await?;
    }
    Ok((berth, etcd))
}

/// One figure of each repetition.
pub(crate) fn each(repetitions: &[Figures], figure: fn(&Figures) -> f64) -> Vec<f64> {
    repetitions.iter().map(figure).collect()
}
