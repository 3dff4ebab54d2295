//! The store in a SQLite file.
//!
//! One connection writes, in WAL mode and with `synchronous=FULL`: a commit that has returned survives a loss of power.
//! Statements are few and large (many rows each, prepared once), because handing one to the connection's thread costs
//! as much as inserting several rows.

mod audit;
mod checkpoint;
mod keys;
mod statements;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use jiff::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, SqlSafeStr};
use tokio::sync::mpsc;

use self::checkpoint::Checkpointer;
use self::statements::{Statement, Statements};
use super::audit::{AuditLine, AuditReader};
use super::backend::{
    Backend, Batch, BodyRow, Compaction, KnownKey, Loaded, Portion, StoredChange, StoredObject, stopped,
};
use super::error::{BackendError, failed};
use super::event::Change;
use super::log;
use super::number::{signed, time, unsigned};
use super::object::{KindId, Table};
use super::seal::Shelf;
use super::tokens::{Ended, Token};

/// Prepared statements that are kept: those of some twenty busy tables.
const STATEMENTS_MAX: usize = 256;
/// How long another process may hold the file, as a backup does, before a write fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the process that had the store before may take to end.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A SQLite file that belongs to one store at a time.
#[derive(Debug)]
pub struct Sqlite {
    writer: Option<SqliteConnection>,
    options: SqliteConnectOptions,
    path: PathBuf,
    statements: Statements,
    checkpointer: Option<Checkpointer>,
    /// Whether a transaction may have been left open.
    unclean: bool,
    /// Held as long as the store is open, so that no second process orders writes of its own.
    _lock: std::fs::File,
}

impl Sqlite {
    /// Opens or creates the file and brings its tables to this version's form.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, BackendError> {
        Self::open_within(path.into(), LOCK_TIMEOUT).await
    }

    /// Opens the file if whoever has it gives it up in time.
    pub(super) async fn open_within(path: PathBuf, patience: Duration) -> Result<Self, BackendError> {
        let lock = lock(&path, patience).await?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .statement_cache_capacity(STATEMENTS_MAX)
            // 3 MB of pages: about what the largest transaction of objects of 1 KiB writes; one that writes more puts some of
            // it into the log early. Bodies are read from memory anyway, and the kernel has the rest of the file.
            .pragma("cache_size", "-3072")
            // What a statement may have to undo is a few pages: not worth a file made and removed for each.
            .pragma("temp_store", "memory")
            // The log is moved by the checkpointer instead.
            .pragma("wal_autocheckpoint", "0")
            .row_buffer_size(1_024)
            .thread_name(|_| "store-sqlite".to_owned())
            .disable_statement_logging();
        let mut writer = connect(&options).await?;
        migrate(&mut writer).await?;
        let checkpointer = Some(Checkpointer::start(&path, options.clone()));
        let statements = Statements::default();
        Ok(Self { writer: Some(writer), options, path, statements, checkpointer, unclean: false, _lock: lock })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connection that writes, with no transaction open.
    pub(super) async fn writer(&mut self) -> Result<&mut SqliteConnection, BackendError> {
        if self.unclean || self.writer.is_none() {
            // A new connection is the one sure way out of a transaction whose state is unknown.
            self.writer = None;
            self.writer = Some(connect(&self.options).await?);
            self.unclean = false;
        }
        self.writer.as_mut().ok_or_else(|| BackendError::Damaged("the connection is gone".into()))
    }
}

async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, BackendError> {
    options.connect().await.map_err(failed("cannot open the database"))
}

/// Takes the lock beside the file.
async fn lock(path: &Path, patience: Duration) -> Result<std::fs::File, BackendError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file_error = |source| BackendError::File { path: name.display().to_string(), source };
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(&name).map_err(file_error)?;
    let locked = async {
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(()),
                Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(std::fs::TryLockError::Error(error)) => return Err(file_error(error)),
            }
        }
    };
    match tokio::time::timeout(patience, locked).await {
        Ok(result) => result?,
        Err(_elapsed) => {
            let source = std::io::Error::new(std::io::ErrorKind::ResourceBusy, "another process uses this store");
            return Err(file_error(source));
        }
    }
    Ok(file)
}

/// Number, name and statements; see `migrations/README.md`.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "objects", include_str!("../../../migrations/sqlite/0001_objects.sql")),
    (2, "roles", include_str!("../../../migrations/sqlite/0002_roles.sql")),
    (3, "quotas", include_str!("../../../migrations/sqlite/0003_quotas.sql")),
    (4, "audit", include_str!("../../../migrations/sqlite/0004_audit.sql")),
    (5, "keys", include_str!("../../../migrations/sqlite/0005_keys.sql")),
    (6, "accounts", include_str!("../../../migrations/sqlite/0006_accounts.sql")),
    (7, "audit ids", include_str!("../../../migrations/sqlite/0007_audit_ids.sql")),
];

/// Runs what has not run yet, all of it or nothing: a new file is one transaction instead of one for each.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), BackendError> {
    let mut transaction = connection.begin().await.map_err(failed("cannot begin to migrate"))?;
    migrator().run(&mut *transaction).await.map_err(BackendError::Migrate)?;
    transaction.commit().await.map_err(failed("cannot commit the migrations"))
}

fn migrator() -> Migrator {
    migrator_to(i64::MAX)
}

/// Up to a version: what an older program had.
pub(super) fn migrator_to(version: i64) -> Migrator {
    let migration = |(number, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*number, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    let wanted = MIGRATIONS.iter().filter(|(number, ..)| *number <= version);
    Migrator::with_migrations(wanted.map(migration).collect())
}

impl Backend for Sqlite {
    async fn load(&mut self, tables: &[Table], portions: mpsc::Sender<Portion>) -> Result<Loaded, BackendError> {
        self.statements = Statements::new(tables)?;
        let connection = self.writer().await?;
        let meta = sqlx::query("SELECT revision, compacted_revision FROM store_meta WHERE id = 1")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("cannot read the revision"))?;
        let mut loaded = Loaded {
            revision: unsigned(integer(&meta, 0)?)?,
            compacted: unsigned(integer(&meta, 1)?)?,
            ..Loaded::default()
        };
        for (kind, table) in tables.iter().enumerate() {
            load_objects(connection, KindId(kind), table, &portions).await?;
        }
        drop(portions);
        loaded.log_from = sqlx::query_scalar::<_, i64>(log::BEGINS)
            .bind(signed(loaded.compacted))
            .bind(signed(log::READ_BYTES_MAX))
            .fetch_one(&mut *connection)
            .await
            .map_err(failed("cannot read how large the log is"))
            .and_then(unsigned)?;
        loaded.changes = load_changes(connection, tables, loaded.log_from, loaded.revision).await?;
        loaded.tokens = tokens::load(connection).await?;
        Ok(loaded)
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let plan = self.statements.plan(batch)?;
        let mut checkpointer = self.checkpointer.take();
        let connection = self.writer().await?;
        let result = run(connection, plan).await;
        if let (Ok(()), Some(checkpointer)) = (&result, &mut checkpointer) {
            checkpointer.committed(connection).await;
        }
        if result.is_err() {
            // Rolls back whatever of the transaction there is, or else takes a new connection for the next one.
            let rolled_back = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
            if let Err(error) = rolled_back {
                tracing::debug!(error = &error as &dyn std::error::Error, "no transaction to roll back");
                self.unclean = true;
            }
        }
        self.checkpointer = checkpointer;
        result.map_err(failed("cannot commit a transaction"))
    }

    async fn compact(&mut self, compaction: Compaction) -> Result<u64, BackendError> {
        let Compaction { from, through, older_than, aged_through, rows_max } = compaction;
        let connection = self.writer().await?;
        let doing = "cannot shorten the log of changes";
        let last = signed(from.saturating_add(rows_max));
        let aged = sqlx::query("SELECT max(revision) FROM store_changes WHERE revision <= $1 AND time < $2")
            .bind(last.min(signed(aged_through)))
            .bind(older_than.as_microsecond())
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(failed(doing))?;
        let upto = signed(through).min(last).max(aged.unwrap_or(0));
        if upto <= signed(from) {
            return Ok(from);
        }
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed(doing))?;
        sqlx::query("DELETE FROM store_changes WHERE revision <= $1")
            .bind(upto)
            .execute(&mut *transaction)
            .await
            .map_err(failed(doing))?;
        sqlx::query("UPDATE store_meta SET compacted_revision = $1 WHERE id = 1")
            .bind(upto)
            .execute(&mut *transaction)
            .await
            .map_err(failed(doing))?;
        transaction.commit().await.map_err(failed(doing))?;
        unsigned(upto)
    }

    async fn save_token(&mut self, token: &Token, line: Option<&Arc<AuditLine>>) -> Result<(), BackendError> {
        let lines = self.statements.lines(line)?;
        let doing = "cannot save a token";
        let mut transaction = self.writer().await?.begin_with("BEGIN IMMEDIATE").await.map_err(failed(doing))?;
        tokens::save(&mut transaction, token).await?;
        run(&mut transaction, lines).await.map_err(failed("cannot write the audit log"))?;
        transaction.commit().await.map_err(failed(doing))
    }

    async fn touch_token(&mut self, id: &str, at: Timestamp) -> Result<(), BackendError> {
        tokens::touch(self.writer().await?, id, at).await
    }

    async fn remove_tokens(&mut self, ended: Ended) -> Result<(), BackendError> {
        tokens::remove(self.writer().await?, ended).await
    }

    async fn note(&mut self, lines: &[Arc<AuditLine>]) -> Result<(), BackendError> {
        let plan = self.statements.notes(lines)?;
        let connection = self.writer().await?;
        let result = run(connection, plan).await;
        if result.is_err() {
            self.unclean = true;
        }
        result.map_err(failed("cannot write the audit log"))
    }

    async fn trim_audit(&mut self, before: Timestamp) -> Result<u64, BackendError> {
        audit::trim(self.writer().await?, before).await
    }

    fn audit_reader(&self) -> Arc<dyn AuditReader> {
        Arc::new(audit::Reader::new(self.options.clone()))
    }

    async fn master_keys(&mut self) -> Result<Vec<KnownKey>, BackendError> {
        keys::known(self.writer().await?).await
    }

    async fn save_master_key(&mut self, key: &KnownKey) -> Result<(), BackendError> {
        keys::save(self.writer().await?, key).await
    }

    async fn save_first_master_key(&mut self, key: &KnownKey) -> Result<(), BackendError> {
        keys::save_first(self.writer().await?, key).await
    }

    async fn forget_master_key(&mut self, id: &str) -> Result<(), BackendError> {
        keys::forget(self.writer().await?, id).await
    }

    async fn bodies(&mut self, shelf: &Shelf, after: Option<&BodyRow>) -> Result<Vec<BodyRow>, BackendError> {
        keys::read(self.writer().await?, shelf, after).await
    }

    async fn replace_bodies(&mut self, shelf: &Shelf, rows: &[(BodyRow, BodyRow)]) -> Result<(), BackendError> {
        keys::replace(self.writer().await?, shelf, rows).await
    }

    async fn scrub(&mut self, _shelves: &[Shelf]) -> Result<(), BackendError> {
        keys::scrub(self.writer().await?).await
    }

    async fn close(&mut self) -> Result<(), BackendError> {
        if let Some(checkpointer) = self.checkpointer.take() {
            checkpointer.stop().await;
        }
        match self.writer.take() {
            // Closing the last connection writes the log back into the file.
            Some(connection) => connection.close().await.map_err(failed("cannot close the database")),
            None => Ok(()),
        }
    }
}

/// Runs a transaction's statements one after the other.
async fn run(connection: &mut SqliteConnection, plan: Vec<Statement>) -> Result<(), sqlx::Error> {
    for Statement { sql, arguments } in plan {
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Objects that are read as one row: large enough that a row's cost does not count, small enough (about 0.5 MB) to be
/// passed on soon.
const PORTION_ROWS: u32 = 512;
/// But only as many as have this many bytes together if all are as long as the longest: SQLite refuses rows of a gigabyte.
const PORTION_BYTES: u32 = 4 << 20;

/// Reads a kind's table. Handing a row from the connection's thread to here costs far more than reading it, so that
/// SQLite joins many into one: fields apart by tabs, objects by line feeds. Neither occurs in names (the store refuses
/// them) nor in bodies (in JSON text they are escaped).
async fn load_objects(
    connection: &mut SqliteConnection,
    kind: KindId,
    table: &Table,
    portions: &mpsc::Sender<Portion>,
) -> Result<(), BackendError> {
    let doing = "cannot read a kind's table";
    let name = &table.name;
    let sql: Arc<str> = format!(
        "SELECT max(id), group_concat(revision || char(9) || created || char(9) || modified || char(9) || namespace \
         || char(9) || name || char(9) || body, char(10)) \
         FROM (SELECT rowid AS id, * FROM {name} WHERE rowid > $1 ORDER BY rowid LIMIT \
         (SELECT max(1, min({PORTION_ROWS}, {PORTION_BYTES} / (1 + coalesce(max(size), 0)))) FROM \
         (SELECT octet_length(body) AS size FROM {name} WHERE rowid > $1 ORDER BY rowid LIMIT {PORTION_ROWS})))"
    )
    .into();
    let mut after = i64::MIN;
    loop {
        let query = sqlx::query(AssertSqlSafe(Arc::clone(&sql))).bind(after);
        let row = query.fetch_one(&mut *connection).await.map_err(failed(doing))?;
        let last: Option<i64> = row.try_get(0).map_err(failed(doing))?;
        let Some(last) = last else { return Ok(()) };
        let text = Bytes::from_owner(Text(row));
        let ends = memchr::memchr_iter(b'\n', &text).chain([text.len()]);
        let lines = ends.scan(0, |start, end| Some(text.slice(std::mem::replace(start, end + 1)..end)));
        let objects = lines.map(|line| stored_object(&line)).collect::<Option<Vec<_>>>();
        let objects = objects.ok_or_else(|| BackendError::Damaged(format!("a row of {}", table.name)))?;
        portions.send(Portion { kind, objects }).await.map_err(|_gone| stopped())?;
        after = last;
    }
}

/// The text in a row's second column. It is not copied: with many objects that takes longer than anything else here.
struct Text(SqliteRow);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        // Nothing where there is no text, which is then no object.
        self.0.try_get(1).unwrap_or_default()
    }
}

fn stored_object(line: &Bytes) -> Option<StoredObject> {
    let mut fields = line.splitn(6, |byte| *byte == b'\t');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (revision, created, modified) = (text()?.parse().ok()?, text()?.parse().ok()?, text()?.parse().ok()?);
    let (namespace, name) = (text()?.to_owned(), text()?.to_owned());
    let time = |micros| Timestamp::from_microsecond(micros).ok();
    let body = line.slice_ref(fields.next()?);
    Some(StoredObject { namespace, name, revision, created: time(created)?, modified: time(modified)?, body })
}

async fn load_changes(
    connection: &mut SqliteConnection,
    tables: &[Table],
    from: u64,
    revision: u64,
) -> Result<Vec<StoredChange>, BackendError> {
    let mut rows = sqlx::query(
        "SELECT revision, time, kind, namespace, name, operation, last, previous, previous_modified \
         FROM store_changes WHERE revision > $1 ORDER BY revision",
    )
    .bind(signed(from))
    .fetch(connection);
    let doing = "cannot read the log of changes";
    let mut changes = Vec::new();
    let mut expected = from;
    while let Some(row) = rows.try_next().await.map_err(failed(doing))? {
        expected += 1;
        let found = unsigned(integer(&row, 0)?)?;
        if found != expected {
            return Err(BackendError::Damaged(format!("the log has {found} where {expected} should be")));
        }
        let table: &str = row.try_get(2).map_err(failed(doing))?;
        let Some(kind) = tables.iter().position(|known| known.name == table) else { continue };
        let optional = |index| -> Result<Option<Vec<u8>>, BackendError> { row.try_get(index).map_err(failed(doing)) };
        let previous = match optional(7)? {
            Some(body) => Some((body, time(integer(&row, 8)?)?)),
            None => None,
        };
        changes.push(StoredChange {
            revision: found,
            time: time(integer(&row, 1)?)?,
            kind: KindId(kind),
            namespace: row.try_get(3).map_err(failed(doing))?,
            name: row.try_get(4).map_err(failed(doing))?,
            change: Change::from_operation(row.try_get(5).map_err(failed(doing))?),
            last: optional(6)?,
            previous,
        });
    }
    if expected != revision {
        return Err(BackendError::Damaged(format!("the log ends at {expected}, the store at {revision}")));
    }
    Ok(changes)
}

fn integer(row: &SqliteRow, index: usize) -> Result<i64, BackendError> {
    row.try_get(index).map_err(failed("cannot read a number"))
}
