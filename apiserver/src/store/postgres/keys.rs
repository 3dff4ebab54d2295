//! Master keys and stored bodies in PostgreSQL: for sealing, and for wrapping with another key.

use sqlx::postgres::{PgConnection, PgRow};

use super::super::seal::rows;

rows!(PgConnection, PgRow);

/// Under a lock of the table: of two that see it empty both would insert theirs.
pub(super) async fn save_first(connection: &mut PgConnection, key: &KnownKey) -> Result<(), BackendError> {
    let doing = "cannot note the first master key";
    let mut transaction = connection.begin().await.map_err(failed(doing))?;
    let lock = "LOCK TABLE store_keys IN SHARE ROW EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut *transaction).await.map_err(failed(doing))?;
    insert(&mut transaction, sql::SAVE_FIRST_KEY, key).await?;
    transaction.commit().await.map_err(failed(doing))
}

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
