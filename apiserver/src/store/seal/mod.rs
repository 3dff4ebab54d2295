//! Bodies of sensitive kinds are sealed before they reach the database, and opened when they come back: whichever database
//! it is. Memory has them as they are.

mod adopt;
mod key;
mod rewrap;
mod rows;
pub(super) mod sql;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

pub use self::key::{KeyRing, MasterKey, SealError};
pub use self::rewrap::Shelf;
pub(super) use self::rewrap::Step;
pub(super) use self::rows::rows;

use self::key::{Place, is_sealed};
use super::audit::{AuditLine, AuditReader};
use super::backend::{
    Backend, Batch, BodyRow, Changes, Compaction, Final, KnownKey, Loaded, News, Portion, StoredChange, stopped,
};
use super::error::BackendError;
use super::event::{Change, Event};
use super::object::{KindId, Object, Table};
use super::postgres::Follower;
use super::tokens::{Ended, Token};

/// Portions that wait to be opened.
const PORTIONS_MAX: usize = 2;

/// A database whose sensitive bodies are sealed.
#[derive(Debug)]
pub(super) struct Sealed<B> {
    inner: B,
    seal: Option<Seal>,
}

/// What is needed to seal and to open.
#[derive(Clone, Debug)]
struct Seal {
    keys: Arc<KeyRing>,
    /// The tables, and which of them are sealed.
    tables: Arc<[Table]>,
}

impl<B: Backend> Sealed<B> {
    /// Makes sure that the keys are those that the database is sealed with. One that never was is sealed now, all of it.
    pub(super) async fn open(
        mut inner: B,
        keys: Option<Arc<KeyRing>>,
        tables: &[Table],
        now: Timestamp,
    ) -> Result<Self, BackendError> {
        let known = inner.master_keys().await?;
        let Some(keys) = keys else {
            return match known.first() {
                None => Ok(Self { inner, seal: None }),
                Some(key) => {
                    let given = "no key was given".to_owned();
                    Err(SealError::Missing { wanted: key.id.clone(), given }.into())
                }
            };
        };
        let given = keys.ids();
        let primary = given.first().ok_or(SealError::NoKey)?;
        let is_missing = |key: &&KnownKey| !given.contains(&key.id);
        if let Some(missing) = known.iter().find(is_missing) {
            return Err(keys.missing(&missing.id).into());
        }
        let known = if known.is_empty() {
            // Several servers may begin at once, each with a key that it has made.
            inner.save_first_master_key(&KnownKey { id: primary.clone(), created: now, complete: false }).await?;
            inner.master_keys().await?
        } else {
            known
        };
        if let Some(others) = known.iter().find(is_missing) {
            return Err(SealError::Overtaken(others.id.clone()).into());
        }
        let complete = known.iter().any(|key| key.complete);
        if !known.iter().any(|key| key.id == *primary) {
            // Before the first body is sealed with it: then nobody can do without it unawares.
            inner.save_master_key(&KnownKey { id: primary.clone(), created: now, complete }).await?;
        }
        let mut sealed = Self { inner, seal: Some(Seal { keys, tables: tables.into() }) };
        if !complete {
            sealed.seal_everything(primary, now).await?;
        }
        Ok(sealed)
    }
}

impl Seal {
    fn table(&self, kind: KindId) -> Option<&Table> {
        self.tables.get(kind.0).filter(|table| table.sealed)
    }

    /// The batch as it is to be stored, if anything of it is to be sealed.
    fn batch(&self, batch: &Batch) -> Result<Option<Batch>, BackendError> {
        if !batch.events.iter().any(|event| self.table(event.kind).is_some()) {
            return Ok(None);
        }
        let events = batch.events.iter().map(|event| {
            let Some(table) = self.table(event.kind) else { return Ok(Arc::clone(event)) };
            // Of the new states only a deleted object's last one is written to the log.
            let object = match event.change {
                Change::Deleted => self.object(table, &event.object)?,
                Change::Created | Change::Updated => Arc::clone(&event.object),
            };
            let previous = event.previous.as_ref().map(|previous| self.object(table, previous)).transpose()?;
            let Event { revision, kind, change, .. } = **event;
            Ok(Arc::new(Event { revision, kind, change, object, previous }))
        });
        let finals = batch.finals.iter().map(|last| {
            let object = match (self.table(last.kind), &last.object) {
                (Some(table), Some(object)) => Some(self.object(table, object)?),
                (_, object) => object.clone(),
            };
            let (namespace, name) = (Arc::clone(&last.namespace), Arc::clone(&last.name));
            Ok(Final { kind: last.kind, namespace, name, object })
        });
        Ok(Some(Batch {
            revision: batch.revision,
            time: batch.time,
            events: events.collect::<Result<_, BackendError>>()?,
            finals: finals.collect::<Result<_, BackendError>>()?,
            audit: batch.audit.clone(),
        }))
    }

    /// The object with a sealed body.
    fn object(&self, table: &Table, object: &Object) -> Result<Arc<Object>, BackendError> {
        let place = Place { table: &table.name, namespace: &object.namespace, name: &object.name };
        let body = self.keys.seal(&place, &object.body)?;
        Ok(Arc::new(object.with_stored_body(body.into())))
    }

    /// The body that a column's value stands for.
    fn opened(&self, kind: KindId, namespace: &str, name: &str, value: Bytes) -> Result<Bytes, BackendError> {
        let Some(table) = self.table(kind) else { return Ok(value) };
        let place = Place { table: &table.name, namespace, name };
        let text = std::str::from_utf8(&value).map_err(|_damaged| place.forged())?;
        if is_sealed(text) {
            Ok(self.keys.open(&place, text)?)
        } else {
            Err(SealError::Plain(place.to_string()).into())
        }
    }

    fn change(&self, change: StoredChange) -> Result<StoredChange, BackendError> {
        let StoredChange { kind, ref namespace, ref name, .. } = change;
        let opened = |body: Vec<u8>| self.opened(kind, namespace, name, Bytes::from(body)).map(Vec::from);
        let last = change.last.map(opened).transpose()?;
        let previous = match change.previous {
            Some((body, modified)) => Some((opened(body)?, modified)),
            None => None,
        };
        Ok(StoredChange { last, previous, kind, namespace: namespace.clone(), name: name.clone(), ..change })
    }

    fn news(&self, news: News) -> Result<News, BackendError> {
        let News::Changes(changes) = news else { return Ok(News::Lost) };
        let opened = changes.changes.into_iter().map(|mut made| {
            made.body = self.opened(made.kind, &made.namespace, &made.name, made.body)?;
            Ok(made)
        });
        Ok(News::Changes(Changes { changes: opened.collect::<Result<_, BackendError>>()?, ..changes }))
    }
}

impl<B: Backend> Backend for Sealed<B> {
    async fn load(&mut self, tables: &[Table], portions: mpsc::Sender<Portion>) -> Result<Loaded, BackendError> {
        let Some(seal) = self.seal.clone() else { return self.inner.load(tables, portions).await };
        let (stored, mut arriving) = mpsc::channel::<Portion>(PORTIONS_MAX);
        let opener = seal.clone();
        let opening = tokio::task::spawn_blocking(move || {
            while let Some(Portion { kind, mut objects }) = arriving.blocking_recv() {
                for object in &mut objects {
                    let body = std::mem::take(&mut object.body);
                    object.body = opener.opened(kind, &object.namespace, &object.name, body)?;
                }
                portions.blocking_send(Portion { kind, objects }).map_err(|_gone| stopped())?;
            }
            Ok::<_, BackendError>(())
        });
        let loaded = self.inner.load(tables, stored).await;
        // What cannot be opened is why reading was given up.
        opening.await.map_err(|_stopped| stopped())??;
        let mut loaded = loaded?;
        loaded.changes = loaded.changes.into_iter().map(|change| seal.change(change)).collect::<Result<_, _>>()?;
        Ok(loaded)
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        match self.seal.as_ref().map(|seal| seal.batch(batch)).transpose()?.flatten() {
            Some(sealed) => self.inner.commit(&sealed).await,
            None => self.inner.commit(batch).await,
        }
    }

    fn compact(&mut self, compaction: Compaction) -> impl Future<Output = Result<u64, BackendError>> + Send {
        self.inner.compact(compaction)
    }

    fn save_token(
        &mut self,
        token: &Token,
        line: Option<&Arc<AuditLine>>,
    ) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.save_token(token, line)
    }

    fn touch_token(&mut self, id: &str, at: Timestamp) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.touch_token(id, at)
    }

    fn remove_tokens(&mut self, ended: Ended) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.remove_tokens(ended)
    }

    fn note(&mut self, lines: &[Arc<AuditLine>]) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.note(lines)
    }

    fn trim_audit(&mut self, before: Timestamp) -> impl Future<Output = Result<u64, BackendError>> + Send {
        self.inner.trim_audit(before)
    }

    fn audit_reader(&self) -> Arc<dyn AuditReader> {
        self.inner.audit_reader()
    }

    fn close(&mut self) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.close()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    async fn lock(&mut self, revision: u64) -> Result<News, BackendError> {
        let news = self.inner.lock(revision).await?;
        self.open_news(news)
    }

    fn unlock(&mut self) -> impl Future<Output = ()> + Send {
        self.inner.unlock()
    }

    async fn news(&mut self, revision: u64) -> Result<News, BackendError> {
        let news = self.inner.news(revision).await?;
        self.open_news(news)
    }

    fn follower(&self) -> Option<Follower> {
        self.inner.follower()
    }

    fn master_keys(&mut self) -> impl Future<Output = Result<Vec<KnownKey>, BackendError>> + Send {
        self.inner.master_keys()
    }

    fn save_master_key(&mut self, key: &KnownKey) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.save_master_key(key)
    }

    fn save_first_master_key(&mut self, key: &KnownKey) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.save_first_master_key(key)
    }

    fn forget_master_key(&mut self, id: &str) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.forget_master_key(id)
    }

    fn bodies(
        &mut self,
        shelf: &Shelf,
        after: Option<&BodyRow>,
    ) -> impl Future<Output = Result<Vec<BodyRow>, BackendError>> + Send {
        self.inner.bodies(shelf, after)
    }

    fn replace_bodies(
        &mut self,
        shelf: &Shelf,
        rows: &[(BodyRow, BodyRow)],
    ) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.replace_bodies(shelf, rows)
    }

    fn scrub(&mut self, shelves: &[Shelf]) -> impl Future<Output = Result<(), BackendError>> + Send {
        self.inner.scrub(shelves)
    }
}

impl<B> Sealed<B> {
    fn open_news(&self, news: News) -> Result<News, BackendError> {
        match &self.seal {
            Some(seal) => seal.news(news),
            None => Ok(news),
        }
    }
}
