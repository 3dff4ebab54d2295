//! Bearer tokens in PostgreSQL.

use jiff::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use super::super::error::{BackendError, failed};
use super::super::number::time;
use super::super::token_rows::{COLUMNS, ENDED, token_rows, upsert};
use super::super::tokens::{Bond, Ended, Purpose, Token, TokenHash};
use super::statements::Statement;

token_rows!(sqlx::Postgres, PgConnection, PgRow);

/// Counts a change, so that the other servers read the tokens.
const COUNT: &str = "UPDATE store_meta SET tokens_version = tokens_version + 1 WHERE id = 1 RETURNING tokens_version";

/// Inserts or changes one, and writes what is noted of it. Returns the number of the change, as the others do.
pub(super) async fn save(
    connection: &mut PgConnection,
    token: &Token,
    line: Option<Statement>,
) -> Result<i64, BackendError> {
    let doing = "cannot save a token";
    let mut transaction = connection.begin().await.map_err(failed(doing))?;
    // First: what comes now holds the row that all writers need.
    if let Some(Statement { sql, arguments }) = line {
        let noting = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *transaction).await;
        noting.map_err(failed("cannot write the audit log"))?;
    }
    let query = upserting(format!("WITH saved AS ({}) {COUNT}", upsert()), token)?;
    let row = query.fetch_one(&mut *transaction).await;
    let version = row.and_then(|row| row.try_get(0)).map_err(failed(doing))?;
    transaction.commit().await.map_err(failed(doing))?;
    Ok(version)
}

/// Notes when one was used.
pub(super) async fn touch(connection: &mut PgConnection, id: &str, at: Timestamp) -> Result<i64, BackendError> {
    let sql = format!("WITH noted AS (UPDATE paas_api_tokens SET last_used = $2 WHERE id = $1) {COUNT}");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(id).bind(at.as_microsecond());
    let row = query.fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(failed("cannot note that a token is used"))
}

/// Removes those that have ended.
pub(super) async fn remove(connection: &mut PgConnection, ended: Ended) -> Result<i64, BackendError> {
    let sql = format!("WITH gone AS (DELETE FROM paas_api_tokens WHERE {ENDED}) {COUNT}");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(ended.before.as_microsecond());
    let query = query.bind(ended.sessions_before.as_microsecond());
    let row = query.fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(failed("cannot remove old tokens"))
}
