//! Master keys and stored bodies in SQLite: for sealing, and for wrapping with another key.

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::seal::rows;

rows!(SqliteConnection, SqliteRow);

/// Nobody else writes to the file.
pub(super) async fn save_first(connection: &mut SqliteConnection, key: &KnownKey) -> Result<(), BackendError> {
    insert(connection, sql::SAVE_FIRST_KEY, key).await
}

/// Writes the file anew, without the pages that nothing is on any more, and empties the log.
pub(super) async fn scrub(connection: &mut SqliteConnection) -> Result<(), BackendError> {
    let doing = "cannot write the database anew";
    sqlx::raw_sql("VACUUM").execute(&mut *connection).await.map_err(failed(doing))?;
    let busy: i64 =
        sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(connection).await.map_err(failed(doing))?;
    if busy == 0 {
        Ok(())
    } else {
        // It answers so instead of failing.
        let message =
            "somebody reads it, so that its old pages cannot be written over: start again when they have ended";
        Err(BackendError::Unsuitable(message.to_owned()))
    }
}
