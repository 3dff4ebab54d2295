//! `berth store migrate`: everything moves to another database, while no server runs.

use std::path::Path;

use anyhow::Context;
use apiserver::store::{Backend, Direction, Moved, Postgres, Sqlite, transfer};
use controller::series::Series;

use super::database::Database;
use crate::args;
use crate::failure::{Exit, fail};
use crate::print;

pub(crate) async fn migrate(options: &args::Migrate) -> anyhow::Result<()> {
    let database = |url: &str| {
        let (_, path) = url.split_once(':').unwrap_or_default();
        let folder = Path::new(path.strip_prefix("//").unwrap_or(path)).parent().unwrap_or(Path::new("."));
        Database::parse(Some(url), folder)
    };
    let (from, to) = (database(&options.from)?, database(&options.to)?);
    let (file, folder, url, direction) = match (&from, &to) {
        (Database::Sqlite { file, folder }, Database::Postgres(url)) => {
            anyhow::ensure!(file.exists(), "there is no file {}", file.display());
            (file, folder, url, Direction::ToPostgres)
        }
        (Database::Postgres(url), Database::Sqlite { file, folder }) => (file, folder, url, Direction::ToSqlite),
        _ => return Err(fail(Exit::Usage, "one of --from and --to must be sqlite:PATH, the other postgres://…")),
    };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // Opening brings the tables of both to this version's form; the file stays locked until the end.
    let locked = Sqlite::open(file).await.context("the SQLite file cannot be used")?;
    let mut opened = Postgres::connect(url).await.context("the PostgreSQL database cannot be used")?;
    opened.close().await.context("the PostgreSQL database cannot be used")?;
    for series in [Series::open(folder).await, Series::connect(url).await] {
        series.context("the series cannot be opened")?.close().await;
    }
    let files = [file.as_path(), &folder.join("series.sqlite")];
    let moved = transfer(&files, url, direction).await.context("nothing was moved")?;
    drop(locked);
    for Moved { table, rows, digest } in moved {
        print::line(&format!("{table}: {rows} rows, sha256 {digest}"));
    }
    Ok(())
}
