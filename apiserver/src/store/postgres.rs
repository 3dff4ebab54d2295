//! The store in a PostgreSQL database, which several servers may share.
//!
//! Who writes holds the row of the revision's counter locked until the commit: revisions are dense and in the order of
//! commits, whichever server wrote. A batch that is simple enough is one statement, which succeeds only at the revision
//! it was planned at; any other takes the lock first ([`Backend::lock`]), and with it what the others wrote.
//!
//! All of this happens on one connection in the store's writer task, which nobody cancels. A connection that failed is
//! never used again: what it was about to commit is looked up on another one ([`Postgres::settle`]).

mod audit;
pub(super) mod connect;
mod follow;
mod keys;
mod read;
mod statements;
mod tokens;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use self::connect::Session;
pub use self::follow::Follower;
use self::statements::{Statement, Statements};
use super::audit::{AuditLine, AuditReader};
use super::backend::{Backend, Batch, BodyRow, Changes, Compaction, KnownKey, Loaded, News, Portion, Position};
use super::error::{BackendError, failed};
use super::number::{signed, unsigned};
use super::object::Table;
use super::seal::Shelf;
use super::tokens::{Ended, Token};

/// A transaction takes some milliseconds; one that takes this long waits for a database that is gone or stopped. More than
/// the database's own limit (`statement_timeout`), whose error says more.
const TRANSACTION_MAX: Duration = Duration::from_secs(20);
/// How long the next row of a large table may take, and the first one, for which the table may have to be sorted. The database
/// itself sets no limit then, and one whose network has fallen silent would hold the writer up for ever.
const ROW_MAX: Duration = Duration::from_mins(1);
/// How long the outcome of a commit is looked for after its connection was lost: a restart of the database takes seconds.
/// Writers wait meanwhile, and their clients' own patience is not much longer.
const SETTLE_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 10 });
/// The pause between two looks.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);
/// Whoever holds this advisory lock shortens the log. Any number that nothing else in the database uses: "berth" in ASCII.
const COMPACTION_LOCK: i64 = 0x62_65_72_74_68;

/// Does something on the connection, if there is one, and does not wait for it for ever.
macro_rules! on_connection {
    ($self:ident, $connection:ident => $work:expr) => {
        match $self.connection().await {
            Ok($connection) => timeout(TRANSACTION_MAX, $work).await.unwrap_or(Err(BackendError::Lost)),
            Err(error) => Err(error),
        }
    };
}

/// A PostgreSQL database that one or more servers keep their store in.
pub struct Postgres {
    options: PgConnectOptions,
    session: Option<Session>,
    statements: Statements,
    tables: Arc<[Table]>,
    /// Whether the counter's row is locked in an open transaction.
    locked: bool,
    /// Of the tokens that were read last.
    tokens_version: i64,
    /// Whether the database was once seen before a revision that this server has committed or shown.
    gone_back: bool,
    row_max: Duration,
}

impl fmt::Debug for Postgres {
    /// Without the options, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").field("locked", &self.locked).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Connects to `postgres://USER:PASSWORD@HOST/DATABASE`, checks that the database is one that a store can live in,
    /// and brings its tables to this version's form. No error says the password.
    pub async fn connect(url: &str) -> Result<Self, BackendError> {
        let options = connect::options(url)?;
        let session = connect::first(&options).await?;
        let statements = Statements::default();
        Ok(Self {
            options,
            session: Some(session),
            statements,
            tables: Arc::default(),
            locked: false,
            tokens_version: 0,
            gone_back: false,
            row_max: ROW_MAX,
        })
    }

    #[cfg(test)]
    pub(super) fn with_row_max(self, row_max: Duration) -> Self {
        Self { row_max, ..self }
    }

    async fn session(&mut self) -> Result<&mut Session, BackendError> {
        if self.session.is_none() {
            self.locked = false;
            self.session = Some(Session::open(&self.options).await?);
        }
        self.session.as_mut().ok_or(BackendError::Lost)
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, BackendError> {
        Ok(&mut self.session().await?.connection)
    }

    /// Commits in the open transaction, or in one of its own.
    async fn try_commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        if self.gone_back {
            return Err(gone_back());
        }
        let doing = "cannot commit a transaction";
        let locked = self.locked;
        let writer = self.session().await?.writer;
        let before = batch.events.first().map_or(batch.revision, |event| event.revision.saturating_sub(1));
        if !locked && let Some(Statement { sql, arguments }) = self.statements.alone(batch, writer)? {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_one(self.connection().await?);
            let won: i64 = within(query).await?.and_then(|row| row.try_get(0)).map_err(failed(doing))?;
            return if won == 1 { Ok(()) } else { Err(BackendError::Behind) };
        }
        let plan = self.statements.plan(batch, writer)?;
        if !locked && self.begin().await?.revision != before {
            return Err(BackendError::Behind);
        }
        let connection = self.connection().await?;
        for Statement { sql, arguments } in plan {
            let query = sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection);
            within(query).await?.map_err(failed(doing))?;
        }
        let end = format!("UPDATE store_meta SET revision = {} WHERE id = 1; COMMIT", signed(batch.revision));
        within(sqlx::raw_sql(AssertSqlSafe(end)).execute(connection)).await?.map_err(failed(doing))?;
        self.locked = false;
        Ok(())
    }

    /// Begins a transaction that holds the counter.
    async fn begin(&mut self) -> Result<Position, BackendError> {
        let sql = "BEGIN; SELECT revision, compacted_revision, tokens_version FROM store_meta WHERE id = 1 FOR UPDATE";
        let connection = self.connection().await?;
        let row = within(sqlx::raw_sql(sql).fetch_one(connection)).await?;
        let position = position_of(&row.map_err(failed("cannot lock the revision"))?)?;
        self.locked = true;
        Ok(position)
    }

    /// Ends whatever transaction there is without a trace. False if the connection is of no more use.
    async fn roll_back(&mut self, after: Option<&BackendError>) -> bool {
        self.locked = false;
        if let Some(BackendError::Lost) = after {
            // An answer is still on its way, if it is: the next one would be taken for it.
            self.session = None;
        }
        let Some(session) = &mut self.session else { return false };
        let sql = sqlx::raw_sql("ROLLBACK").execute(&mut session.connection);
        let usable = matches!(within(sql).await, Ok(Ok(_)));
        if !usable {
            self.session = None;
        }
        usable
    }

    /// Whether a batch is in the database, after the connection that was to commit it is gone. What is left of that
    /// connection is ended first, so that the answer is final.
    async fn settle(&mut self, batch: &Batch, name: &str, writer: i64) -> Result<bool, BackendError> {
        let until = Instant::now() + SETTLE_MAX;
        loop {
            match self.look_for(batch, name, writer).await {
                Ok(Some(committed)) => return Ok(committed),
                Err(error) if !error.is_unavailable() => return Err(error),
                Ok(None) | Err(_) if Instant::now() >= until => return Err(BackendError::Unknown),
                Ok(None) => {}
                Err(_unavailable) => self.session = None,
            }
            sleep(SETTLE_PAUSE).await;
        }
    }

    /// One look; `None` if the old connection is still at work.
    async fn look_for(&mut self, batch: &Batch, name: &str, writer: i64) -> Result<Option<bool>, BackendError> {
        let doing = "cannot look for the outcome of a commit";
        let connection = self.connection().await?;
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = $1 AND usename = current_user AND pid <> pg_backend_pid()";
        let row = within(sqlx::query(sql).bind(name).fetch_one(&mut *connection)).await?;
        let ended: i64 = row.and_then(|row| row.try_get(0)).map_err(failed(doing))?;
        if ended > 0 {
            return Ok(None);
        }
        let sql = "SELECT writer FROM store_changes WHERE revision = $1";
        let row = within(sqlx::query(sql).bind(signed(batch.revision)).fetch_optional(&mut *connection)).await?;
        let found: Option<i64> =
            row.and_then(|row| row.map(|row| row.try_get(0)).transpose()).map_err(failed(doing))?;
        if found.is_none() && read::position(connection).await?.compacted >= batch.revision {
            // It has been forgotten who wrote it.
            return Err(BackendError::Unknown);
        }
        Ok(Some(found == Some(writer)))
    }

    /// What is new at a position.
    async fn since(&mut self, revision: u64, position: Position) -> Result<News, BackendError> {
        if position.revision < revision {
            tracing::error!(revision, database = position.revision, "the database has gone back");
            self.gone_back = true;
        }
        if self.gone_back {
            return Err(gone_back());
        }
        if position.compacted > revision {
            return Ok(News::Lost);
        }
        let known = self.tokens_version;
        let (news, tables) = (Arc::clone(&self.statements.news), Arc::clone(&self.tables));
        let reading = read::news(self.connection().await?, &news, &tables, revision, position, known);
        let news = timeout(TRANSACTION_MAX, reading).await.unwrap_or(Err(BackendError::Lost))?;
        if let News::Changes(Changes { tokens_version, .. }) = &news {
            self.tokens_version = *tokens_version;
        }
        Ok(news)
    }

    async fn try_compact(&mut self, compaction: Compaction) -> Result<u64, BackendError> {
        let Compaction { from, through, older_than, aged_through, rows_max } = compaction;
        let doing = "cannot shorten the log of changes";
        let connection = self.connection().await?;
        let sql = "SELECT compacted_revision, pg_try_advisory_xact_lock($1) FROM store_meta WHERE id = 1";
        let mut transaction = connection.begin().await.map_err(failed(doing))?;
        let row = sqlx::query(sql).bind(COMPACTION_LOCK).fetch_one(&mut *transaction).await.map_err(failed(doing))?;
        let compacted = unsigned(row.try_get(0).map_err(failed(doing))?)?;
        let mine: bool = row.try_get(1).map_err(failed(doing))?;
        // Another server has just done what was asked for, or is about to.
        if !mine || compacted > from {
            transaction.rollback().await.map_err(failed(doing))?;
            return Ok(compacted);
        }
        let last = signed(from.saturating_add(rows_max));
        let aged = sqlx::query("SELECT max(revision) FROM store_changes WHERE revision <= $1 AND time < $2")
            .bind(last.min(signed(aged_through)))
            .bind(older_than.as_microsecond())
            .fetch_one(&mut *transaction)
            .await
            .and_then(|row| row.try_get::<Option<i64>, _>(0))
            .map_err(failed(doing))?;
        let upto = signed(through).min(last).max(aged.unwrap_or(0));
        let mut reached = from;
        if upto > signed(from) {
            let sql = "DELETE FROM store_changes WHERE revision <= $1";
            sqlx::query(sql).bind(upto).execute(&mut *transaction).await.map_err(failed(doing))?;
            // Another server may have gone further after what was read above, and before the lock was taken.
            let sql = "UPDATE store_meta SET compacted_revision = GREATEST(compacted_revision, $1) WHERE id = 1 \
                       RETURNING compacted_revision";
            let row = sqlx::query_scalar(sql).bind(upto).fetch_one(&mut *transaction).await;
            reached = unsigned(row.map_err(failed(doing))?)?;
        }
        transaction.commit().await.map_err(failed(doing))?;
        Ok(reached)
    }

    /// Takes note of a change of tokens that this server has made. If others have changed some too, all are read again.
    fn know_tokens(&mut self, version: i64) {
        if version == self.tokens_version + 1 {
            self.tokens_version = version;
        }
    }

    /// Passes a result on, after making sure that a connection in an unknown state is not used again.
    async fn tidy<T>(&mut self, result: Result<T, BackendError>) -> Result<T, BackendError> {
        if let Err(error) = &result {
            self.roll_back(Some(error)).await;
        }
        result
    }
}

impl Backend for Postgres {
    async fn load(&mut self, tables: &[Table], portions: mpsc::Sender<Portion>) -> Result<Loaded, BackendError> {
        self.statements = Statements::new(tables)?;
        self.tables = tables.into();
        let statements = std::mem::take(&mut self.statements);
        let row_max = self.row_max;
        let result = match self.connection().await {
            Ok(connection) => read::everything(connection, &statements, tables, portions, row_max).await,
            Err(error) => Err(error),
        };
        self.statements = statements;
        let (loaded, position) = self.tidy(result).await?;
        self.tokens_version = position.tokens_version;
        Ok(loaded)
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let session = self.session().await?;
        let (name, writer) = (session.name.clone(), session.writer);
        let result = self.try_commit(batch).await;
        let Err(error) = result else { return Ok(()) };
        // What answered, and answers again, has done nothing. Otherwise nobody knows yet.
        if self.roll_back(Some(&error)).await || matches!(error, BackendError::Behind) {
            return Err(error);
        }
        tracing::warn!(error = &error as &dyn std::error::Error, "the connection was lost during a commit");
        if self.settle(batch, &name, writer).await? { Ok(()) } else { Err(error) }
    }

    async fn compact(&mut self, compaction: Compaction) -> Result<u64, BackendError> {
        let compacting = timeout(TRANSACTION_MAX, self.try_compact(compaction));
        let result = compacting.await.unwrap_or(Err(BackendError::Lost));
        self.tidy(result).await
    }

    async fn save_token(&mut self, token: &Token, line: Option<&Arc<AuditLine>>) -> Result<(), BackendError> {
        let line = line.map(|line| self.statements.notes(std::slice::from_ref(line))).transpose()?;
        let result = on_connection!(self, connection => tokens::save(connection, token, line));
        let version = self.tidy(result).await?;
        self.know_tokens(version);
        Ok(())
    }

    async fn touch_token(&mut self, id: &str, at: Timestamp) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => tokens::touch(connection, id, at));
        let version = self.tidy(result).await?;
        self.know_tokens(version);
        Ok(())
    }

    async fn remove_tokens(&mut self, ended: Ended) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => tokens::remove(connection, ended));
        let version = self.tidy(result).await?;
        self.know_tokens(version);
        Ok(())
    }

    async fn note(&mut self, lines: &[Arc<AuditLine>]) -> Result<(), BackendError> {
        let Statement { sql, arguments } = self.statements.notes(lines)?;
        let result = match self.connection().await {
            Ok(connection) => within(sqlx::query_with(AssertSqlSafe(sql), arguments).execute(connection)).await,
            Err(error) => Err(error),
        };
        let result = result.and_then(|done| done.map(drop).map_err(failed("cannot write the audit log")));
        self.tidy(result).await
    }

    async fn trim_audit(&mut self, before: Timestamp) -> Result<u64, BackendError> {
        let result = on_connection!(self, connection => audit::trim(connection, before));
        self.tidy(result).await
    }

    fn audit_reader(&self) -> Arc<dyn AuditReader> {
        Arc::new(audit::Reader::new(self.options.clone()))
    }

    async fn master_keys(&mut self) -> Result<Vec<KnownKey>, BackendError> {
        let result = on_connection!(self, connection => keys::known(connection));
        self.tidy(result).await
    }

    async fn save_master_key(&mut self, key: &KnownKey) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => keys::save(connection, key));
        self.tidy(result).await
    }

    async fn save_first_master_key(&mut self, key: &KnownKey) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => keys::save_first(connection, key));
        self.tidy(result).await
    }

    async fn forget_master_key(&mut self, id: &str) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => keys::forget(connection, id));
        self.tidy(result).await
    }

    async fn bodies(&mut self, shelf: &Shelf, after: Option<&BodyRow>) -> Result<Vec<BodyRow>, BackendError> {
        let result = on_connection!(self, connection => keys::read(connection, shelf, after));
        self.tidy(result).await
    }

    async fn replace_bodies(&mut self, shelf: &Shelf, rows: &[(BodyRow, BodyRow)]) -> Result<(), BackendError> {
        let result = on_connection!(self, connection => keys::replace(connection, shelf, rows));
        self.tidy(result).await
    }

    async fn scrub(&mut self, shelves: &[Shelf]) -> Result<(), BackendError> {
        let result = match self.connection().await {
            Ok(connection) => keys::scrub(connection, shelves).await,
            Err(error) => Err(error),
        };
        self.tidy(result).await
    }

    async fn close(&mut self) -> Result<(), BackendError> {
        match self.session.take() {
            Some(session) => session.connection.close().await.map_err(failed("cannot close the connection")),
            None => Ok(()),
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn lock(&mut self, revision: u64) -> Result<News, BackendError> {
        let result = match self.begin().await {
            Ok(position) => self.since(revision, position).await,
            Err(error) => Err(error),
        };
        self.tidy(result).await
    }

    async fn unlock(&mut self) {
        self.roll_back(None).await;
    }

    async fn news(&mut self, revision: u64) -> Result<News, BackendError> {
        let result = match self.connection().await {
            Ok(connection) => match read::position(connection).await {
                Ok(position) => self.since(revision, position).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.tidy(result).await
    }

    fn follower(&self) -> Option<Follower> {
        Some(Follower::new(self.options.clone()))
    }
}

/// What was committed since may be something else under the same revisions: only a start reads all of it anew.
fn gone_back() -> BackendError {
    let message =
        "it has gone back before what this server knows to be committed: see what was lost, and restart this server";
    BackendError::Damaged(message.to_owned())
}

/// The position in a row of the counter's three columns.
fn position_of(row: &PgRow) -> Result<Position, BackendError> {
    let number = |index| row.try_get::<i64, _>(index).map_err(failed("cannot read the revision"));
    Ok(Position { revision: unsigned(number(0)?)?, compacted: unsigned(number(1)?)?, tokens_version: number(2)? })
}

/// Waits for an answer, but not for ever: a machine that was cut off sends none.
async fn within<T>(answer: impl Future<Output = T>) -> Result<T, BackendError> {
    timeout(TRANSACTION_MAX, answer).await.map_err(|_elapsed| BackendError::Lost)
}
