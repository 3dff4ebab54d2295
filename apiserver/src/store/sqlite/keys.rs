//! Master keys and stored bodies in SQLite: for sealing, and for wrapping with another key.

use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::seal::rows;

rows!(SqliteConnection, SqliteRow);

/// Writes the file anew, without the pages that nothing is on any more, and empties the log.
pub(super) async fn scrub(connection: &mut SqliteConnection) -> Result<(), BackendError> {
    let sql = "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)";
    sqlx::raw_sql(sql).execute(connection).await.map_err(failed("cannot write the database anew"))?;
    Ok(())
}
