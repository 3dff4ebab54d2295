//! The one task that writes: it orders all mutations, makes them durable in groups, and only then shows them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::audit::AuditLine;
use super::backend::{Backend, Batch, BodyRow, Compaction, Final, KnownKey, News};
use super::body::{self, Draft};
use super::cache::{Name, Place};
use super::error::{BackendError, Error};
use super::event::{Change, Event};
use super::object::{KindId, Meta, Object};
use super::seal::{MasterKey, Sealed, Shelf, Step};
use super::tokens::{self, TokenChange};

/// How many writes go into one transaction at most: at 1 KiB each a transaction of this size takes some 5 ms, so a
/// full queue of [`QUEUE_MAX`] is answered well within 100 ms.
pub(super) const BATCH_MAX: usize = 512;
/// And how many bytes: a transaction's memory stays small whatever the objects' size.
const BATCH_BYTES_MAX: usize = 16 << 20;
/// How many requests wait for the writer; further callers wait for a place. Twice what one transaction takes keeps
/// the writer busy while it answers.
pub(super) const QUEUE_MAX: usize = 1_024;

/// How often everything is read anew before a write is given up. Once is enough unless the database is damaged.
const RELOADS_MAX: usize = 3;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Request {
    Write {
        write: Prepared,
        answer: oneshot::Sender<Result<Arc<Object>, Error>>,
    },
    Token {
        change: TokenChange,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    Compact {
        compaction: Compaction,
        answer: oneshot::Sender<Result<u64, Error>>,
    },
    /// A line about something that is no write.
    Note {
        line: Arc<AuditLine>,
        answer: Option<oneshot::Sender<Result<(), Error>>>,
    },
    /// Removes lines of the audit log from before that time, a portion of them; the answer is how many.
    TrimAudit {
        before: Timestamp,
        answer: oneshot::Sender<Result<u64, Error>>,
    },
    /// Brings some rows to the first master key.
    Rewrap {
        shelf: Shelf,
        after: Option<BodyRow>,
        answer: oneshot::Sender<Result<Step, Error>>,
    },
    /// Goes on with other master keys.
    AdoptKeys {
        keys: Vec<MasterKey>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// Notes that something may be sealed with the first master key, and says which it is.
    NoteKey {
        answer: oneshot::Sender<Result<String, Error>>,
    },
    /// Forgets master keys that nothing needs if `primary` is the first still.
    ForgetKeys {
        primary: String,
        older: Vec<String>,
        answer: oneshot::Sender<Result<(), Error>>,
    },
    /// The master keys that something may be sealed with.
    Keys {
        answer: oneshot::Sender<Result<Vec<KnownKey>, Error>>,
    },
    Close {
        answer: oneshot::Sender<Result<(), Error>>,
    },
}

/// A write whose body is serialised and read already, so that the writer has little left to do.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) kind: KindId,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    /// What is noted if it happens.
    pub(super) audit: Option<Arc<AuditLine>>,
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

/// A line of the audit log, and who waits until it is there.
type Note = (Arc<AuditLine>, Option<oneshot::Sender<Result<(), Error>>>);

/// A write and who waits for its result.
type Pending = (Prepared, oneshot::Sender<Result<Arc<Object>, Error>>);

pub(super) struct Writer<B> {
    backend: Sealed<B>,
    shared: Arc<Shared>,
    requests: mpsc::Receiver<Request>,
    /// Whether another server was faster the last time, so that it is better to take the lock first.
    contended: bool,
}

impl<B: Backend> Writer<B> {
    pub(super) fn new(backend: Sealed<B>, shared: Arc<Shared>, requests: mpsc::Receiver<Request>) -> Self {
        Self { backend, shared, requests, contended: false }
    }

    /// The next requests, at most [`BATCH_MAX`]; none when nobody is left to ask. Meanwhile it fetches what others have
    /// committed.
    async fn next(&mut self, queue: &mut Vec<Request>) -> usize {
        let shared = Arc::clone(&self.shared);
        let Some(following) = &shared.following else {
            return self.requests.recv_many(queue, BATCH_MAX).await;
        };
        loop {
            tokio::select! {
                count = self.requests.recv_many(queue, BATCH_MAX) => return count,
                () = following.nudge.notified() => self.catch_up().await,
            }
        }
    }

    /// Works until the store is closed or nobody is left to ask.
    pub(super) async fn run(mut self) {
        let mut queue = Vec::with_capacity(BATCH_MAX);
        while self.next(&mut queue).await > 0 {
            let mut writes: Vec<Pending> = Vec::with_capacity(queue.len());
            let mut bytes = 0;
            let mut close = None;
            let mut notes = Vec::new();
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
                    Request::Token { change, answer } => {
                        let result = tokens::apply(&mut self.backend, &self.shared, change).await;
                        // Whoever asked may have gone; what was done stays done.
                        answer.send(result).ok();
                    }
                    Request::Compact { compaction, answer } => {
                        answer.send(self.compact(compaction).await).ok();
                    }
                    Request::Note { line, answer } => notes.push((line, answer)),
                    Request::TrimAudit { before, answer } => {
                        answer.send(self.backend.trim_audit(before).await.map_err(Error::from)).ok();
                    }
                    // Between writes: what is in `writes` is sealed when it is written.
                    Request::Rewrap { shelf, after, answer } => {
                        let step = self.backend.step(&shelf, after.as_ref(), false).await;
                        answer.send(step.map_err(Error::from)).ok();
                    }
                    Request::AdoptKeys { keys, answer } => {
                        let now = self.shared.clock.now();
                        answer.send(self.backend.adopt(keys, now).await.map_err(Error::from)).ok();
                    }
                    Request::NoteKey { answer } => {
                        let noted = self.backend.note_primary(self.shared.clock.now()).await;
                        answer.send(noted.map_err(Error::from)).ok();
                    }
                    Request::ForgetKeys { primary, older, answer } => {
                        answer.send(self.backend.forget(&primary, &older).await.map_err(Error::from)).ok();
                    }
                    Request::Keys { answer } => {
                        answer.send(self.backend.master_keys().await.map_err(Error::from)).ok();
                    }
                    Request::Close { answer } => close = Some(answer),
                }
            }
            self.write(writes).await;
            self.note(notes).await;
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

    /// Writes down what is no write. If that fails it is lost, and said so where nobody waits for it.
    async fn note(&mut self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let (lines, answers): (Vec<_>, Vec<_>) = notes.into_iter().unzip();
        let result = self.backend.note(&lines).await.map_err(Error::from);
        let unawaited = answers.iter().filter(|answer| answer.is_none()).count();
        self.shared.waiting.leave(unawaited);
        if let Err(error) = &result {
            self.shared.metrics.audit_lost.inc_by(unawaited as u64);
            tracing::warn!(error = error as &dyn std::error::Error, lines = lines.len(), "not in the audit log");
        }
        for answer in answers.into_iter().flatten() {
            answer.send(result.clone()).ok();
        }
    }

    /// Commits the writes that fit, as one transaction, and answers them all.
    async fn write(&mut self, writes: Vec<Pending>) {
        if writes.is_empty() {
            return;
        }
        // Where others write too, nobody can be refused before it is known what they have written.
        let mut settled = !self.backend.is_shared();
        let mut lock = self.contended;
        let (batch, outcomes, result) = loop {
            if lock && !settled {
                if let Err(error) = self.lock().await {
                    return self.refuse_all(writes, &error);
                }
                settled = true;
            }
            let (plan, outcomes) = self.plan(&writes);
            let refused = outcomes.iter().any(Result::is_err);
            if refused && !settled {
                lock = true;
                continue;
            }
            let batch = plan.batch();
            if batch.events.is_empty() {
                self.backend.unlock().await;
                break (batch, outcomes, Ok(()));
            }
            let started = tokio::time::Instant::now();
            let result = self.backend.commit(&batch).await;
            self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            if let Err(BackendError::Behind) = result
                && !settled
            {
                self.contended = true;
                lock = true;
                continue;
            }
            break (batch, outcomes, result);
        };
        let mut accepted = Vec::with_capacity(writes.len());
        for ((write, answer), outcome) in writes.into_iter().zip(outcomes) {
            match outcome {
                Ok(object) => accepted.push((write, answer, object)),
                Err(error) => {
                    let table = self.shared.table_name(write.kind);
                    self.shared.metrics.writes.with_label_values(&[table, "refused"]).inc();
                    answer.send(Err(error)).ok();
                }
            }
        }
        if accepted.is_empty() {
            return;
        }
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
                let writes = accepted.into_iter().map(|(write, answer, _)| (write, answer)).collect();
                self.refuse_all(writes, &Error::from(error));
            }
        }
    }

    /// What becomes of the writes, given what is in memory.
    fn plan(&self, writes: &[Pending]) -> (Plan, Vec<Result<Arc<Object>, Error>>) {
        let state = self.shared.state();
        let mut plan = Plan::new(state.revision, self.shared.clock.now());
        let current = |write: &Prepared| state.get(write.kind, Place(&write.namespace, &write.name)).cloned();
        let outcomes = writes.iter().map(|(write, _)| plan.add(write, current)).collect();
        (plan, outcomes)
    }

    /// Tells everybody that the database has failed.
    fn refuse_all(&self, writes: Vec<Pending>, error: &Error) {
        self.shared.metrics.commits.with_label_values(&["failed"]).inc();
        let cause = error as &dyn std::error::Error;
        tracing::error!(error = cause, writes = writes.len(), "a transaction of the store failed");
        for (_, answer) in writes {
            answer.send(Err(error.clone())).ok();
        }
    }

    /// Takes the right to commit next, and takes over what others have committed.
    async fn lock(&mut self) -> Result<(), Error> {
        let result = self.try_lock().await;
        self.shared.followed(result.as_ref().copied());
        result
    }

    async fn try_lock(&mut self) -> Result<(), Error> {
        for _ in 0..RELOADS_MAX {
            let before = self.shared.state().revision;
            let news = self.backend.lock(before).await?;
            if self.take_over(news).await? {
                self.contended = self.shared.state().revision > before;
                return Ok(());
            }
        }
        Err(Error::damaged("what others have written does not fit together"))
    }

    /// Fetches what others have committed.
    async fn catch_up(&mut self) {
        let before = self.shared.state().revision;
        let news = self.backend.news(before).await.map_err(Error::from);
        let result = match news {
            Ok(news) => self.take_over(news).await.map(drop),
            Err(error) => Err(error),
        };
        self.shared.followed(result.as_ref().copied());
        if let Err(error) = result {
            // It is asked again within a second.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what other servers have written cannot be read");
        }
        self.shared.fetched();
    }

    /// Takes over what others have committed. False if the right to commit next had to be given up for it.
    async fn take_over(&mut self, news: News) -> Result<bool, Error> {
        let error = match news {
            News::Changes(changes) => match self.shared.take_over(changes) {
                Ok(()) => return Ok(true),
                Err(error) => Some(error),
            },
            News::Lost => None,
        };
        self.backend.unlock().await;
        let cause = error.as_ref().map(tracing::field::display);
        tracing::warn!(cause, "the changes cannot be followed one by one: everything is read anew");
        self.shared.reload(&mut self.backend).await?;
        Ok(false)
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
    audit: Vec<Arc<AuditLine>>,
}

impl Plan {
    fn new(revision: u64, now: Timestamp) -> Self {
        Self { revision, now, events: Vec::new(), touched: BTreeMap::new(), audit: Vec::new() }
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
        self.audit.extend(write.audit.clone());
        self.events.push(Arc::new(Event { revision, kind: write.kind, change, object: Arc::clone(&object), previous }));
        Ok(object)
    }

    fn batch(self) -> Batch {
        let finals = self.touched.into_iter();
        let finals = finals.map(|((kind, namespace, name), object)| Final { kind, namespace, name, object }).collect();
        Batch { revision: self.revision, time: self.now, events: self.events, finals, audit: self.audit }
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
