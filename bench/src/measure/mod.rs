//! The measurements, one file each.

mod create;
mod deploy;
mod get;
mod idle;
mod limits;
mod list;
mod many;
mod memory;
mod postgres;
mod rollout;
mod start;
mod watch;

use std::path::PathBuf;

use anyhow::Context;
use futures::future::LocalBoxFuture;

use crate::docker::Docker;
use crate::load::Period;
use crate::row::Figure;

/// What every measurement is given.
pub(crate) struct Setting {
    pub(crate) berth: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) docker: Docker,
    pub(crate) etcd_version: String,
    pub(crate) folder: PathBuf,
    pub(crate) repetitions: u32,
    pub(crate) period: Period,
}

impl Setting {
    /// A new empty folder.
    fn fresh_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(name);
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot empty {}", folder.display()));
            }
            _ => {}
        }
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The figures of one row of the table of goals.
pub(crate) struct Measurement {
    pub(crate) number: u32,
    pub(crate) what: &'static str,
    measure: for<'a> fn(&'a Setting) -> LocalBoxFuture<'a, anyhow::Result<Vec<Figure>>>,
}

impl Measurement {
    pub(crate) async fn run(&self, setting: &Setting) -> anyhow::Result<Vec<Figure>> {
        (self.measure)(setting).await
    }
}

/// All of them, in the order in which they run.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        number: 1,
        what: "durable create of a 1 KiB object, 64 clients",
        measure: |setting| Box::pin(create::by_64(setting)),
    },
    Measurement {
        number: 2,
        what: "durable create of a 1 KiB object, 1 client",
        measure: |setting| Box::pin(create::by_one(setting)),
    },
    Measurement { number: 3, what: "get one object, 64 clients", measure: |setting| Box::pin(get::measure(setting)) },
    Measurement {
        number: 4,
        what: "list 10,000 and 11,000 objects, 4 clients",
        measure: |setting| Box::pin(list::measure(setting)),
    },
    Measurement {
        number: 5,
        what: "watch: from a create's sending to its event",
        measure: |setting| Box::pin(watch::on_sqlite(setting)),
    },
    Measurement {
        number: 7,
        what: "memory of the server, idle and after 20,000 creates",
        measure: |setting| Box::pin(memory::measure(setting)),
    },
    Measurement {
        number: 8,
        what: "from start to ready, empty and with 150,000 objects",
        measure: |setting| Box::pin(start::measure(setting)),
    },
    Measurement {
        number: 9,
        what: "deploy of a present image: from the API call to the first 200",
        measure: |setting| Box::pin(deploy::measure(setting)),
    },
    Measurement {
        number: 12,
        what: "failed requests while an application is rolled out",
        measure: |setting| Box::pin(rollout::measure(setting)),
    },
    Measurement {
        number: 16,
        what: "durable creates of 1,000 clients at once",
        measure: |setting| Box::pin(create::by_1000(setting)),
    },
    Measurement {
        number: 17,
        what: "memory of control plane and agent of `berth up`, idle",
        measure: |setting| Box::pin(idle::measure(setting)),
    },
    Measurement {
        number: 101,
        what: "rows 1 and 3 on PostgreSQL, and durable updates on both stores",
        measure: |setting| Box::pin(postgres::measure(setting)),
    },
    Measurement {
        number: 102,
        what: "100,000 objects and 1,000 idle watches on both stores",
        measure: |setting| Box::pin(many::measure(setting)),
    },
    Measurement { number: 103, what: "row 5 on PostgreSQL", measure: |setting| Box::pin(watch::on_postgres(setting)) },
];
