//! Going through all that is stored: to seal what is not, and to wrap data keys with another master key.
//!
//! It is done in steps of some rows, between the writes of clients. Each row is replaced only if it still is what was
//! read; what is written meanwhile is sealed with the first key anyway. So a step can be repeated, and after a crash all
//! of them are.

use std::time::Duration;

use jiff::Timestamp;

use super::super::Store;
use super::super::backend::{Backend, BodyRow, KnownKey};
use super::super::error::{BackendError, Error};
use super::super::object::Table;
use super::super::writer::Request;
use super::key::{Place, SealError, is_sealed};
use super::{Seal, Sealed};

/// Servers that share the database notice a changed file of keys within this time; before, they may still seal with the
/// old one.
const OTHERS_FOLLOW: Duration = Duration::from_secs(15);
/// How often everything is gone through before it is said that somebody goes on sealing with another key.
const PASSES_MAX: usize = 5;

/// Where bodies stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shelf {
    /// The present state of a kind's objects: the name of its table.
    Objects(String),
    /// The log of changes.
    Log,
}

/// What was done to some rows.
#[derive(Debug, Default)]
pub(in super::super) struct Step {
    /// The last row that was looked at; `None` if there was none.
    pub(in super::super) last: Option<BodyRow>,
    /// How many rows were changed.
    pub(in super::super) changed: u64,
}

/// Everything that has bodies of sealed kinds.
fn shelves(tables: &[Table]) -> Vec<Shelf> {
    let objects = tables.iter().filter(|table| table.sealed).map(|table| Shelf::Objects(table.name.clone()));
    objects.chain([Shelf::Log]).collect()
}

impl Seal {
    /// The row as it should be, if it is not.
    fn mended(&self, row: &BodyRow, may_be_plain: bool) -> Result<Option<BodyRow>, BackendError> {
        if !self.tables.iter().any(|table| table.sealed && table.name == row.table) {
            return Ok(None);
        }
        let place = Place { table: &row.table, namespace: &row.namespace, name: &row.name };
        let mut mended = row.clone();
        for body in mended.bodies.iter_mut().flatten() {
            if is_sealed(body) {
                if let Some(moved) = self.keys.rewrap(&place, body)? {
                    *body = moved;
                }
            } else if may_be_plain {
                *body = self.keys.seal(&place, body.as_bytes())?;
            } else {
                return Err(SealError::Plain(place.to_string()).into());
            }
        }
        Ok((mended.bodies != row.bodies).then_some(mended))
    }
}

impl<B: Backend> Sealed<B> {
    /// Brings some rows to the first master key.
    pub(in super::super) async fn step(
        &mut self,
        shelf: &Shelf,
        after: Option<&BodyRow>,
        may_be_plain: bool,
    ) -> Result<Step, BackendError> {
        let Some(seal) = self.seal.clone() else { return Err(SealError::NoKey.into()) };
        let rows = self.inner.bodies(shelf, after).await?;
        let mut changed = Vec::new();
        for row in &rows {
            if let Some(mended) = seal.mended(row, may_be_plain)? {
                changed.push((row.clone(), mended));
            }
        }
        if !changed.is_empty() {
            self.inner.replace_bodies(shelf, &changed).await?;
        }
        Ok(Step { last: rows.last().cloned(), changed: changed.len() as u64 })
    }

    /// Seals a store that was made without keys, before it is used, and leaves no trace of what it was.
    pub(super) async fn seal_everything(&mut self, primary: &str, now: Timestamp) -> Result<(), BackendError> {
        let shelves = self.seal.as_ref().map(|seal| shelves(&seal.tables)).unwrap_or_default();
        let mut sealed = 0;
        for shelf in &shelves {
            let mut after = None;
            loop {
                let step = self.step(shelf, after.as_ref(), true).await?;
                sealed += step.changed;
                let Some(last) = step.last else { break };
                after = Some(last);
            }
        }
        if sealed > 0 {
            tracing::info!(rows = sealed, "the store was not sealed, and is now");
        }
        // Also if nothing was left to seal: a start that sealed it all may have ended before this.
        self.inner.scrub(&shelves).await?;
        self.inner.save_master_key(&KnownKey { id: primary.to_owned(), created: now, complete: true }).await
    }
}

impl Store {
    /// Wraps all data keys with the first master key, while everything goes on, and then forgets the other keys. Clients
    /// wait for a few milliseconds now and then. Returns how many rows were changed.
    pub async fn rewrap(&self) -> Result<u64, Error> {
        let failed = |error: SealError| Error::from(BackendError::from(error));
        let keys = self.shared.keys.as_ref().ok_or_else(|| failed(SealError::NoKey))?;
        let primary = self.note_key().await?;
        let older = self.master_keys().await?.into_iter().map(|key| key.id).filter(|id| *id != primary);
        // Only these are forgotten in the end: one that is noted from now on is another server's, which uses it.
        let older: Vec<String> = older.collect();
        if let Some(missing) = older.iter().find(|id| !keys.ids().contains(id)) {
            return Err(failed(keys.missing(missing)));
        }
        let mut rows = 0;
        for _ in 0..PASSES_MAX {
            if self.shared.following.is_some() {
                tokio::time::sleep(OTHERS_FOLLOW).await;
            }
            let mut changed = 0;
            for shelf in shelves(&self.shared.tables) {
                let mut after = None;
                loop {
                    let shelf = shelf.clone();
                    let step = self.ask(|answer| Request::Rewrap { shelf, after, answer }).await?;
                    changed += step.changed;
                    let Some(last) = step.last else { break };
                    after = Some(last);
                }
            }
            rows += changed;
            if changed == 0 {
                self.ask(|answer| Request::ForgetKeys { primary, older, answer }).await?;
                return Ok(rows);
            }
        }
        Err(Error::invalid("another server goes on sealing with an older master key: give it the new one"))
    }

    /// The ids of the master keys that anything may be sealed with.
    pub async fn master_keys(&self) -> Result<Vec<KnownKey>, Error> {
        self.ask(|answer| Request::Keys { answer }).await
    }
}
