//! Moving everything from SQLite to PostgreSQL or back, while no server runs: table by table, as rows, whatever they mean.
//!
//! What is copied is what the SQLite file has: the store's tables, or those of another file that has its tables in the
//! same PostgreSQL database. Revisions, uids, tokens and the log of changes stay what they are, so that clients go on where
//! they were. All of it is one transaction on the side that is written, and it is read back before it is committed. Rows are
//! written as they are read: a table may be larger than the memory.

mod rows;

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use tokio::time::Instant;

use self::rows::{Rows, Tally};
use super::error::{BackendError, failed};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file to the database.
    ToPostgres,
    /// From the database to the file.
    ToSqlite,
}

/// What was moved of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The table.
    pub table: String,
    /// How many rows.
    pub rows: u64,
    /// A digest of all rows, the same on both sides and in whatever order: the sum of their SHA-256, in hex.
    pub digest: String,
}

/// The columns of each table that both sides have, and their SQL types in PostgreSQL.
type Tables = BTreeMap<String, Vec<(String, String)>>;

/// How long the sessions of servers that have just ended may still be seen.
const SESSIONS_END_MAX: Duration = Duration::from_secs(3);

/// Rows that are read ahead of a file: some MiB each at most.
const ROWS_AHEAD: usize = 8;

/// Moves the tables of some SQLite files. Both sides have been opened before by this version of the program, so that their
/// tables are there, and closed again. What is to be written must be empty.
pub async fn transfer(files: &[&Path], url: &str, direction: Direction) -> Result<Vec<Moved>, BackendError> {
    let mut postgres = connect(url).await?;
    nobody_else(&mut postgres).await?;
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; LOCK TABLE store_meta IN EXCLUSIVE MODE NOWAIT";
    sqlx::raw_sql(begin).execute(&mut postgres).await.map_err(failed("a server is using the PostgreSQL database"))?;
    move_all(files, postgres, direction).await
}

/// Copies the tables of a PostgreSQL database into SQLite files as they are at one moment, whoever writes meanwhile.
pub async fn export(url: &str, files: &[&Path]) -> Result<Vec<Moved>, BackendError> {
    let mut postgres = connect(url).await?;
    // A large table may take longer than what is usual for a statement.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut postgres).await.map_err(failed("cannot begin a transaction"))?;
    move_all(files, postgres, Direction::ToSqlite).await
}

async fn connect(url: &str) -> Result<PgConnection, BackendError> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_may_hold_a_password| BackendError::Unsuitable("its address cannot be read".to_owned()))?;
    let options = options.application_name("berth-transfer").disable_statement_logging();
    options.connect().await.map_err(failed("cannot connect"))
}

/// In the transaction that was begun on the PostgreSQL side.
async fn move_all(
    files: &[&Path],
    mut postgres: PgConnection,
    direction: Direction,
) -> Result<Vec<Moved>, BackendError> {
    let mut moved = Vec::new();
    let mut written = Vec::new();
    for file in files {
        let options = SqliteConnectOptions::new().filename(file).foreign_keys(false).row_buffer_size(ROWS_AHEAD);
        let sqlite = options.disable_statement_logging().connect().await;
        let mut sqlite = sqlite.map_err(failed("cannot open the SQLite file"))?;
        let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut sqlite).await;
        begun.map_err(failed("the SQLite file is in use"))?;
        move_tables(&mut sqlite, &mut postgres, direction, &mut moved).await?;
        written.push(sqlite);
    }
    // Only one side was written to. Of several files each is a transaction: if only some were committed, the next try
    // says that the target is not empty.
    for mut sqlite in written {
        sqlx::raw_sql("COMMIT").execute(&mut sqlite).await.map_err(failed("cannot commit"))?;
        sqlite.close().await.map_err(failed("cannot close the SQLite file"))?;
    }
    sqlx::raw_sql("COMMIT").execute(&mut postgres).await.map_err(failed("cannot commit"))?;
    postgres.close().await.map_err(failed("cannot close the connection"))?;
    Ok(moved)
}

/// Makes sure that no server uses the database.
async fn nobody_else(postgres: &mut PgConnection) -> Result<(), BackendError> {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name LIKE 'berth-writer-%'";
    let until = Instant::now() + SESSIONS_END_MAX;
    loop {
        let servers = sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *postgres).await;
        match servers.map_err(failed("cannot ask who else is there"))? {
            0 => return Ok(()),
            servers if Instant::now() > until => {
                return Err(BackendError::Unsuitable(format!("{servers} servers are using it: stop them first")));
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn move_tables(
    sqlite: &mut SqliteConnection,
    postgres: &mut PgConnection,
    direction: Direction,
    moved: &mut Vec<Moved>,
) -> Result<(), BackendError> {
    let tables = tables(sqlite, postgres).await?;
    for (name, columns) in &tables {
        let table = Rows { table: name, columns };
        let there: i64 = match direction {
            Direction::ToPostgres => sqlx::query_scalar(AssertSqlSafe(table.count())).fetch_one(&mut *postgres).await,
            Direction::ToSqlite => sqlx::query_scalar(AssertSqlSafe(table.count())).fetch_one(&mut *sqlite).await,
        }
        .map_err(failed("cannot count the rows of a table"))?;
        if there > 0 {
            return Err(BackendError::Unsuitable(format!("the target is not empty: {name} has {there} rows")));
        }
        let (written, found) = match direction {
            Direction::ToPostgres => {
                let written = table.write_postgres(sqlite, postgres).await?;
                (written, Tally::of(table.in_postgres(postgres)).await?)
            }
            Direction::ToSqlite => {
                let written = table.write_sqlite(postgres, sqlite).await?;
                (written, Tally::of(table.in_sqlite(sqlite)).await?)
            }
        };
        if written != found {
            return Err(BackendError::Damaged(format!("{name} was not written as it was read")));
        }
        moved.push(Moved { table: name.clone(), rows: found.rows, digest: found.digest() });
    }
    Ok(())
}

async fn tables(sqlite: &mut SqliteConnection, postgres: &mut PgConnection) -> Result<Tables, BackendError> {
    let doing = "cannot read what tables there are";
    let sql = "SELECT m.name, c.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c \
               WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE '\\_%' ESCAPE '\\'";
    let mut tables = Tables::new();
    for row in sqlx::query(sql).fetch_all(sqlite).await.map_err(failed(doing))? {
        let (table, column): (String, String) =
            (row.try_get(0).map_err(failed(doing))?, row.try_get(1).map_err(failed(doing))?);
        let sql = "SELECT data_type FROM information_schema.columns WHERE table_schema = current_schema() \
                   AND table_name = $1 AND column_name = $2 AND is_generated = 'NEVER'";
        let kind: Option<String> = sqlx::query_scalar(sql)
            .bind(&table)
            .bind(&column)
            .fetch_optional(&mut *postgres)
            .await
            .map_err(failed(doing))?;
        let kind = kind.ok_or_else(|| BackendError::Damaged(format!("PostgreSQL has no column {table}.{column}")))?;
        tables.entry(table).or_default().push((column, kind));
    }
    Ok(tables)
}
