//! The statements about keys and bodies, which are the same in both databases.

use super::super::error::BackendError;
use super::super::object::Table;
use super::rewrap::Shelf;

/// Rows of one step: at some KiB each they are read, opened and written within a few milliseconds, for which clients wait.
const STEP_ROWS: u32 = 64;

pub(in super::super) const KEYS: &str = "SELECT id, created, complete FROM store_keys ORDER BY created, id";
pub(in super::super) const SAVE_KEY: &str = "INSERT INTO store_keys (id, created, complete) VALUES ($1, $2, $3) \
    ON CONFLICT (id) DO UPDATE SET complete = excluded.complete";
pub(in super::super) const SAVE_FIRST_KEY: &str = "INSERT INTO store_keys (id, created, complete) \
    SELECT CAST($1 AS TEXT), CAST($2 AS BIGINT), CAST($3 AS BIGINT) WHERE NOT EXISTS (SELECT 1 FROM store_keys)";
pub(in super::super) const FORGET_KEY: &str = "DELETE FROM store_keys WHERE id = $1";

/// Reads the rows behind `$1` (and `$2`): revision, table, namespace, name, and one or two bodies.
pub(in super::super) fn read(shelf: &Shelf) -> Result<String, BackendError> {
    Ok(match shelf {
        Shelf::Objects(table) => {
            let table = plain(table)?;
            format!(
                "SELECT CAST(0 AS BIGINT), '{table}', namespace, name, body, NULL FROM {table} \
                 WHERE (namespace, name) > ($1, $2) ORDER BY namespace, name LIMIT {STEP_ROWS}"
            )
        }
        Shelf::Log => format!(
            "SELECT revision, kind, namespace, name, last, previous FROM store_changes WHERE revision > $1 \
             ORDER BY revision LIMIT {STEP_ROWS}"
        ),
    })
}

/// Replaces the bodies of a row. Of an object: `$1` is the new one, `$2` and `$3` say which row, `$4` is what it must be
/// still. Of a change, which nobody else changes: `$1` and `$2` are the new ones, `$3` is the revision.
pub(in super::super) fn replace(shelf: &Shelf) -> Result<String, BackendError> {
    Ok(match shelf {
        Shelf::Objects(table) => {
            let table = plain(table)?;
            format!("UPDATE {table} SET body = $1 WHERE namespace = $2 AND name = $3 AND body = $4")
        }
        Shelf::Log => "UPDATE store_changes SET last = $1, previous = $2 WHERE revision = $3".to_owned(),
    })
}

/// The SQL table of a shelf.
pub(in super::super) fn table(shelf: &Shelf) -> Result<String, BackendError> {
    match shelf {
        Shelf::Objects(table) => plain(table),
        Shelf::Log => Ok("store_changes".to_owned()),
    }
}

fn plain(name: &str) -> Result<String, BackendError> {
    let table = Table { name: name.to_owned(), ..Table::default() };
    table.plain_name().map(str::to_owned)
}
