//! The series in a SQLite file of their own.

use std::path::Path;
use std::time::Duration;

use sqlx::Row;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::build_logs::Piece;
use super::{Error, POOL_MAX};

/// A file, with one writer as SQLite has it.
#[derive(Clone)]
pub(super) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlite {
    pub(super) async fn open(folder: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("series.sqlite"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An agent forgets what it was told is kept.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
        let first = include_str!("../../../migrations/sqlite-series/0001_build_logs.sql");
        let migrations = vec![Migration::new(
            1,
            "build logs".into(),
            MigrationType::Simple,
            AssertSqlSafe(first).into_sql_str(),
            false,
        )];
        Migrator::with_migrations(migrations).run(&writer).await?;
        let readers = SqlitePoolOptions::new().max_connections(POOL_MAX).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    pub(super) async fn append(&self, piece: &Piece) -> Result<u64, Error> {
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let kept = sqlx::query("SELECT kept FROM paas_build_log_heads WHERE build = $1")
            .bind(&piece.build)
            .fetch_optional(&mut *transaction)
            .await?
            .map(|row| row.try_get::<i64, _>(0))
            .transpose()?
            .unwrap_or(0);
        let Some(fresh) = piece.after(kept)? else { return Ok(kept.cast_unsigned()) };
        sqlx::query(super::SET_HEAD).bind(&piece.build).bind(fresh.end).execute(&mut *transaction).await?;
        if !fresh.text.is_empty() {
            let insert = sqlx::query(super::ADD_PIECE).bind(&piece.build).bind(kept).bind(fresh.text);
            insert.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(fresh.end.cast_unsigned())
    }

    pub(super) async fn pieces(&self, build: &str, start: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let rows = sqlx::query(super::PIECES).bind(build).bind(start).fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    pub(super) async fn kept(&self, build: &str) -> Result<Option<i64>, Error> {
        let row = sqlx::query(super::HEAD).bind(build).fetch_optional(&self.readers).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(super) async fn builds(&self) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar(super::BUILDS).fetch_all(&self.readers).await?)
    }

    pub(super) async fn remove(&self, build: &str) -> Result<(), Error> {
        sqlx::query(super::REMOVE).bind(build).execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
