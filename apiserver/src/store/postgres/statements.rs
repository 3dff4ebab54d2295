//! A batch as SQL statements: a few, whatever its size, because each is a round trip.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::postgres::PgArguments;
use sqlx::{Arguments, Encode, Postgres, Type};

use super::super::audit::AuditLine;
use super::super::backend::{Batch, Final};
use super::super::error::BackendError;
use super::super::event::Change;
use super::super::object::{Object, Table};
use super::signed;

/// A statement and what it is run with.
pub(super) struct Statement {
    pub(super) sql: Arc<str>,
    pub(super) arguments: PgArguments,
}

/// The texts of the statements, by table.
#[derive(Default)]
pub(super) struct Statements {
    tables: Vec<TableStatements>,
    log: Arc<str>,
    audit: Arc<str>,
    /// The changes after a revision, each with the state that it made.
    pub(super) news: Arc<str>,
}

struct TableStatements {
    name: Arc<str>,
    objects: Arc<str>,
    upsert: Arc<str>,
    delete: Arc<str>,
    /// A whole transaction in one statement, which does nothing if the store is not at the revision it expects.
    upsert_alone: Arc<str>,
    delete_alone: Arc<str>,
}

/// How many parameters the statement of the log takes.
const LOG_PARAMETERS: usize = 10;
/// How many parameters the statement that keeps objects takes, and how many the one that removes them.
const OBJECT_PARAMETERS: usize = 9;
const KEY_PARAMETERS: usize = 2;

fn log(from: &str) -> String {
    format!(
        "INSERT INTO store_changes \
         (revision, time, kind, namespace, name, operation, last, previous, previous_modified, writer) \
         SELECT c.revision, $1::bigint, c.kind, c.namespace, c.name, c.operation, c.last, c.previous, \
         c.previous_modified, $2::bigint FROM {from}UNNEST($3::bigint[], $4::text[], $5::text[], $6::text[], \
         $7::text[], $8::text[], $9::text[], $10::bigint[]) \
         AS c (revision, kind, namespace, name, operation, last, previous, previous_modified)"
    )
}

/// Takes six arrays as parameters after the first `skipped`; they may be empty.
fn audit(from: &str, skipped: usize) -> String {
    let types = ["bigint", "text", "text", "text", "text", "text"];
    let arrays: Vec<String> =
        types.iter().enumerate().map(|(at, kind)| format!("${}::{kind}[]", skipped + at + 1)).collect();
    format!(
        "INSERT INTO store_audit (time, user_name, namespace, resource, verb, record) SELECT a.* FROM {from}UNNEST({}) \
         AS a (time, user_name, namespace, resource, verb, record)",
        arrays.join(", ")
    )
}

/// Takes nine arrays as parameters after the first `skipped`.
fn upsert(table: &str, from: &str, skipped: usize) -> String {
    let types = ["text", "text", "text", "bigint", "bigint", "bigint", "bigint", "bigint", "text"];
    let arrays: Vec<String> =
        types.iter().enumerate().map(|(at, kind)| format!("${}::{kind}[]", skipped + at + 1)).collect();
    format!(
        "INSERT INTO {table} (namespace, name, uid, revision, generation, created, modified, deleted, body) \
         SELECT o.* FROM {from}UNNEST({}) AS o ON CONFLICT (namespace, name) DO UPDATE SET uid = excluded.uid, \
         revision = excluded.revision, generation = excluded.generation, created = excluded.created, \
         modified = excluded.modified, deleted = excluded.deleted, body = excluded.body",
        arrays.join(", ")
    )
}

/// Takes two arrays as parameters after the first `skipped`.
fn delete(table: &str, from: &str, skipped: usize) -> String {
    format!(
        "DELETE FROM {table} AS t USING {from}UNNEST(${}::text[], ${}::text[]) AS gone (namespace, name) \
         WHERE t.namespace = gone.namespace AND t.name = gone.name",
        skipped + 1,
        skipped + 2
    )
}

/// The row lock is taken by the update and held until the end: whoever comes second finds another revision.
fn alone(parameters: usize, change: impl Fn(&str, usize) -> String) -> String {
    let (new, old) = (LOG_PARAMETERS + 1, LOG_PARAMETERS + 2);
    format!(
        "WITH won AS (UPDATE store_meta SET revision = ${new}::bigint WHERE id = 1 AND revision = ${old}::bigint \
         RETURNING 1), changed AS ({}), logged AS ({}), noted AS ({}) SELECT count(*) FROM won",
        change("won, ", old),
        log("won, "),
        audit("won, ", old + parameters)
    )
}

fn news(tables: &[Table]) -> String {
    let states = tables.iter().map(|table| {
        let name = &table.name;
        format!(
            "SELECT t.body FROM {name} AS t WHERE c.kind = '{name}' AND t.namespace = c.namespace \
             AND t.name = c.name AND t.revision = c.revision"
        )
    });
    let states: Vec<String> = states.collect();
    // The state that a change made is the one before the next change of the same object, or else the present one.
    format!(
        "SELECT c.revision, c.time, c.kind, c.namespace, c.name, c.operation, \
         COALESCE(c.last, lead(c.previous) OVER (PARTITION BY c.kind, c.namespace, c.name ORDER BY c.revision), \
         present.body) FROM store_changes AS c LEFT JOIN LATERAL ({}) AS present ON true \
         WHERE c.revision > $1 ORDER BY c.revision",
        states.join(" UNION ALL ")
    )
}

impl Statements {
    /// The statements for these tables. A name that could be anything but a table's is refused: it becomes part of the
    /// text.
    pub(super) fn new(tables: &[Table]) -> Result<Self, BackendError> {
        let statements = tables.iter().map(|table| {
            let name = table.plain_name()?;
            Ok(TableStatements {
                name: name.into(),
                objects: format!(
                    "SELECT revision, created, modified, namespace, name, body FROM {name} ORDER BY namespace, name"
                )
                .into(),
                upsert: upsert(name, "", 0).into(),
                delete: delete(name, "", 0).into(),
                upsert_alone: alone(OBJECT_PARAMETERS, |from, skipped| upsert(name, from, skipped)).into(),
                delete_alone: alone(KEY_PARAMETERS, |from, skipped| delete(name, from, skipped)).into(),
            })
        });
        Ok(Self {
            tables: statements.collect::<Result<_, BackendError>>()?,
            log: log("").into(),
            audit: audit("", 0).into(),
            news: news(tables).into(),
        })
    }

    /// The statement that reads all objects of a kind.
    pub(super) fn objects(&self, kind: usize) -> Result<Arc<str>, BackendError> {
        Ok(Arc::clone(&self.table(kind)?.objects))
    }

    /// The batch as one statement that is a transaction of its own, if it is simple enough: the objects of one kind, all
    /// kept or all removed. It answers with 0 if the store is no longer at the revision before the batch.
    pub(super) fn alone(&self, batch: &Batch, writer: i64) -> Result<Option<Statement>, BackendError> {
        let (Some(first), Some(oldest)) = (batch.finals.first(), batch.events.first()) else { return Ok(None) };
        let kept = first.object.is_some();
        if batch.finals.iter().any(|last| last.kind != first.kind || last.object.is_some() != kept) {
            return Ok(None);
        }
        let table = self.table(first.kind.0)?;
        let mut arguments = PgArguments::default();
        self.bind_log(&mut arguments, batch, writer)?;
        bind(&mut arguments, signed(batch.revision))?;
        bind(&mut arguments, signed(oldest.revision.saturating_sub(1)))?;
        let rows: Vec<&Final> = batch.finals.iter().collect();
        let sql = if kept {
            bind_objects(&mut arguments, &rows)?;
            &table.upsert_alone
        } else {
            bind_keys(&mut arguments, &rows)?;
            &table.delete_alone
        };
        bind_lines(&mut arguments, &batch.audit)?;
        Ok(Some(Statement { sql: Arc::clone(sql), arguments }))
    }

    /// The statements of a transaction, in their order, but for its begin and its end.
    pub(super) fn plan(&self, batch: &Batch, writer: i64) -> Result<Vec<Statement>, BackendError> {
        let mut plan = Vec::new();
        for of_kind in batch.finals.chunk_by(|a, b| a.kind == b.kind) {
            let Some(first) = of_kind.first() else { continue };
            let table = self.table(first.kind.0)?;
            let (kept, gone): (Vec<_>, Vec<_>) = of_kind.iter().partition(|last| last.object.is_some());
            // Removals first: a uid that moves to another name is free by then.
            if !gone.is_empty() {
                let mut arguments = PgArguments::default();
                bind_keys(&mut arguments, &gone)?;
                plan.push(Statement { sql: Arc::clone(&table.delete), arguments });
            }
            if !kept.is_empty() {
                let mut arguments = PgArguments::default();
                bind_objects(&mut arguments, &kept)?;
                plan.push(Statement { sql: Arc::clone(&table.upsert), arguments });
            }
        }
        let mut arguments = PgArguments::default();
        self.bind_log(&mut arguments, batch, writer)?;
        plan.push(Statement { sql: Arc::clone(&self.log), arguments });
        if !batch.audit.is_empty() {
            plan.push(self.notes(&batch.audit)?);
        }
        Ok(plan)
    }

    /// Lines of the audit log.
    pub(super) fn notes(&self, lines: &[Arc<AuditLine>]) -> Result<Statement, BackendError> {
        let mut arguments = PgArguments::default();
        bind_lines(&mut arguments, lines)?;
        Ok(Statement { sql: Arc::clone(&self.audit), arguments })
    }

    fn table(&self, kind: usize) -> Result<&TableStatements, BackendError> {
        self.tables.get(kind).ok_or_else(|| BackendError::Damaged(format!("kind {kind} has no table")))
    }

    fn bind_log(&self, arguments: &mut PgArguments, batch: &Batch, writer: i64) -> Result<(), BackendError> {
        let events = &batch.events;
        let kinds = events.iter().map(|event| Ok(&*self.table(event.kind.0)?.name));
        let last = events.iter().map(|event| (event.change == Change::Deleted).then_some(&event.object));
        let previous = || events.iter().map(|event| event.previous.as_ref());
        bind(arguments, batch.time.as_microsecond())?;
        bind(arguments, writer)?;
        bind(arguments, events.iter().map(|event| signed(event.revision)).collect::<Vec<_>>())?;
        bind(arguments, kinds.collect::<Result<Vec<_>, BackendError>>()?)?;
        bind(arguments, events.iter().map(|event| &*event.object.namespace).collect::<Vec<_>>())?;
        bind(arguments, events.iter().map(|event| &*event.object.name).collect::<Vec<_>>())?;
        bind(arguments, events.iter().map(|event| event.change.operation()).collect::<Vec<_>>())?;
        bind(arguments, bodies(last)?)?;
        bind(arguments, bodies(previous())?)?;
        let modified = previous().map(|object| object.map(|object| object.modified.as_microsecond()));
        bind(arguments, modified.collect::<Vec<_>>())
    }
}

/// The columns' values of bodies, where there is one.
fn bodies<'a>(objects: impl Iterator<Item = Option<&'a Arc<Object>>>) -> Result<Vec<Option<&'a str>>, BackendError> {
    objects.map(|object| object.map(|object| object.text()).transpose()).collect()
}

fn bind_lines(arguments: &mut PgArguments, lines: &[Arc<AuditLine>]) -> Result<(), BackendError> {
    bind(arguments, lines.iter().map(|line| line.time.as_microsecond()).collect::<Vec<_>>())?;
    bind(arguments, lines.iter().map(|line| line.user.as_str()).collect::<Vec<_>>())?;
    bind(arguments, lines.iter().map(|line| line.namespace.as_str()).collect::<Vec<_>>())?;
    bind(arguments, lines.iter().map(|line| line.resource.as_str()).collect::<Vec<_>>())?;
    bind(arguments, lines.iter().map(|line| line.verb.as_str()).collect::<Vec<_>>())?;
    bind(arguments, lines.iter().map(|line| line.record.as_str()).collect::<Vec<_>>())
}

fn bind_keys(arguments: &mut PgArguments, rows: &[&Final]) -> Result<(), BackendError> {
    bind(arguments, rows.iter().map(|last| &*last.namespace).collect::<Vec<_>>())?;
    bind(arguments, rows.iter().map(|last| &*last.name).collect::<Vec<_>>())
}

fn bind_objects(arguments: &mut PgArguments, rows: &[&Final]) -> Result<(), BackendError> {
    let objects: Vec<&Object> = rows.iter().filter_map(|last| last.object.as_deref()).collect();
    let each = || objects.iter().copied();
    let micros = |time: Timestamp| time.as_microsecond();
    bind(arguments, each().map(|object| &*object.namespace).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| &*object.name).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| &*object.uid).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| signed(object.revision)).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| object.generation).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| micros(object.created)).collect::<Vec<_>>())?;
    bind(arguments, each().map(|object| micros(object.modified)).collect::<Vec<_>>())?;
    bind(
        arguments,
        each().map(|object| object.meta.deletion_timestamp.as_deref().copied().map(micros)).collect::<Vec<_>>(),
    )?;
    bind(arguments, each().map(Object::text).collect::<Result<Vec<_>, _>>()?)
}

fn bind<'a, T>(arguments: &mut PgArguments, value: T) -> Result<(), BackendError>
where
    T: Encode<'a, Postgres> + Type<Postgres>,
{
    arguments
        .add(value)
        .map_err(|error| BackendError::Database { doing: "cannot bind a value", source: sqlx::Error::Encode(error) })
}
