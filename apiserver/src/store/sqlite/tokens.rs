//! Bearer tokens in SQLite.

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};

use super::super::error::{BackendError, failed};
use super::super::number::time;
use super::super::token_rows::{COLUMNS, ENDED, token_rows, upsert};
use super::super::tokens::{Bond, Ended, Purpose, Token, TokenHash};

token_rows!(sqlx::Sqlite, SqliteConnection, SqliteRow);

/// Inserts or changes one.
pub(super) async fn save(connection: &mut SqliteConnection, token: &Token) -> Result<(), BackendError> {
    let query = upserting(upsert(), token)?;
    query.execute(connection).await.map_err(failed("cannot save a token"))?;
    Ok(())
}

/// Notes when one was used.
pub(super) async fn touch(connection: &mut SqliteConnection, id: &str, at: Timestamp) -> Result<(), BackendError> {
    let query = sqlx::query("UPDATE paas_api_tokens SET last_used = $2 WHERE id = $1");
    let query = query.bind(id).bind(at.as_microsecond());
    query.execute(connection).await.map_err(failed("cannot note that a token is used"))?;
    Ok(())
}

/// Removes those that have ended.
pub(super) async fn remove(connection: &mut SqliteConnection, ended: Ended) -> Result<(), BackendError> {
    let query = sqlx::query(AssertSqlSafe(format!("DELETE FROM paas_api_tokens WHERE {ENDED}")));
    let query = query.bind(ended.before.as_microsecond()).bind(ended.sessions_before.as_microsecond());
    query.execute(connection).await.map_err(failed("cannot remove old tokens"))?;
    Ok(())
}
