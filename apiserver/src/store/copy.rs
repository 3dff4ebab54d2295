//! Copies of SQLite files: made while others write, checked, and made the beginning of a new store.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use super::error::{BackendError, failed};

/// How far the revision of a restored store is ahead of what it was: more than anybody can have written since the backup,
/// at 10,000 writes a second a day.
const REVISIONS_AHEAD: i64 = 1_000_000_000;

async fn open(path: &Path) -> Result<SqliteConnection, BackendError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).disable_statement_logging();
    options.connect().await.map_err(failed("cannot open the SQLite file"))
}

/// Copies a file as it is at one moment, whoever writes to it meanwhile. There must be nothing at `to`.
pub async fn copy_sqlite(from: &Path, to: &Path) -> Result<(), BackendError> {
    let mut connection = open(from).await?;
    let to = to.to_str().ok_or_else(|| BackendError::Unsuitable("the path of the copy is no text".to_owned()))?;
    let copied = sqlx::query("VACUUM INTO $1").bind(to).execute(&mut connection).await;
    copied.map_err(failed("cannot copy the SQLite file"))?;
    connection.close().await.map_err(failed("cannot close the SQLite file"))
}

/// Makes sure that a file is whole.
pub async fn check_sqlite(path: &Path) -> Result<(), BackendError> {
    let mut connection = open(path).await?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(&mut connection)
        .await
        .map_err(failed("cannot check the SQLite file"))?;
    connection.close().await.map_err(failed("cannot close the SQLite file"))?;
    if found == ["ok"] { Ok(()) } else { Err(BackendError::Damaged(found.join("; "))) }
}

/// Puts a store's revision so far ahead that no client has seen anything as new: whoever watched what was lost has to list
/// again, and is not told that nothing has happened.
pub async fn begin_anew(path: &Path) -> Result<(), BackendError> {
    let mut connection = open(path).await?;
    let mut transaction = connection.begin().await.map_err(failed("cannot begin a transaction"))?;
    let doing = "cannot put the revision ahead";
    sqlx::query("DELETE FROM store_changes").execute(&mut *transaction).await.map_err(failed(doing))?;
    sqlx::query("UPDATE store_meta SET revision = revision + $1, compacted_revision = revision + $1")
        .bind(REVISIONS_AHEAD)
        .execute(&mut *transaction)
        .await
        .map_err(failed(doing))?;
    transaction.commit().await.map_err(failed(doing))?;
    connection.close().await.map_err(failed("cannot close the SQLite file"))
}
