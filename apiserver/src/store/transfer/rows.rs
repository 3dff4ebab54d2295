//! The rows of a table, on their way from one database to the other: read, counted and written one after the other.

use std::sync::Arc;

use aws_lc_rs::digest;
use futures::{Stream, TryStreamExt, future};
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Row, ValueRef};

use super::super::error::{BackendError, failed};

/// A value of a row; both databases have nothing else here.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

type Values = Vec<Value>;

/// What the rows of a table are together, in whatever order they come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rows: u64,
    /// The sum of the rows' digests, as four numbers.
    sum: [u64; 4],
}

impl Tally {
    /// Reads rows to their end.
    pub(super) async fn of(rows: impl Stream<Item = Result<Values, BackendError>>) -> Result<Self, BackendError> {
        let add = |mut tally: Self, row: Values| {
            tally.add(&row);
            future::ok(tally)
        };
        rows.try_fold(Self::default(), add).await
    }

    fn add(&mut self, row: &[Value]) {
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
        let digest = context.finish();
        let (parts, _rest) = digest.as_ref().as_chunks();
        for (sum, part) in self.sum.iter_mut().zip(parts) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*part));
        }
        self.rows += 1;
    }

    pub(super) fn digest(&self) -> String {
        hex::encode(self.sum.map(u64::to_be_bytes).concat())
    }
}

/// A table and its columns with their SQL types in PostgreSQL.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) table: &'a str,
    pub(super) columns: &'a [(String, String)],
}

impl Rows<'_> {
    /// Counts the rows; of a store that was never written to, the one that says that it is at the beginning does not count.
    pub(super) fn count(&self) -> String {
        let begun = if self.table == "store_meta" { " WHERE revision > 0" } else { "" };
        format!("SELECT count(*) FROM {}{begun}", self.table)
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }

    fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names(), self.table)
    }

    fn insert(&self, places: &[String]) -> Arc<str> {
        format!("INSERT INTO {} ({}) VALUES ({})", self.table, self.names(), places.join(", ")).into()
    }

    fn delete(&self) -> String {
        format!("DELETE FROM {}", self.table)
    }

    /// Reads them in SQLite.
    pub(super) fn in_sqlite<'c>(
        &'c self,
        connection: &'c mut SqliteConnection,
    ) -> impl Stream<Item = Result<Values, BackendError>> + Send + 'c {
        let rows = sqlx::query(AssertSqlSafe(self.select())).fetch(connection);
        let read = |row: SqliteRow| {
            let values = (0..self.columns.len()).map(|index| sqlite_value(&row, index));
            values.collect::<Result<Values, BackendError>>()
        };
        rows.map_err(failed("cannot read a table")).and_then(move |row| future::ready(read(row)))
    }

    /// Reads them in PostgreSQL.
    pub(super) fn in_postgres<'c>(
        &'c self,
        connection: &'c mut PgConnection,
    ) -> impl Stream<Item = Result<Values, BackendError>> + Send + 'c {
        let rows = sqlx::query(AssertSqlSafe(self.select())).fetch(connection);
        let read = |row: PgRow| {
            let values = self.columns.iter().enumerate().map(|(index, (_, kind))| postgres_value(&row, index, kind));
            values.collect::<Result<Values, BackendError>>()
        };
        rows.map_err(failed("cannot read a table")).and_then(move |row| future::ready(read(row)))
    }

    /// Copies them to SQLite, in place of what is there.
    pub(super) async fn write_sqlite(
        &self,
        from: &mut PgConnection,
        to: &mut SqliteConnection,
    ) -> Result<Tally, BackendError> {
        let doing = "cannot write a table";
        sqlx::query(AssertSqlSafe(self.delete())).execute(&mut *to).await.map_err(failed(doing))?;
        let places = vec!["?".to_owned(); self.columns.len()];
        let sql = self.insert(&places);
        let (mut rows, mut tally) = (self.in_postgres(from), Tally::default());
        while let Some(row) = rows.try_next().await? {
            tally.add(&row);
            let mut arguments = SqliteArguments::default();
            for value in row {
                let added = match value {
                    Value::Null => arguments.add(None::<i64>),
                    Value::Integer(value) => arguments.add(value),
                    Value::Text(value) => arguments.add(value),
                    Value::Bytes(value) => arguments.add(value),
                };
                added.map_err(|error| failed(doing)(sqlx::Error::Encode(error)))?;
            }
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&sql)), arguments);
            query.execute(&mut *to).await.map_err(failed(doing))?;
        }
        Ok(tally)
    }

    /// Copies them to PostgreSQL, in place of what is there.
    pub(super) async fn write_postgres(
        &self,
        from: &mut SqliteConnection,
        to: &mut PgConnection,
    ) -> Result<Tally, BackendError> {
        let doing = "cannot write a table";
        sqlx::query(AssertSqlSafe(self.delete())).execute(&mut *to).await.map_err(failed(doing))?;
        let places = self.columns.iter().enumerate().map(|(at, (_, kind))| format!("${}::{kind}", at + 1));
        let sql = self.insert(&places.collect::<Vec<_>>());
        let (mut rows, mut tally) = (self.in_sqlite(from), Tally::default());
        while let Some(row) = rows.try_next().await? {
            tally.add(&row);
            let mut arguments = PgArguments::default();
            for (value, (_, kind)) in row.into_iter().zip(self.columns) {
                let added = match (value, kind.as_str()) {
                    (Value::Integer(value), _) => arguments.add(value),
                    (Value::Text(value), _) => arguments.add(value),
                    (Value::Bytes(value), _) => arguments.add(value),
                    (Value::Null, "bigint") => arguments.add(None::<i64>),
                    (Value::Null, "bytea") => arguments.add(None::<Vec<u8>>),
                    (Value::Null, _) => arguments.add(None::<String>),
                };
                added.map_err(|error| failed(doing)(sqlx::Error::Encode(error)))?;
            }
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&sql)), arguments);
            query.execute(&mut *to).await.map_err(failed(doing))?;
        }
        drop(rows);
        count_on(to, self.table).await.map_err(failed(doing))?;
        Ok(tally)
    }
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

fn postgres_value(row: &PgRow, index: usize, kind: &str) -> Result<Value, BackendError> {
    let failed = failed("cannot read a value");
    Ok(match kind {
        "bigint" => row.try_get::<Option<i64>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Integer),
        "text" => row.try_get::<Option<String>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Text),
        "bytea" => row.try_get::<Option<Vec<u8>>, _>(index).map_err(failed)?.map_or(Value::Null, Value::Bytes),
        other => return Err(BackendError::Damaged(format!("a column is {other}, which has no counterpart in SQLite"))),
    })
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
