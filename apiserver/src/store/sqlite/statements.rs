//! A batch as SQL statements.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::Arguments;
use sqlx::sqlite::SqliteArguments;

use super::super::audit::AuditLine;
use super::super::backend::{Batch, Final};
use super::super::error::BackendError;
use super::super::event::{Change, Event};
use super::super::object::{Object, Table};

/// Rows of one statement at most. A batch is cut into powers of two, so that six statements a table are prepared.
const ROWS_MAX: usize = 32;

/// A statement (or a few, as one text) and what it is run with.
pub(super) struct Statement {
    pub(super) sql: Arc<str>,
    pub(super) arguments: SqliteArguments,
}

/// The texts of all statements that write.
#[derive(Debug, Default)]
pub(super) struct Statements {
    tables: Vec<TableStatements>,
    log: BySize,
    audit: BySize,
    begin: Arc<str>,
    end: Arc<str>,
}

#[derive(Debug)]
struct TableStatements {
    name: Arc<str>,
    upsert: BySize,
    delete: BySize,
    /// The whole transaction of one write: handed over at once, it takes a third of the time.
    upsert_one: Arc<str>,
    delete_one: Arc<str>,
    /// The same, with a line of the audit log.
    upsert_noted: Arc<str>,
    delete_noted: Arc<str>,
}

/// The texts for 1, 2, 4 … [`ROWS_MAX`] rows.
type BySize = Vec<(usize, Arc<str>)>;

const BEGIN: &str = "BEGIN IMMEDIATE";
const END: &str = "UPDATE store_meta SET revision = ? WHERE id = 1; COMMIT";
const LOG: &str = "INSERT INTO store_changes \
    (revision, time, kind, namespace, name, operation, last, previous, previous_modified) VALUES ";
const LOG_COLUMNS: usize = 9;
const OBJECT_COLUMNS: usize = 9;

fn upsert(table: &str, rows: usize) -> String {
    let values = values(OBJECT_COLUMNS, rows);
    format!(
        "INSERT INTO {table} (namespace, name, uid, revision, generation, created, modified, deleted, body) \
         VALUES {values} ON CONFLICT (namespace, name) DO UPDATE SET uid = excluded.uid, \
         revision = excluded.revision, generation = excluded.generation, created = excluded.created, \
         modified = excluded.modified, deleted = excluded.deleted, body = excluded.body"
    )
}

fn delete(table: &str, rows: usize) -> String {
    format!("DELETE FROM {table} WHERE (namespace, name) IN (VALUES {})", values(2, rows))
}

fn log(rows: usize) -> String {
    format!("{LOG}{}", values(LOG_COLUMNS, rows))
}

fn audit(rows: usize) -> String {
    format!("INSERT INTO store_audit (time, user_name, namespace, resource, verb, record) VALUES {}", values(6, rows))
}

fn values(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    vec![row; rows].join(",")
}

fn by_size(text: impl Fn(usize) -> String) -> BySize {
    let sizes = std::iter::successors(Some(ROWS_MAX), |size| (*size > 1).then_some(size / 2));
    sizes.map(|size| (size, text(size).into())).collect()
}

impl Statements {
    /// The statements for these tables. A name that could be anything but a table's is refused: it becomes part of the
    /// text.
    pub(super) fn new(tables: &[Table]) -> Result<Self, BackendError> {
        let tables = tables.iter().map(|table| {
            let name = table.plain_name()?;
            let one = |change: &str| format!("{BEGIN}; {change}; {}; {END}", log(1)).into();
            let noted = |change: &str| format!("{BEGIN}; {change}; {}; {}; {END}", log(1), audit(1)).into();
            Ok(TableStatements {
                name: name.into(),
                upsert: by_size(|rows| upsert(name, rows)),
                delete: by_size(|rows| delete(name, rows)),
                upsert_one: one(&upsert(name, 1)),
                delete_one: one(&delete(name, 1)),
                upsert_noted: noted(&upsert(name, 1)),
                delete_noted: noted(&delete(name, 1)),
            })
        });
        Ok(Self {
            tables: tables.collect::<Result<_, BackendError>>()?,
            log: by_size(log),
            audit: by_size(audit),
            begin: BEGIN.into(),
            end: END.into(),
        })
    }

    /// The statements of one transaction, in their order.
    pub(super) fn plan(&self, batch: &Batch) -> Result<Vec<Statement>, BackendError> {
        if let ([event], [last], [] | [_]) = (&*batch.events, &*batch.finals, &*batch.audit) {
            return Ok(vec![self.one(batch, event, last)?]);
        }
        let mut plan = vec![Statement { sql: Arc::clone(&self.begin), arguments: SqliteArguments::default() }];
        for of_kind in batch.finals.chunk_by(|a, b| a.kind == b.kind) {
            let Some(first) = of_kind.first() else { continue };
            let table = self.table(first.kind.0)?;
            let (kept, gone): (Vec<_>, Vec<_>) = of_kind.iter().partition(|last| last.object.is_some());
            // Removals first: a uid that moves to another name is free by then.
            in_chunks(&mut plan, &table.delete, &gone, bind_key)?;
            in_chunks(&mut plan, &table.upsert, &kept, |arguments, last| match &last.object {
                Some(object) => bind_object(arguments, object),
                None => Ok(()),
            })?;
        }
        let events: Vec<_> = batch.events.iter().collect();
        in_chunks(&mut plan, &self.log, &events, |arguments, event| self.bind_event(arguments, batch.time, event))?;
        plan.extend(self.lines(&batch.audit)?);
        let mut arguments = SqliteArguments::default();
        bind(&mut arguments, super::signed(batch.revision))?;
        plan.push(Statement { sql: Arc::clone(&self.end), arguments });
        Ok(plan)
    }

    /// Lines of the audit log that belong to no batch.
    pub(super) fn notes(&self, lines: &[Arc<AuditLine>]) -> Result<Vec<Statement>, BackendError> {
        let mut plan = vec![Statement { sql: Arc::clone(&self.begin), arguments: SqliteArguments::default() }];
        plan.extend(self.lines(lines)?);
        plan.push(Statement { sql: "COMMIT".into(), arguments: SqliteArguments::default() });
        Ok(plan)
    }

    /// The same, for a transaction that is open.
    pub(super) fn lines<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a Arc<AuditLine>>,
    ) -> Result<Vec<Statement>, BackendError> {
        let mut plan = Vec::new();
        let lines: Vec<_> = lines.into_iter().collect();
        in_chunks(&mut plan, &self.audit, &lines, |arguments, line| bind_line(arguments, line))?;
        Ok(plan)
    }

    fn one(&self, batch: &Batch, event: &Event, last: &Final) -> Result<Statement, BackendError> {
        let table = self.table(last.kind.0)?;
        let mut arguments = SqliteArguments::default();
        let sql = if let Some(object) = &last.object {
            bind_object(&mut arguments, object)?;
            if batch.audit.is_empty() { &table.upsert_one } else { &table.upsert_noted }
        } else {
            bind_key(&mut arguments, last)?;
            if batch.audit.is_empty() { &table.delete_one } else { &table.delete_noted }
        };
        self.bind_event(&mut arguments, batch.time, event)?;
        for line in &batch.audit {
            bind_line(&mut arguments, line)?;
        }
        bind(&mut arguments, super::signed(batch.revision))?;
        Ok(Statement { sql: Arc::clone(sql), arguments })
    }

    fn table(&self, kind: usize) -> Result<&TableStatements, BackendError> {
        self.tables.get(kind).ok_or_else(|| BackendError::Damaged(format!("kind {kind} has no table")))
    }

    fn bind_event(&self, arguments: &mut SqliteArguments, time: Timestamp, event: &Event) -> Result<(), BackendError> {
        bind(arguments, super::signed(event.revision))?;
        bind(arguments, time.as_microsecond())?;
        bind(arguments, Arc::clone(&self.table(event.kind.0)?.name))?;
        bind(arguments, Arc::clone(&event.object.namespace))?;
        bind(arguments, Arc::clone(&event.object.name))?;
        bind(arguments, event.change.operation())?;
        let last = (event.change == Change::Deleted).then(|| text(&event.object)).transpose()?;
        bind(arguments, last)?;
        bind(arguments, event.previous.as_deref().map(text).transpose()?)?;
        bind(arguments, event.previous.as_ref().map(|previous| previous.modified.as_microsecond()))
    }
}

/// Cuts rows into the largest statements there are.
fn in_chunks<T>(
    plan: &mut Vec<Statement>,
    statements: &BySize,
    mut rows: &[&T],
    bind_row: impl Fn(&mut SqliteArguments, &T) -> Result<(), BackendError>,
) -> Result<(), BackendError> {
    for (size, sql) in statements {
        while let Some((chunk, rest)) = rows.split_at_checked(*size) {
            let mut arguments = SqliteArguments::default();
            for row in chunk {
                bind_row(&mut arguments, row)?;
            }
            plan.push(Statement { sql: Arc::clone(sql), arguments });
            rows = rest;
        }
    }
    Ok(())
}

fn bind<'a, T>(arguments: &mut SqliteArguments, value: T) -> Result<(), BackendError>
where
    T: sqlx::Encode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    arguments
        .add(value)
        .map_err(|error| BackendError::Database { doing: "cannot bind a value", source: sqlx::Error::Encode(error) })
}

fn bind_line(arguments: &mut SqliteArguments, line: &AuditLine) -> Result<(), BackendError> {
    bind(arguments, line.time.as_microsecond())?;
    for text in [&line.user, &line.namespace, &line.resource, &line.verb, &line.record] {
        bind(arguments, text.clone())?;
    }
    Ok(())
}

fn bind_key(arguments: &mut SqliteArguments, last: &Final) -> Result<(), BackendError> {
    bind(arguments, Arc::clone(&last.namespace))?;
    bind(arguments, Arc::clone(&last.name))
}

fn bind_object(arguments: &mut SqliteArguments, object: &Object) -> Result<(), BackendError> {
    bind(arguments, Arc::clone(&object.namespace))?;
    bind(arguments, Arc::clone(&object.name))?;
    bind(arguments, Arc::clone(&object.uid))?;
    bind(arguments, super::signed(object.revision))?;
    bind(arguments, object.generation)?;
    bind(arguments, object.created.as_microsecond())?;
    bind(arguments, object.modified.as_microsecond())?;
    bind(arguments, object.meta.deletion_timestamp.as_deref().copied().map(Timestamp::as_microsecond))?;
    bind(arguments, text(object)?)
}

/// The body as it stands in a column.
fn text(object: &Object) -> Result<Arc<str>, BackendError> {
    object.text().map(Arc::from)
}
