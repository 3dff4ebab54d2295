//! Reading from PostgreSQL: everything at the start, and later what others have committed.

use futures::{Stream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::backend::{Changes, Loaded, MadeState, News, Portion, Position, StoredChange, StoredObject, stopped};
use super::super::error::BackendError;
use super::super::event::Change;
use super::super::log;
use super::super::number::time;
use super::super::object::{KindId, Table};
use super::statements::Statements;
use super::{failed, position_of, signed, tokens, unsigned, within};

/// Objects that are passed on together: about 0.5 MB.
const PORTION_ROWS: usize = 512;
/// But no further ones once they have this many bytes together.
const PORTION_BYTES: usize = 4 << 20;

/// Where the store is.
pub(super) async fn position(connection: &mut PgConnection) -> Result<Position, BackendError> {
    let sql = "SELECT revision, compacted_revision, tokens_version FROM store_meta WHERE id = 1";
    let row = within(sqlx::query(sql).fetch_one(connection)).await?;
    position_of(&row.map_err(failed("cannot read the revision"))?)
}

/// Reads the whole store as it is at one moment.
pub(super) async fn everything(
    connection: &mut PgConnection,
    statements: &Statements,
    tables: &[Table],
    portions: mpsc::Sender<Portion>,
    row_max: Duration,
) -> Result<(Loaded, Position), BackendError> {
    let doing = "cannot read the store";
    // Large tables may take longer than what is usual for a statement.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = 0";
    within(sqlx::raw_sql(begin).execute(&mut *connection)).await?.map_err(failed(doing))?;
    let position = position(connection).await?;
    for kind in 0..tables.len() {
        objects(connection, KindId(kind), statements.objects(kind)?, &portions, row_max).await?;
    }
    drop(portions);
    let log_from = sqlx::query_scalar::<_, i64>(log::BEGINS)
        .bind(signed(position.compacted))
        .bind(signed(log::READ_BYTES_MAX))
        .fetch_one(&mut *connection);
    let log_from = within(log_from).await?.map_err(failed("cannot read how large the log is")).and_then(unsigned)?;
    let loaded = Loaded {
        revision: position.revision,
        compacted: position.compacted,
        log_from,
        changes: changes(connection, tables, log_from, position.revision, row_max).await?,
        tokens: within(tokens::load(connection)).await??,
        tokens_version: position.tokens_version,
    };
    within(sqlx::raw_sql("COMMIT").execute(connection)).await?.map_err(failed(doing))?;
    Ok((loaded, position))
}

/// The next row, which must not let itself be waited for too long.
async fn next<S: Stream + Unpin>(rows: &mut S, row_max: Duration) -> Result<Option<S::Item>, BackendError> {
    timeout(row_max, rows.next()).await.map_err(|_elapsed| BackendError::Lost)
}

async fn objects(
    connection: &mut PgConnection,
    kind: KindId,
    sql: Arc<str>,
    portions: &mpsc::Sender<Portion>,
    row_max: Duration,
) -> Result<(), BackendError> {
    let doing = "cannot read a kind's table";
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    let (mut objects, mut bytes) = (Vec::with_capacity(PORTION_ROWS), 0);
    while let Some(row) = next(&mut rows, row_max).await?.transpose().map_err(failed(doing))? {
        let body: String = row.try_get(5).map_err(failed(doing))?;
        bytes += body.len();
        objects.push(StoredObject {
            revision: unsigned(integer(&row, 0)?)?,
            created: time(integer(&row, 1)?)?,
            modified: time(integer(&row, 2)?)?,
            namespace: row.try_get(3).map_err(failed(doing))?,
            name: row.try_get(4).map_err(failed(doing))?,
            body: body.into(),
        });
        if objects.len() == PORTION_ROWS || bytes >= PORTION_BYTES {
            bytes = 0;
            let objects = std::mem::replace(&mut objects, Vec::with_capacity(PORTION_ROWS));
            portions.send(Portion { kind, objects }).await.map_err(|_gone| stopped())?;
        }
    }
    portions.send(Portion { kind, objects }).await.map_err(|_gone| stopped())
}

async fn changes(
    connection: &mut PgConnection,
    tables: &[Table],
    from: u64,
    revision: u64,
    row_max: Duration,
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
    while let Some(row) = next(&mut rows, row_max).await?.transpose().map_err(failed(doing))? {
        expected += 1;
        let found = unsigned(integer(&row, 0)?)?;
        if found != expected {
            return Err(BackendError::Damaged(format!("the log has {found} where {expected} should be")));
        }
        let Some(kind) = kind(&row, 2, tables)? else { continue };
        let optional = |index| -> Result<Option<Vec<u8>>, BackendError> {
            let value: Option<String> = row.try_get(index).map_err(failed(doing))?;
            Ok(value.map(Vec::from))
        };
        let previous = match optional(7)? {
            Some(body) => Some((body, time(integer(&row, 8)?)?)),
            None => None,
        };
        changes.push(StoredChange {
            revision: found,
            time: time(integer(&row, 1)?)?,
            kind,
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

/// What was committed after `revision`, up to at least `position`.
pub(super) async fn news(
    connection: &mut PgConnection,
    sql: &Arc<str>,
    tables: &[Table],
    revision: u64,
    position: Position,
    tokens_known: i64,
) -> Result<News, BackendError> {
    let doing = "cannot read what others have changed";
    let tokens = if position.tokens_version == tokens_known { None } else { Some(tokens::load(connection).await?) };
    let mut changes = Vec::new();
    let (mut upto, mut bytes) = (revision, 0);
    if position.revision > revision {
        let query = sqlx::query(AssertSqlSafe(Arc::clone(sql))).bind(signed(revision));
        let mut rows = query.fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(failed(doing))? {
            upto += 1;
            if unsigned(integer(&row, 0)?)? != upto {
                // The log has been shortened since the position was read.
                return Ok(News::Lost);
            }
            let Some(kind) = kind(&row, 2, tables)? else { continue };
            let state: Option<String> = row.try_get(6).map_err(failed(doing))?;
            let state = state.ok_or_else(|| BackendError::Damaged(format!("the change {upto} leads to no state")))?;
            bytes += state.len() as u64;
            if bytes > log::READ_BYTES_MAX {
                // The objects alone take less than all states that they have been in.
                return Ok(News::Lost);
            }
            changes.push(MadeState {
                revision: upto,
                time: time(integer(&row, 1)?)?,
                kind,
                namespace: row.try_get(3).map_err(failed(doing))?,
                name: row.try_get(4).map_err(failed(doing))?,
                change: Change::from_operation(row.try_get(5).map_err(failed(doing))?),
                body: state.into(),
            });
        }
        if upto < position.revision {
            return Ok(News::Lost);
        }
    }
    Ok(News::Changes(Changes { revision: upto, changes, tokens_version: position.tokens_version, tokens }))
}

/// The kind whose table a row names; `None` if this server has no such kind.
fn kind(row: &PgRow, index: usize, tables: &[Table]) -> Result<Option<KindId>, BackendError> {
    let name: &str = row.try_get(index).map_err(failed("cannot read the name of a table"))?;
    Ok(tables.iter().position(|known| known.name == name).map(KindId))
}

pub(super) fn integer(row: &PgRow, index: usize) -> Result<i64, BackendError> {
    row.try_get(index).map_err(failed("cannot read a number"))
}
