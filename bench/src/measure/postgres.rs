//! Rows 1 and 3 on PostgreSQL, and updates on both stores: what is written is durable in the same way everywhere.

use e2e::Postgres;

use crate::etcd::Etcd;
use crate::figures::Figures;
use crate::http::Connection;
use crate::load::{Client, closed, fill};
use crate::measure::Setting;
use crate::measure::create::each;
use crate::measure::get::Getter;
use crate::row::Figure;
use crate::server::{PATH, Server, object};

const CLIENTS: usize = 64;
/// What is read, as in row 3.
const READ: u64 = 10_000;

/// What one store came to.
#[derive(Default)]
struct Rates {
    create: Vec<Figures>,
    update: Vec<Figures>,
    get: Vec<Figures>,
}

pub(crate) async fn measure(setting: &Setting) -> anyhow::Result<Vec<Figure>> {
    let (mut sqlite, mut postgres, mut etcd) = (Rates::default(), Rates::default(), Rates::default());
    for _ in 0..setting.repetitions {
        on_berth(setting, || Ok(None), &mut sqlite).await?;
        on_berth(setting, || Postgres::new().map(Some), &mut postgres).await?;
        on_etcd(setting, &mut etcd).await?;
    }
    let put = format!("{} put", setting.etcd_version);
    let over = format!("{} put over what is there", setting.etcd_version);
    let own = "Berth on SQLite";
    let shared = "several servers may share it: each write waits for the database's own commit";
    Ok(vec![
        Figure::at_least(
            "101 durable create 64 clients, PostgreSQL",
            "1/s",
            each(&postgres.create, |f| f.rate),
            5_000.0,
        )
        .beside(&put, each(&etcd.create, |f| f.rate))
        .meaning(shared),
        Figure::at_most("101 durable create 64 clients, PostgreSQL p99", "ms", each(&postgres.create, |f| f.p99), 30.0)
            .beside(&put, each(&etcd.create, |f| f.p99))
            .meaning(shared),
        Figure::at_least("101 durable update 64 clients", "1/s", each(&sqlite.update, |f| f.rate), 15_000.0)
            .beside(&over, each(&etcd.update, |f| f.rate))
            .meaning("the goal is that of creates"),
        Figure::at_least(
            "101 durable update 64 clients, PostgreSQL",
            "1/s",
            each(&postgres.update, |f| f.rate),
            5_000.0,
        )
        .beside(&over, each(&etcd.update, |f| f.rate))
        .meaning(shared),
        Figure::at_least("101 get one object, PostgreSQL", "1/s", each(&postgres.get, |f| f.rate), 15_000.0)
            .beside(own, each(&sqlite.get, |f| f.rate))
            .meaning("a read that names no version asks the database whether another server has written since"),
    ])
}

async fn on_berth(
    setting: &Setting,
    database: fn() -> anyhow::Result<Option<Postgres>>,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    let made = database()?;
    let url = made.as_ref().map(Postgres::url);
    let server = Server::fresh_on(&setting.berth, &setting.fresh_folder("berth")?, url).await?;
    rates.create.push(closed(server.access.creators(CLIENTS).await?, setting.period).await?);
    server.stop().await?;

    let made = database()?;
    let url = made.as_ref().map(Postgres::url);
    let server = Server::fresh_on(&setting.berth, &setting.fresh_folder("berth")?, url).await?;
    fill(server.access.creators(CLIENTS).await?, READ).await?;
    let updaters = server.access.connections(CLIENTS).await?;
    let updaters = (0..).zip(updaters).map(|(own, connection)| Updater { own, connection });
    rates.update.push(closed(updaters.collect(), setting.period).await?);
    let getters = server.access.connections(CLIENTS).await?;
    let getters = getters.into_iter().map(|connection| Getter { connection });
    rates.get.push(closed(getters.collect(), setting.period).await?);
    server.stop().await
}

async fn on_etcd(setting: &Setting, rates: &mut Rates) -> anyhow::Result<()> {
    let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
    rates.create.push(closed(peer.putters(CLIENTS, object).await?, setting.period).await?);
    peer.stop().await?;

    let peer = Etcd::start(&setting.etcd, &setting.fresh_folder("etcd")?).await?;
    fill(peer.putters(CLIENTS, object).await?, READ).await?;
    rates.update.push(closed(peer.putters(CLIENTS, object).await?, setting.period).await?);
    peer.stop().await
}

/// Replaces one object again and again: no two clients the same.
struct Updater {
    own: u64,
    connection: Connection,
}

impl Client for Updater {
    async fn call(&mut self, number: u64) -> anyhow::Result<()> {
        let Self { own, connection } = self;
        let text = String::from_utf8(object(*own).to_vec())?;
        // Something must be different, or nothing is written.
        let body = text.replace(r#""app":"bench""#, &format!(r#""app":"{number}""#));
        connection.good(http::Method::PUT, &format!("{PATH}/o{own}"), body.into()).await.map(drop)
    }
}
