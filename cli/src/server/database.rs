//! Where the store lives: a file beside everything else, or a PostgreSQL that several servers share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use apiserver::store::{Backend, KeyRing, Postgres, Settings, Sqlite, Store, Table};
use controller::series::Series;

use super::keys::{Keys, Source};
use crate::failure::{Exit, fail};

/// The database of a server.
pub(crate) enum Database {
    /// A SQLite file, and the folder of the series' own.
    Sqlite { file: PathBuf, folder: PathBuf },
    /// The address of a PostgreSQL database. It may hold a password: it is never shown.
    Postgres(String),
}

impl Database {
    /// Reads `--database-url`; without one it is a file in the data folder.
    pub(crate) fn parse(url: Option<&str>, data: &Path) -> anyhow::Result<Self> {
        let sqlite = |file: PathBuf| Self::Sqlite { file, folder: data.to_owned() };
        let Some(url) = url else { return Ok(sqlite(data.join("berth.sqlite"))) };
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Ok(Self::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite:") {
            Some(path) if !path.trim_start_matches('/').is_empty() => {
                Ok(sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
            }
            // The rest of the address may hold a password.
            _ => Err(fail(
                Exit::Usage,
                "--database-url must be sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            )),
        }
    }

    /// Whether other servers may use it too.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Opens it and brings its tables to this version's form.
    pub(crate) async fn open(&self) -> anyhow::Result<Opened> {
        match self {
            Self::Sqlite { file, .. } => Ok(Opened::Sqlite(Sqlite::open(file).await?)),
            Self::Postgres(url) => {
                let backend = Postgres::connect(url).await.context("the database cannot be used")?;
                Ok(Opened::Postgres(backend))
            }
        }
    }

    /// Opens the series.
    pub(crate) async fn series(&self) -> anyhow::Result<Series> {
        let opened = match self {
            Self::Sqlite { folder, .. } => Series::open(folder).await,
            Self::Postgres(url) => Series::connect(url).await,
        };
        opened.context("cannot open the series")
    }
}

/// A database of which nothing was read yet.
pub(crate) enum Opened {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Opened {
    /// Reads the store, with the master keys from there.
    pub(crate) async fn store(
        self,
        tables: Vec<Table>,
        settings: Settings,
        source: Source,
    ) -> anyhow::Result<(Store, Keys)> {
        match self {
            Self::Sqlite(backend) => read(backend, tables, settings, source).await,
            Self::Postgres(backend) => read(backend, tables, settings, source).await,
        }
    }
}

async fn read<B: Backend>(
    mut backend: B,
    tables: Vec<Table>,
    settings: Settings,
    source: Source,
) -> anyhow::Result<(Store, Keys)> {
    let known = backend.master_keys().await.context("the database cannot be used")?;
    let known: Vec<String> = known.into_iter().map(|key| key.id).collect();
    let ring = Arc::new(KeyRing::new(source.keys(&known).await?)?);
    let settings = Settings { keys: Some(Arc::clone(&ring)), ..settings };
    let store = Store::open(backend, tables, settings).await.context("cannot open the store")?;
    Ok((store, Keys::new(ring, source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases() {
        let file = |url| match Database::parse(url, Path::new("/data")) {
            Ok(Database::Sqlite { file, .. }) => Some(file),
            _ => None,
        };
        assert_eq!(file(None), Some(PathBuf::from("/data/berth.sqlite")));
        assert_eq!(file(Some("sqlite:/x/y.sqlite")), Some(PathBuf::from("/x/y.sqlite")));
        assert_eq!(file(Some("sqlite:///x/y.sqlite")), Some(PathBuf::from("/x/y.sqlite")));
        assert_eq!(file(Some("sqlite:")), None);
        for url in ["postgres://me:hunter2@host/db", "postgresql://host/db"] {
            assert!(Database::parse(Some(url), Path::new("/data")).unwrap().is_shared());
        }
        let error = Database::parse(Some("mysql://me:hunter2@host/db"), Path::new("/data")).err().unwrap();
        assert!(!error.to_string().contains("hunter2"));
    }
}
