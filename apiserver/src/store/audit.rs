//! The audit log in the database: a line for each mutation, in the same transaction as what it tells of.
//!
//! It is written and read, and never kept in memory. Lines of mutations are as durable as the mutations; lines of what
//! was refused are written soon after, and may be lost with the server, or when there are too many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::error::{BackendError, Error};
use super::object::Object;
use super::writer::Request;
use super::{Store, Write};

/// Lines about refusals that wait for the writer: what one transaction takes. More are counted and dropped, so that
/// somebody who asks for what they may not have cannot fill the queue of those who may.
const NOTES_MAX: usize = 256;
/// How long lines are kept: a quarter of a year is what audits ask for.
pub(super) const AGE_MAX: Duration = Duration::from_hours(24 * 90);
/// And how many: at about 700 bytes each some 700 MB.
pub(super) const LINES_MAX: u64 = 1_000_000;
/// Lines removed in one transaction: it takes some milliseconds, and writers wait no longer than that.
pub(super) const TRIM_MAX: u64 = 1_000;

/// Queries of the log at a time: each has a connection of its own, of which a database has some hundred in all, and a query
/// that finds nothing reads everything.
pub(super) const READS_MAX: usize = 4;

/// A line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// When it happened.
    pub time: Timestamp,
    /// Who asked.
    pub user: String,
    /// Empty for what belongs to no namespace.
    pub namespace: String,
    /// `plural.group`, or a path.
    pub resource: String,
    /// For example `update`.
    pub verb: String,
    /// The whole record as JSON. No secret stands in it.
    pub record: String,
}

/// Which lines are wanted, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only of this resource.
    pub resource: Option<String>,
    /// Only of this verb.
    pub verb: Option<String>,
    /// Only from then on.
    pub since: Option<Timestamp>,
    /// Only those before this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Rises with every line.
    pub id: u64,
    /// The record as JSON.
    pub record: String,
}

/// How the lines of a query are asked for, in the words that both databases understand.
pub(super) fn select(query: &AuditQuery) -> String {
    // A condition that may be none keeps a database from using the index.
    let namespace = if query.namespace.is_some() { "namespace = $1" } else { "CAST($1 AS TEXT) IS NULL" };
    format!(
        "SELECT id, record FROM store_audit WHERE {namespace} \
         AND (CAST($2 AS TEXT) IS NULL OR user_name = $2) AND (CAST($3 AS TEXT) IS NULL OR resource = $3) \
         AND (CAST($4 AS TEXT) IS NULL OR verb = $4) AND (CAST($5 AS BIGINT) IS NULL OR time >= $5) \
         AND (CAST($6 AS BIGINT) IS NULL OR id < $6) ORDER BY id DESC LIMIT $7"
    )
}

/// Reads the audit log beside the writer.
pub trait AuditReader: std::fmt::Debug + Send + Sync {
    /// The lines that a query asks for.
    fn read(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditEntry>, BackendError>>;
}

/// How many refusals wait to be written down.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

impl Waiting {
    /// Whether there is room for one more, which is then taken.
    fn enter(&self) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < NOTES_MAX).then_some(n + 1)).is_ok()
    }

    pub(super) fn leave(&self, count: usize) {
        self.0.fetch_sub(count, Ordering::AcqRel);
    }
}

impl Store {
    /// Performs a write, and notes it in the audit log in the same transaction.
    pub async fn write_audited(&self, write: Write, line: Option<AuditLine>) -> Result<Arc<Object>, Error> {
        let mut write = self.shared.prepare(&write)?;
        write.audit = line.map(Arc::new);
        self.ask(|answer| Request::Write { write, answer }).await
    }

    /// Notes what was refused. It does not wait: whether the line was taken is all that is known.
    pub fn note(&self, line: AuditLine) -> bool {
        if !self.shared.waiting.enter() {
            self.shared.metrics.audit_lost.inc();
            return false;
        }
        if self.requests.try_send(Request::Note { line: Arc::new(line), answer: None }).is_err() {
            self.shared.waiting.leave(1);
            self.shared.metrics.audit_lost.inc();
            return false;
        }
        true
    }

    /// Notes something that is no write; when it returns, the line is on the disk.
    pub async fn must_note(&self, line: AuditLine) -> Result<(), Error> {
        self.ask(|answer| Request::Note { line: Arc::new(line), answer: Some(answer) }).await
    }

    /// Lines of the audit log, the newest first.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        let _turn = self.shared.audit_reads.acquire().await.map_err(|_closed| Error::Closed)?;
        Ok(self.shared.audit.read(query).await?)
    }
}
