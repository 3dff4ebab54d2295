//! Row 7: what the server has in memory. 20,000 creates by 64 clients are about what the peer in the table of goals took
//! in the measurement whose 628 MB it is held against.

use std::time::Duration;

use crate::etcd::Etcd;
use crate::load::fill;
use crate::measure::Setting;
use crate::row::Figure;
use crate::server::{Server, object};

const CREATES: u64 = 20_000;
/// Caches are filled and what was only needed for starting is given back.
const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let mut berth = (Vec::new(), Vec::new());
    let mut etcd = (Vec::new(), Vec::new());
    for _ in 0..setting.repetitions {
        let server = Server::fresh(&setting.berth, &setting.fresh_folder("berth")?).await?;
        tokio::time::sleep(SETTLE).await;
        berth.0.push(server.resident_megabytes()?);
        fill(server.access.creators(64).await?, CREATES).await?;
        tokio::time::sleep(SETTLE).await;
        berth.1.push(server.resident_megabytes()?);
        server.stop().await?;

        let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
        tokio::time::sleep(SETTLE).await;
        etcd.0.push(peer.resident_megabytes()?);
        fill(peer.putters(64, object).await?, CREATES).await?;
        tokio::time::sleep(SETTLE).await;
        etcd.1.push(peer.resident_megabytes()?);
        peer.stop().await?;
    }
    let meaning = "goal of the design for the whole control plane in one process; kube-apiserver and etcd together: 320 and 628 MB";
    Ok(vec![
        Figure::at_most("7 server resident idle", "MB", berth.0, 40.0)
            .beside(format!("{} alone", setting.etcd_version), etcd.0)
            .meaning(meaning),
        Figure::at_most("7 server resident after 20000 creates", "MB", berth.1, 90.0)
            .beside(format!("{} alone", setting.etcd_version), etcd.1)
            .meaning(meaning),
    ])
}
