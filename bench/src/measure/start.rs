//! Row 8: from starting the program until it says that it is ready.

use std::time::Duration;

use crate::etcd::Etcd;
use crate::load::fill;
use crate::measure::Setting;
use crate::row::Figure;
use crate::server::{Server, object};

const OBJECTS: u64 = 150_000;

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (mut empty, mut empty_peer) = (Vec::new(), Vec::new());
    for _ in 0..setting.repetitions {
        let server = Server::start(&setting.berth, &setting.fresh_folder("berth")?).await?;
        empty.push(milliseconds(server.start));
        server.stop().await?;
        let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
        empty_peer.push(milliseconds(peer.start));
        peer.stop().await?;
    }

    let (berth, etcd) = (setting.fresh_folder("berth")?, setting.fresh_folder("etcd")?);
    let server = Server::fresh(&setting.berth, &berth).await?;
    fill(server.access.creators(64).await?, OBJECTS).await?;
    server.stop().await?;
    let peer = Etcd::start(&setting.etcd, &etcd).await?;
    fill(peer.putters(64, object).await?, OBJECTS).await?;
    peer.stop().await?;
    let (mut full, mut full_peer) = (Vec::new(), Vec::new());
    for _ in 0..setting.repetitions {
        let server = Server::start(&setting.berth, &berth).await?;
        full.push(milliseconds(server.start));
        server.stop().await?;
        let peer = Etcd::start(&setting.etcd, &etcd).await?;
        full_peer.push(milliseconds(peer.start));
        peer.stop().await?;
    }
    Ok(vec![
        Figure::at_most("8 start to ready empty", "ms", empty, 50.0)
            .beside(format!("{} until it answers", setting.etcd_version), empty_peer)
            .meaning("goal of the design; on an empty folder, so that keys and certificates are made too"),
        Figure::at_most("8 start to ready 150000 objects", "ms", full, 500.0)
            .beside(format!("{} until it answers", setting.etcd_version), full_peer)
            .meaning("goal of the design; the files are in the kernel's cache"),
    ])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
