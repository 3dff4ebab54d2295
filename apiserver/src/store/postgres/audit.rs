//! The audit log in PostgreSQL: shortened by the writer, read on connections of its own.

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::audit::{AuditEntry, AuditQuery, AuditReader, LINES_MAX, TRIM_MAX, select};
use super::super::error::BackendError;
use super::{connect, failed, signed, unsigned, within};

/// Removes the oldest lines that are too old or too many, a portion of them. Returns how many.
pub(super) async fn trim(connection: &mut PgConnection, before: Timestamp) -> Result<u64, BackendError> {
    let query = sqlx::query(
        "DELETE FROM store_audit WHERE id IN (SELECT id FROM store_audit \
         WHERE time < $1 OR id <= (SELECT max(id) FROM store_audit) - $2 ORDER BY id LIMIT $3)",
    )
    .bind(before.as_microsecond())
    .bind(signed(LINES_MAX))
    .bind(signed(TRIM_MAX))
    .execute(connection);
    let removed = within(query).await?.map_err(failed("cannot shorten the audit log"))?;
    Ok(removed.rows_affected())
}

/// Reads without holding the writer up.
pub(super) struct Reader(PgConnectOptions);

impl fmt::Debug for Reader {
    /// Without the options, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self(options)
    }
}

impl AuditReader for Reader {
    fn read(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditEntry>, BackendError>> {
        Box::pin(async move {
            let doing = "cannot read the audit log";
            let mut connection = connect::open(&self.0).await?;
            let reading = sqlx::query(AssertSqlSafe(select(&query)))
                .bind(query.namespace)
                .bind(query.user)
                .bind(query.resource)
                .bind(query.verb)
                .bind(query.since.map(Timestamp::as_microsecond))
                .bind(query.before.map(signed))
                .bind(i64::from(query.limit))
                .fetch_all(&mut connection);
            let rows = within(reading).await?.map_err(failed(doing))?;
            connection.close().await.map_err(failed(doing))?;
            let entry = |row: &PgRow| {
                let id = unsigned(row.try_get(0).map_err(failed(doing))?)?;
                Ok(AuditEntry { id, record: row.try_get(1).map_err(failed(doing))? })
            };
            rows.iter().map(entry).collect()
        })
    }
}
