//! Master keys and stored bodies in PostgreSQL: for sealing, and for wrapping with another key.

use sqlx::postgres::{PgConnection, PgRow};

use super::super::seal::rows;

rows!(PgConnection, PgRow);

/// Writes the tables anew, without the rows that were replaced.
pub(super) async fn scrub(connection: &mut PgConnection, shelves: &[Shelf]) -> Result<(), BackendError> {
    // A table may take longer than what is usual for a statement; in a transaction it cannot be done.
    let (limits, doing) = ("SET statement_timeout = 0", "cannot write a table anew");
    sqlx::raw_sql(limits).execute(&mut *connection).await.map_err(failed(doing))?;
    for shelf in shelves {
        let statement = format!("VACUUM (FULL) {}", sql::table(shelf)?);
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.map_err(failed(doing))?;
    }
    sqlx::raw_sql("RESET statement_timeout").execute(connection).await.map_err(failed(doing))?;
    Ok(())
}
