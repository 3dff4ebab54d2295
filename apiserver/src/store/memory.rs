//! A database that forgets: for simulations, which crash and restart servers by the thousand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::audit::{AuditEntry, AuditLine, AuditQuery, AuditReader};
use super::backend::{Backend, Batch, Compaction, Loaded, Portion, StoredChange, StoredObject, stopped};
use super::error::BackendError;
use super::event::{Change, Event};
use super::object::{KindId, Object, Table};
use super::tokens::{Ended, Token};

/// Clones share their content, as connections to one database do: a clone opened again is a restarted server.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<(KindId, Arc<str>, Arc<str>), Arc<Object>>,
    changes: BTreeMap<u64, Arc<Event>>,
    tokens: BTreeMap<String, Token>,
    audit: Vec<Arc<AuditLine>>,
    failures: u32,
}

impl Memory {
    /// An empty database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next `count` commits fail, each leaving nothing behind.
    pub fn fail_commits(&self, count: u32) {
        self.content().failures = count;
    }

    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Memory {
    async fn load(&mut self, tables: &[Table], portions: mpsc::Sender<Portion>) -> Result<Loaded, BackendError> {
        for index in 0..tables.len() {
            let kind = KindId(index);
            let all: Vec<_> = self.content().objects.iter().map(|((of, ..), object)| (*of, stored(object))).collect();
            let objects = all.into_iter().filter(|(of, _)| *of == kind).map(|(_, object)| object).collect();
            portions.send(Portion { kind, objects }).await.map_err(|_gone| stopped())?;
        }
        let content = self.content();
        let changes = content.changes.values().filter(|event| event.kind.0 < tables.len()).map(|event| StoredChange {
            revision: event.revision,
            time: event.object.modified,
            kind: event.kind,
            namespace: event.object.namespace.to_string(),
            name: event.object.name.to_string(),
            change: event.change,
            last: (event.change == Change::Deleted).then(|| event.object.body.to_vec()),
            previous: event.previous.as_ref().map(|object| (object.body.to_vec(), object.modified)),
        });
        Ok(Loaded {
            revision: content.revision,
            compacted: content.compacted,
            log_from: content.compacted,
            changes: changes.collect(),
            tokens: content.tokens.values().cloned().collect(),
            tokens_version: 0,
        })
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut content = self.content();
        if content.failures > 0 {
            content.failures -= 1;
            return Err(BackendError::Injected);
        }
        for last in &batch.finals {
            let key = (last.kind, Arc::clone(&last.namespace), Arc::clone(&last.name));
            match &last.object {
                Some(object) => content.objects.insert(key, Arc::clone(object)),
                None => content.objects.remove(&key),
            };
        }
        for event in &batch.events {
            content.changes.insert(event.revision, Arc::clone(event));
        }
        content.audit.extend(batch.audit.iter().cloned());
        content.revision = batch.revision;
        Ok(())
    }

    async fn compact(&mut self, compaction: Compaction) -> Result<u64, BackendError> {
        let mut content = self.content();
        let last = compaction.from + compaction.rows_max;
        while let Some(oldest) = content.changes.first_entry() {
            let revision = *oldest.key();
            let aged = revision <= compaction.aged_through && oldest.get().object.modified < compaction.older_than;
            let goes = revision <= compaction.through || aged;
            if !goes || revision > last {
                break;
            }
            oldest.remove();
            content.compacted = revision;
        }
        Ok(content.compacted)
    }

    async fn save_token(&mut self, token: &Token, line: Option<&Arc<AuditLine>>) -> Result<(), BackendError> {
        let mut content = self.content();
        content.audit.extend(line.cloned());
        let revoked = content.tokens.get(&token.id).and_then(|known| known.revoked).or(token.revoked);
        content.tokens.insert(token.id.clone(), Token { revoked, ..token.clone() });
        Ok(())
    }

    async fn touch_token(&mut self, id: &str, at: Timestamp) -> Result<(), BackendError> {
        if let Some(token) = self.content().tokens.get_mut(id) {
            token.last_used = Some(at);
        }
        Ok(())
    }

    async fn remove_tokens(&mut self, ended: Ended) -> Result<(), BackendError> {
        self.content().tokens.retain(|_, token| !ended.has(token));
        Ok(())
    }

    async fn note(&mut self, lines: &[Arc<AuditLine>]) -> Result<(), BackendError> {
        self.content().audit.extend(lines.iter().cloned());
        Ok(())
    }

    async fn trim_audit(&mut self, before: Timestamp) -> Result<u64, BackendError> {
        let mut content = self.content();
        let count = content.audit.len();
        content.audit.retain(|line| line.time >= before);
        Ok((count - content.audit.len()) as u64)
    }

    fn audit_reader(&self) -> Arc<dyn AuditReader> {
        Arc::new(self.clone())
    }

    async fn close(&mut self) -> Result<(), BackendError> {
        Ok(())
    }
}

impl AuditReader for Memory {
    fn read(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditEntry>, BackendError>> {
        let content = self.content();
        let numbered = content.audit.iter().enumerate().rev().map(|(at, line)| (at as u64 + 1, line));
        let found = numbered.filter(|(id, line)| {
            let is = |wanted: &Option<String>, value: &String| wanted.as_ref().is_none_or(|wanted| wanted == value);
            is(&query.namespace, &line.namespace)
                && is(&query.user, &line.user)
                && is(&query.resource, &line.resource)
                && is(&query.verb, &line.verb)
                && query.since.is_none_or(|since| line.time >= since)
                && query.before.is_none_or(|before| *id < before)
        });
        let entries = found.take(query.limit as usize);
        let entries = entries.map(|(id, line)| AuditEntry { id, record: line.record.clone() }).collect();
        Box::pin(std::future::ready(Ok(entries)))
    }
}

fn stored(object: &Object) -> StoredObject {
    StoredObject {
        namespace: object.namespace.to_string(),
        name: object.name.to_string(),
        revision: object.revision,
        created: object.created,
        modified: object.modified,
        body: object.body.clone(),
    }
}
