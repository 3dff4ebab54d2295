//! The series in PostgreSQL, beside the store.

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Executor, Row, SqlSafeStr};

use super::build_logs::Piece;
use super::{Error, POOL_MAX};
use crate::task;

/// A database that several servers share.
#[derive(Clone)]
pub(super) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    pub(super) async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_may_hold_a_password| Error::Address)?
            .application_name("berth-series")
            .options([
                ("statement_timeout", "15s"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "5s"),
            ]);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_MAX)
            .acquire_timeout(Duration::from_secs(3))
            // A connection may come back with a transaction that nobody waits for any more.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.execute("ROLLBACK").await?;
                    Ok(true)
                })
            })
            .connect_with(options)
            .await?;
        let first = include_str!("../../../migrations/postgres-series/0001_build_logs.sql");
        let migrations =
            vec![Migration::new(1, "build logs".into(), MigrationType::Simple, first.into_sql_str(), false)];
        let mut migrator = Migrator::with_migrations(migrations);
        // The store keeps account of its own migrations in the same database.
        migrator.dangerous_set_table_name("_series_migrations");
        migrator.run(&pool).await?;
        Ok(Self { pool })
    }

    /// In a task of its own: whoever asks may go away at any moment, and a transaction may not be left half-way.
    pub(super) async fn append(&self, piece: Piece) -> Result<u64, Error> {
        let pool = self.pool.clone();
        task::spawn("series-append", async move { append(&pool, &piece).await }).await.map_err(|_ended| Error::Ended)?
    }

    pub(super) async fn pieces(&self, build: &str, start: i64) -> Result<Vec<(i64, Vec<u8>)>, Error> {
        let rows = sqlx::query(super::PIECES).bind(build).bind(start).fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    pub(super) async fn kept(&self, build: &str) -> Result<Option<i64>, Error> {
        let row = sqlx::query(super::HEAD).bind(build).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    pub(super) async fn builds(&self) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar(super::BUILDS).fetch_all(&self.pool).await?)
    }

    pub(super) async fn remove(&self, build: &str) -> Result<(), Error> {
        sqlx::query(super::REMOVE).bind(build).execute(&self.pool).await?;
        Ok(())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

async fn append(pool: &PgPool, piece: &Piece) -> Result<u64, Error> {
    let mut transaction = pool.begin().await?;
    // The head's row lock puts two servers that get the same piece into an order.
    let sql = "INSERT INTO paas_build_log_heads (build, kept) VALUES ($1, 0) ON CONFLICT (build) \
               DO UPDATE SET kept = paas_build_log_heads.kept RETURNING kept";
    let kept: i64 = sqlx::query_scalar(sql).bind(&piece.build).fetch_one(&mut *transaction).await?;
    let Some(fresh) = piece.after(kept)? else {
        transaction.rollback().await?;
        return Ok(kept.cast_unsigned());
    };
    sqlx::query(super::SET_HEAD).bind(&piece.build).bind(fresh.end).execute(&mut *transaction).await?;
    if !fresh.text.is_empty() {
        let insert = sqlx::query(super::ADD_PIECE).bind(&piece.build).bind(kept).bind(fresh.text);
        insert.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(fresh.end.cast_unsigned())
}
