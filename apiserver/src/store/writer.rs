//! The one task that writes: it orders all mutations, makes them durable in groups, and only then shows them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::backend::{Backend, Batch, Compaction, Final};
use super::body::{self, Draft};
use super::cache::{Name, Place};
use super::error::Error;
use super::event::{Change, Event};
use super::object::{KindId, Meta, Object};
use super::tokens::Token;

/// How many writes go into one transaction at most: at 1 KiB each a transaction of this size takes some 5 ms, so a
/// full queue of [`QUEUE_MAX`] is answered well within 100 ms.
pub(super) const BATCH_MAX: usize = 512;
/// And how many bytes: a transaction's memory stays small whatever the objects' size.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How many requests wait for the writer; further callers wait for a place. Twice what one transaction takes keeps
/// the writer busy while it answers.
pub(super) const QUEUE_MAX: usize = 1_024;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Write { write: Prepared, answer: oneshot::Sender<Result<Arc<Object>, Error>> },
    SaveToken { token: Arc<Token>, answer: oneshot::Sender<Result<(), Error>> },
    Compact { compaction: Compaction, answer: oneshot::Sender<Result<u64, Error>> },
    Close { answer: oneshot::Sender<Result<(), Error>> },
}

/// A write whose body is serialised and read already, so that the writer has little left to do.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) kind: KindId,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) action: Action,
}

#[derive(Debug)]
pub(super) enum Action {
    Create(Content),
    Replace { expected_revision: u64, content: Content },
    Remove { expected_revision: u64, content: Option<Content> },
}

/// The body of a write, and what was read from it.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) draft: Draft,
    pub(super) uid: Arc<str>,
    pub(super) generation: i64,
    pub(super) created: Option<Timestamp>,
    pub(super) meta: Meta,
}

impl Prepared {
    fn bytes(&self) -> usize {
        match &self.action {
            Action::Create(content) | Action::Replace { content, .. } => content.draft.len(),
            Action::Remove { content, .. } => content.as_ref().map_or(0, |content| content.draft.len()),
        }
    }
}

/// A write and who waits for its result.
type Pending = (Prepared, oneshot::Sender<Result<Arc<Object>, Error>>);

pub(super) struct Writer<B> {
    pub(super) backend: B,
    pub(super) shared: Arc<Shared>,
    pub(super) requests: mpsc::Receiver<Request>,
}

impl<B: Backend> Writer<B> {
    /// Works until the store is closed or nobody is left to ask.
    pub(super) async fn run(mut self) {
        let mut queue = Vec::with_capacity(BATCH_MAX);
        while self.requests.recv_many(&mut queue, BATCH_MAX).await > 0 {
            let mut writes: Vec<Pending> = Vec::with_capacity(queue.len());
            let mut bytes = 0;
            let mut close = None;
            for request in queue.drain(..) {
                match request {
                    Request::Write { write, answer } => {
                        bytes += write.bytes();
                        writes.push((write, answer));
                        if bytes >= BATCH_BYTES_MAX {
                            self.write(std::mem::take(&mut writes)).await;
                            bytes = 0;
                        }
                    }
                    Request::SaveToken { token, answer } => {
                        let result = self.backend.save_token(&token).await.map_err(Error::from);
                        if result.is_ok() {
                            self.shared.tokens.put(token);
                        }
                        // Whoever asked may have gone; what was done stays done.
                        answer.send(result).ok();
                    }
                    Request::Compact { compaction, answer } => {
                        answer.send(self.compact(compaction).await).ok();
                    }
                    Request::Close { answer } => close = Some(answer),
                }
            }
            self.write(writes).await;
            if let Some(answer) = close {
                self.requests.close();
                // Those who got into the queue before it closed are told so by their dropped answers.
                answer.send(self.backend.close().await.map_err(Error::from)).ok();
                return;
            }
        }
        if let Err(error) = self.backend.close().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the store's database did not close cleanly");
        }
    }

    /// Commits the writes that fit, as one transaction, and answers them all.
    async fn write(&mut self, writes: Vec<Pending>) {
        if writes.is_empty() {
            return;
        }
        let now = self.shared.clock.now();
        let mut plan = Plan::new(self.shared.state().revision, now);
        let mut accepted = Vec::with_capacity(writes.len());
        {
            let state = self.shared.state();
            for (write, answer) in writes {
                let current = |write: &Prepared| state.get(write.kind, Place(&write.namespace, &write.name)).cloned();
                let table = self.shared.table_name(write.kind);
                match plan.add(&write, current) {
                    Ok(object) => accepted.push((write, answer, object)),
                    Err(error) => {
                        self.shared.metrics.writes.with_label_values(&[table, "refused"]).inc();
                        answer.send(Err(error)).ok();
                    }
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
        let batch = plan.batch();
        let started = tokio::time::Instant::now();
        let result = self.backend.commit(&batch).await;
        self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        match result {
            Ok(()) => {
                self.shared.metrics.commits.with_label_values(&["committed"]).inc();
                self.shared.publish(&batch);
                for (_, answer, object) in accepted {
                    answer.send(Ok(object)).ok();
                }
            }
            // One row that the database refuses must not fail the others: they are tried one by one.
            Err(error) if error.is_constraint() && accepted.len() > 1 => {
                self.shared.metrics.commits.with_label_values(&["split"]).inc();
                for (write, answer, _) in accepted {
                    Box::pin(self.write(vec![(write, answer)])).await;
                }
            }
            Err(error) => {
                self.shared.metrics.commits.with_label_values(&["failed"]).inc();
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    writes = accepted.len(),
                    "a transaction of the store failed; nothing was changed"
                );
                let error = Error::from(error);
                for (_, answer, _) in accepted {
                    answer.send(Err(error.clone())).ok();
                }
            }
        }
    }

    async fn compact(&mut self, compaction: Compaction) -> Result<u64, Error> {
        let compacted = self.backend.compact(compaction).await?;
        self.shared.set_compacted(compacted);
        Ok(compacted)
    }
}

/// A batch being put together: each write sees those before it.
struct Plan {
    revision: u64,
    now: Timestamp,
    events: Vec<Arc<Event>>,
    touched: BTreeMap<Name, Option<Arc<Object>>>,
}

impl Plan {
    fn new(revision: u64, now: Timestamp) -> Self {
        Self { revision, now, events: Vec::new(), touched: BTreeMap::new() }
    }

    /// Adds a write if its precondition holds. Returns the state it makes.
    fn add(
        &mut self,
        write: &Prepared,
        committed: impl FnOnce(&Prepared) -> Option<Arc<Object>>,
    ) -> Result<Arc<Object>, Error> {
        let key = (write.kind, Arc::clone(&write.namespace), Arc::clone(&write.name));
        let entry = self.touched.entry(key);
        let previous = match &entry {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(_) => committed(write),
        };
        let (change, content) = check(&write.action, previous.as_ref())?;
        let revision = self.revision + 1;
        let object = Arc::new(match content {
            Some(content) => state(write, content, previous.as_deref(), change, revision, self.now),
            None => last_state(previous.as_deref().ok_or(Error::NotFound)?, revision, self.now),
        });
        let after = (change != Change::Deleted).then(|| Arc::clone(&object));
        entry.insert_entry(after);
        self.revision = revision;
        self.events.push(Arc::new(Event { revision, kind: write.kind, change, object: Arc::clone(&object), previous }));
        Ok(object)
    }

    fn batch(self) -> Batch {
        let finals = self.touched.into_iter();
        let finals = finals.map(|((kind, namespace, name), object)| Final { kind, namespace, name, object }).collect();
        Batch { revision: self.revision, time: self.now, events: self.events, finals }
    }
}

/// Whether the write may happen to what is there.
fn check<'a>(action: &'a Action, current: Option<&Arc<Object>>) -> Result<(Change, Option<&'a Content>), Error> {
    let at = |expected: u64| match current {
        None => Err(Error::NotFound),
        Some(current) if current.revision != expected => Err(Error::Conflict { current: Arc::clone(current) }),
        Some(current) => Ok(current),
    };
    match action {
        Action::Create(content) => match current {
            Some(current) => Err(Error::Exists { current: Arc::clone(current) }),
            None => Ok((Change::Created, Some(content))),
        },
        Action::Replace { expected_revision, content } => {
            same_uid(at(*expected_revision)?, content)?;
            Ok((Change::Updated, Some(content)))
        }
        Action::Remove { expected_revision, content } => {
            let current = at(*expected_revision)?;
            if let Some(content) = content {
                same_uid(current, content)?;
            }
            Ok((Change::Deleted, content.as_ref()))
        }
    }
}

fn same_uid(current: &Object, content: &Content) -> Result<(), Error> {
    if current.uid == content.uid { Ok(()) } else { Err(Error::invalid("the uid of an object cannot change")) }
}

fn state(
    write: &Prepared,
    content: &Content,
    previous: Option<&Object>,
    change: Change,
    revision: u64,
    now: Timestamp,
) -> Object {
    let (line, body) = content.draft.stamp(change, revision);
    Object {
        namespace: Arc::clone(&write.namespace),
        name: Arc::clone(previous.map_or(&write.name, |previous| &previous.name)),
        uid: Arc::clone(previous.map_or(&content.uid, |previous| &previous.uid)),
        revision,
        generation: content.generation,
        created: content.created.or(previous.map(|previous| previous.created)).unwrap_or(now),
        modified: now,
        body,
        meta: content.meta.clone(),
        line,
    }
}

/// The last state of an object that is removed as it is.
fn last_state(previous: &Object, revision: u64, now: Timestamp) -> Object {
    let (line, body): (Bytes, Bytes) = body::restamped(Change::Deleted, &previous.body, revision);
    Object {
        namespace: Arc::clone(&previous.namespace),
        name: Arc::clone(&previous.name),
        uid: Arc::clone(&previous.uid),
        revision,
        generation: previous.generation,
        created: previous.created,
        modified: now,
        body,
        meta: previous.meta.clone(),
        line,
    }
}
