//! Moving everything from SQLite to PostgreSQL or back, while no server runs: table by table, as rows, whatever they mean.
//!
//! What is copied is what the SQLite file has: the store's tables, or those of another file that has its tables in the
//! same PostgreSQL database. Revisions, uids, tokens and the log of changes stay what they are, so that clients go on where
//! they were. All of it is one transaction on the side that is written, and it is read back before it is committed.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use aws_lc_rs::digest;
use futures::TryStreamExt;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row, ValueRef};

use super::error::{BackendError, failed};
use tokio::time::Instant;

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
    pub rows: usize,
    /// A digest of all rows, the same on both sides: SHA-256 in hex.
    pub digest: String,
}

/// A value of a row; both databases have nothing else here.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

type Values = Vec<Value>;

/// The columns of each table that both sides have, and their SQL types in PostgreSQL.
type Tables = BTreeMap<String, Vec<(String, String)>>;

/// How long the sessions of servers that have just ended may still be seen.
const SESSIONS_END_MAX: Duration = Duration::from_secs(3);

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
        let options = SqliteConnectOptions::new().filename(file).foreign_keys(false);
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
    for (table, columns) in &tables {
        let (from_file, from_database) =
            (sqlite_rows(sqlite, table, columns).await?, postgres_rows(postgres, table, columns).await?);
        let (rows, there) = match direction {
            Direction::ToPostgres => (from_file, from_database),
            Direction::ToSqlite => (from_database, from_file),
        };
        // A new store has one row, which says that it is at the beginning.
        let is_new =
            table == "store_meta" && there.iter().flatten().all(|value| matches!(value, Value::Integer(0 | 1)));
        if !there.is_empty() && !is_new {
            let message = format!("the target is not empty: {table} has {} rows", there.len());
            return Err(BackendError::Unsuitable(message));
        }
        let back = match direction {
            Direction::ToPostgres => {
                write_postgres(postgres, table, columns, &rows).await?;
                postgres_rows(postgres, table, columns).await?
            }
            Direction::ToSqlite => {
                write_sqlite(sqlite, table, columns, &rows).await?;
                sqlite_rows(sqlite, table, columns).await?
            }
        };
        let (wanted, found) = (digest_of(&rows), digest_of(&back));
        if wanted != found || rows.len() != back.len() {
            return Err(BackendError::Damaged(format!("{table} was not written as it was read")));
        }
        moved.push(Moved { table: table.clone(), rows: rows.len(), digest: found });
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

fn names(columns: &[(String, String)]) -> String {
    columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

async fn sqlite_rows(
    connection: &mut SqliteConnection,
    table: &str,
    columns: &[(String, String)],
) -> Result<Vec<Values>, BackendError> {
    let sql = format!("SELECT {} FROM {table} ORDER BY rowid", names(columns));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    let read = |row: SqliteRow| (0..columns.len()).map(|index| sqlite_value(&row, index)).collect::<Result<_, _>>();
    rows.map_err(failed("cannot read a table")).and_then(async |row| read(row)).try_collect().await
}

fn sqlite_value(row: &SqliteRow, index: usize) -> Result<Value, BackendError> {
    let failed = failed("cannot read a value");
    let raw = row.try_get_raw(index).map_err(&failed)?;
    let kind = if raw.is_null() { "NULL".to_owned() } else { raw.type_info().to_string() };
    Ok(match kind.as_str() {
        "NULL" => Value::Null,
        "INTEGER" | "BOOLEAN" => Value::Integer(row.try_get_unchecked(index).map_err(&failed)?),
        "BLOB" => Value::Bytes(row.try_get_unchecked(index).map_err(&failed)?),
        _ => Value::Text(row.try_get_unchecked(index).map_err(&failed)?),
    })
}

async fn postgres_rows(
    connection: &mut PgConnection,
    table: &str,
    columns: &[(String, String)],
) -> Result<Vec<Values>, BackendError> {
    let sql = format!("SELECT {} FROM {table}", names(columns));
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    let read = |row: PgRow| {
        let values = columns.iter().enumerate().map(|(index, (_, kind))| postgres_value(&row, index, kind));
        values.collect::<Result<_, _>>()
    };
    rows.map_err(failed("cannot read a table")).and_then(async |row| read(row)).try_collect().await
}

fn postgres_value(row: &PgRow, index: usize, kind: &str) -> Result<Value, BackendError> {
    let failed = failed("cannot read a value");
    Ok(match kind {
        "bigint" => row.try_get::<Option<i64>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Integer),
        "text" => row.try_get::<Option<String>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Text),
        "bytea" => row.try_get::<Option<Vec<u8>>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Bytes),
        other => return Err(BackendError::Damaged(format!("a column is {other}, which has no counterpart in SQLite"))),
    })
}

async fn write_sqlite(
    connection: &mut SqliteConnection,
    table: &str,
    columns: &[(String, String)],
    rows: &[Values],
) -> Result<(), BackendError> {
    let doing = "cannot write a table";
    sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
        .execute(&mut *connection)
        .await
        .map_err(failed(doing))?;
    let places = vec!["?"; columns.len()].join(", ");
    let sql: std::sync::Arc<str> = format!("INSERT INTO {table} ({}) VALUES ({places})", names(columns)).into();
    for row in rows {
        let mut arguments = SqliteArguments::default();
        for value in row.iter().cloned() {
            let added = match value {
                Value::Null => arguments.add(None::<i64>),
                Value::Integer(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
            };
            added.map_err(|error| failed(doing)(sqlx::Error::Encode(error)))?;
        }
        let query = sqlx::query_with(AssertSqlSafe(std::sync::Arc::clone(&sql)), arguments);
        query.execute(&mut *connection).await.map_err(failed(doing))?;
    }
    Ok(())
}

async fn write_postgres(
    connection: &mut PgConnection,
    table: &str,
    columns: &[(String, String)],
    rows: &[Values],
) -> Result<(), BackendError> {
    let doing = "cannot write a table";
    sqlx::query(AssertSqlSafe(format!("DELETE FROM {table}")))
        .execute(&mut *connection)
        .await
        .map_err(failed(doing))?;
    let places: Vec<String> =
        columns.iter().enumerate().map(|(at, (_, kind))| format!("${}::{kind}", at + 1)).collect();
    let sql = format!("INSERT INTO {table} ({}) VALUES ({})", names(columns), places.join(", "));
    let sql: std::sync::Arc<str> = sql.into();
    for row in rows {
        let mut arguments = PgArguments::default();
        for (value, (_, kind)) in row.iter().zip(columns) {
            let added = match (value, kind.as_str()) {
                (Value::Integer(value), _) => arguments.add(*value),
                (Value::Text(value), _) => arguments.add(value),
                (Value::Bytes(value), _) => arguments.add(value),
                (Value::Null, "bigint") => arguments.add(None::<i64>),
                (Value::Null, "bytea") => arguments.add(None::<Vec<u8>>),
                (Value::Null, _) => arguments.add(None::<String>),
            };
            added.map_err(|error| failed(doing)(sqlx::Error::Encode(error)))?;
        }
        let query = sqlx::query_with(AssertSqlSafe(std::sync::Arc::clone(&sql)), arguments);
        query.execute(&mut *connection).await.map_err(failed(doing))?;
    }
    count_on(connection, table).await.map_err(failed(doing))
}

/// Lets a column that counts by itself go on behind the rows that were written.
async fn count_on(connection: &mut PgConnection, table: &str) -> Result<(), sqlx::Error> {
    let sql = "SELECT column_name::text FROM information_schema.columns \
               WHERE table_schema = current_schema() AND table_name = $1 AND is_identity = 'YES'";
    for column in sqlx::query_scalar::<_, String>(sql).bind(table).fetch_all(&mut *connection).await? {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max(\"{column}\")) FROM {table} \
             HAVING max(\"{column}\") IS NOT NULL"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A digest of rows in whatever order.
fn digest_of(rows: &[Values]) -> String {
    let mut each: Vec<Vec<u8>> = rows.iter().map(|row| digest_of_row(row)).collect();
    each.sort_unstable();
    hex::encode(digest::digest(&digest::SHA256, &each.concat()))
}

fn digest_of_row(row: &[Value]) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA256);
    for value in row {
        let (mark, number, bytes): (u8, i64, &[u8]) = match value {
            Value::Null => (0, 0, &[]),
            Value::Integer(value) => (1, *value, &[]),
            Value::Text(text) => (2, 0, text.as_bytes()),
            Value::Bytes(bytes) => (3, 0, bytes),
        };
        context.update(&[mark]);
        context.update(&number.to_be_bytes());
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    }
    context.finish().as_ref().to_vec()
}
