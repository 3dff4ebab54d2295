//! Watches: the initial state where it is wanted, then every change, one JSON line each, until the deadline.
//!
//! The lines of the usual watch (whole objects as JSON) were encoded once when the change was committed; every watcher
//! sends the same bytes. An expired start is told in the stream, because some clients never relist on an HTTP 410.

mod socket;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::auth::Identity;
use crate::error::Error;
use crate::freshness;
use crate::guard::Held;
use crate::kind::Kind;
use crate::list;
use crate::negotiation::{Media, Shape};
use crate::objects::Call;
use crate::query::ListOptions;
use crate::respond::{self, Wish};
use crate::selection::Selection;
use crate::server::State;
use crate::store::{Change, Event, Object, Watch};

/// How often a quiet watch says how far it is: Kubernetes' number.
const BOOKMARK_PERIOD: Duration = Duration::from_mins(1);
/// How often it is looked whether the session or token that a watch was opened with goes on.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The last bookmark comes this long before the end, so that the next watch starts there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// A watch whose client names no end lives between this and twice this: Kubernetes' numbers, so that watches that
/// began together do not end together.
const LIFE_SECONDS_MIN: u64 = 1800;
/// Lines that are there together are sent together up to this length: four TLS records.
const CHUNK_BYTES: usize = 64 * 1024;
/// No client needs a longer one, and a server wants to be left now and then.
const LIFE_SECONDS_MAX: u64 = 24 * 3600;

/// GET with `watch=true`.
pub(crate) async fn start(state: &Arc<State>, call: Call) -> Result<Response, Error> {
    let wish = call.wish()?;
    if wish.accepted.media == Media::Yaml {
        return Err(Error::not_acceptable());
    }
    let options = ListOptions { watch: true, ..ListOptions::parse(&call.query)? };
    let selection = Selection::new(&call.target, &options.label_selector, &options.field_selector)?;
    let permit = state.guard.watch(&call.identity)?;
    let kind_id = state.kinds.store_id(call.target.index);
    let resume = options.resource_version.filter(|revision| *revision > 0);
    // Kubernetes' defaults: a client that names no revision and takes bookmarks gets the initial state and its end.
    let initial = options.send_initial_events.unwrap_or(resume.is_none());
    let marks_end = options.bookmarks
        && (options.send_initial_events == Some(true) || (options.send_initial_events.is_none() && resume.is_none()));
    let mut pending = VecDeque::new();
    let mut initial_objects = Vec::new();
    let mut initial_end = None;
    let encoder = Encoder { state: Arc::clone(state), kind: Arc::clone(&call.target.kind), wish, columns: true };
    let after = if initial {
        if let Some(revision) = resume {
            freshness::reach(state, revision).await?;
        }
        let snapshot = list::snapshot(state, &call.target);
        for object in snapshot.iter() {
            if selection.matches(object)? {
                initial_objects.push(Arc::clone(object));
            }
        }
        initial_end = marks_end.then_some(snapshot.revision);
        snapshot.revision
    } else {
        resume.unwrap_or_else(|| state.store.revision())
    };
    let watch = if call.target.across_namespaces() {
        state.store.watch_across_namespaces(kind_id, after)
    } else {
        state.store.watch(kind_id, call.target.namespace(), after)
    };
    let watch = match watch {
        Ok(watch) => Some(watch),
        Err(expired) => {
            pending.push_back(line_of("ERROR", &Error::expired(expired.to_string(), None).status())?);
            None
        }
    };
    let now = Instant::now();
    let end = now + life(options.timeout_seconds, uuid::Uuid::new_v4().as_fields().0);
    let gauge = state.metrics.watches.with_label_values(&[&call.target.kind.qualified_plural()]);
    gauge.inc();
    let stream = Stream {
        encoder,
        selection,
        watch,
        initial: initial_objects.into_iter(),
        initial_end,
        pending,
        bookmarks: options.bookmarks,
        next_bookmark: next_bookmark(now, end),
        end,
        look_at: now + LOOK_AGAIN,
        identity: call.identity.clone(),
        shutdown: state.shutdown.clone(),
        _permit: permit,
        _open: Open(gauge),
    };
    if socket::is_asked(&call.parts.headers) {
        return socket::upgrade(call.parts, stream, state.guard.limits().reader_patience).await;
    }
    let body = Body::from_stream(stream::unfold(stream, |mut stream| async move {
        let line = stream.next().await?;
        Some((Ok::<_, Infallible>(line), stream))
    }));
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// How long a watch lives.
fn life(asked_seconds: Option<u64>, random: u32) -> Duration {
    let seconds = asked_seconds.unwrap_or(LIFE_SECONDS_MIN + u64::from(random) % LIFE_SECONDS_MIN);
    Duration::from_secs(seconds.min(LIFE_SECONDS_MAX))
}

/// When the next bookmark is due: in a minute, or shortly before the end if that comes first.
fn next_bookmark(now: Instant, end: Instant) -> Instant {
    let last = end.checked_sub(BOOKMARK_BEFORE_END).unwrap_or(end);
    let regular = now + BOOKMARK_PERIOD;
    if now < last { regular.min(last) } else { regular }
}

/// Counts an open watch while it lives.
struct Open(prometheus::IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Stream {
    encoder: Encoder,
    selection: Selection,
    /// What there was at the start and is still to be sent.
    initial: std::vec::IntoIter<Arc<Object>>,
    /// The revision of the bookmark behind it, if that is wanted.
    initial_end: Option<u64>,
    /// `None` after the end: what is pending is still sent.
    watch: Option<Watch>,
    pending: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    look_at: Instant,
    identity: Identity,
    shutdown: CancellationToken,
    _permit: Held,
    _open: Open,
}

impl Stream {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ready().await { self.gather() } else { None }
    }

    /// The next line; `None` at the end. Dropping the future loses nothing.
    async fn next_line(&mut self) -> Option<Bytes> {
        if self.ready().await { self.pending.pop_front() } else { None }
    }

    /// Waits until something is pending; false at the end.
    async fn ready(&mut self) -> bool {
        loop {
            self.fill();
            if !self.pending.is_empty() {
                return true;
            }
            let Some(watch) = self.watch.as_mut() else { return false };
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return false,
                () = sleep_until(self.end) => return false,
                () = sleep_until(self.look_at), if self.identity.credential.is_some() => {
                    self.look_at = Instant::now() + LOOK_AGAIN;
                    let accounts = self.encoder.state.accounts.as_ref();
                    if accounts.is_some_and(|accounts| !accounts.goes_on(&self.identity)) {
                        return false;
                    }
                }
                () = sleep_until(self.next_bookmark), if self.bookmarks => {
                    let revision = watch.revision();
                    self.next_bookmark = next_bookmark(Instant::now(), self.end);
                    match self.encoder.bookmark(revision, false) {
                        Ok(line) => self.pending.push_back(line),
                        Err(error) => self.fail(&error),
                    }
                }
                batch = watch.next() => match batch {
                    Ok(events) => self.take(&events),
                    Err(evicted) => {
                        let message = format!("too old resource version: {} ({})", evicted.seen, watch.revision());
                        self.fail(&Error::expired(message, None));
                    }
                },
            }
        }
    }

    /// Encodes some of the initial state: only as much as goes out at once, so that a long list is never held twice.
    fn fill(&mut self) {
        let mut length: usize = self.pending.iter().map(Bytes::len).sum();
        while length < CHUNK_BYTES {
            let line = match (self.initial.next(), self.initial_end) {
                (Some(object), _) => self.encoder.initial(&object),
                (None, Some(revision)) => {
                    self.initial_end = None;
                    self.encoder.bookmark(revision, true)
                }
                (None, None) => return,
            };
            match line {
                Ok(line) => {
                    length += line.len();
                    self.pending.push_back(line);
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// What is pending, in one piece if it is short: a frame and a system call for each line would cost more than
    /// copying does.
    fn gather(&mut self) -> Option<Bytes> {
        let first = self.pending.pop_front()?;
        if self.pending.is_empty() || first.len() >= CHUNK_BYTES {
            return Some(first);
        }
        let mut lines = Vec::with_capacity(CHUNK_BYTES);
        lines.extend_from_slice(&first);
        while let Some(line) = self.pending.pop_front_if(|line| lines.len() + line.len() <= CHUNK_BYTES) {
            lines.extend_from_slice(&line);
        }
        Some(lines.into())
    }

    fn take(&mut self, events: &[Arc<Event>]) {
        for event in events {
            match self.encoder.event(event, &self.selection) {
                Ok(Some(line)) => self.pending.push_back(line),
                Ok(None) => {}
                Err(error) => return self.fail(&error),
            }
        }
    }

    /// Says why, and ends.
    fn fail(&mut self, error: &Error) {
        if let Ok(line) = line_of("ERROR", &error.status()) {
            self.pending.push_back(line);
        }
        self.watch = None;
        self.initial = Vec::new().into_iter();
        self.initial_end = None;
    }
}

/// From events to lines in the shape that was asked for.
struct Encoder {
    state: Arc<State>,
    kind: Arc<Kind>,
    wish: Wish,
    /// The column definitions are still to be sent: only the first table of a watch carries them.
    columns: bool,
}

impl Encoder {
    /// Whether the store's lines can be sent as they are.
    fn ready(&self) -> bool {
        self.wish.accepted.shape == Shape::Object && self.kind.view_of.is_none()
    }

    fn initial(&mut self, object: &Arc<Object>) -> Result<Bytes, Error> {
        if self.ready() { Ok(object.added_line()) } else { self.line("ADDED", &object.body) }
    }

    fn event(&mut self, event: &Event, selection: &Selection) -> Result<Option<Bytes>, Error> {
        let is = selection.matches(&event.object)?;
        let was = match &event.previous {
            Some(previous) => selection.matches(previous)?,
            None => false,
        };
        let leaving = event.previous.as_ref().map(|previous| previous.body_with_revision(event.revision));
        let (kind, ready, body) = match (event.change, was, is) {
            (Change::Created, _, true) | (Change::Updated, false, true) => {
                ("ADDED", Some(event.line_entered()), event.object.body.clone())
            }
            (Change::Updated, true, true) => ("MODIFIED", Some(event.line()), event.object.body.clone()),
            (Change::Updated, true, false) => ("DELETED", event.line_left(), leaving.unwrap_or_default()),
            // The last write of a deletion may also be what takes it out of the selection.
            (Change::Deleted, true, _) => ("DELETED", Some(event.line()), event.object.body.clone()),
            _ => return Ok(None),
        };
        if self.ready() { Ok(ready) } else { self.line(kind, &body).map(Some) }
    }

    /// A line around an object's stored bytes.
    fn line(&mut self, kind: &str, body: &Bytes) -> Result<Bytes, Error> {
        let object = match self.wish.accepted.shape {
            Shape::Object => respond::translate(&self.kind, body)?,
            Shape::Metadata(version) => respond::partial(&respond::translate(&self.kind, body)?, version)?,
            Shape::Table(version) => {
                let tree = respond::tree(&self.kind, body)?;
                let revision = tree.pointer("/metadata/resourceVersion").cloned().unwrap_or(Value::Null);
                let metadata = json!({"resourceVersion": revision});
                let columns = std::mem::take(&mut self.columns);
                let now = self.state.clock.now();
                respond::rows(&self.kind, &[tree], metadata, self.wish.include, columns, now, version)?
            }
        };
        let mut line = Vec::with_capacity(object.len() + 40);
        line.extend_from_slice(br#"{"type":""#);
        line.extend_from_slice(kind.as_bytes());
        line.extend_from_slice(br#"","object":"#);
        line.extend_from_slice(&object);
        line.extend_from_slice(b"}\n");
        Ok(line.into())
    }

    fn bookmark(&self, revision: u64, ends_initial: bool) -> Result<Bytes, Error> {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.wish.accepted.shape {
            Shape::Object => {
                json!({"kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
            }
            Shape::Table(version) => json!({
                "kind": "Table",
                "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": null,
                "rows": [],
            }),
        };
        line_of("BOOKMARK", &object)
    }
}

fn line_of(kind: &str, object: &Value) -> Result<Bytes, Error> {
    let mut line = respond::encode(&json!({"type": kind, "object": object}))?.to_vec();
    line.push(b'\n');
    Ok(line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bookmark_is_due_every_minute_and_once_before_the_end() {
        let start = Instant::now();
        let end = start + Duration::from_secs(150);
        let mut due = Vec::new();
        let mut now = start;
        while now < end {
            now = next_bookmark(now, end);
            due.push((now - start).as_secs());
        }
        assert_eq!(due, [60, 120, 148, 208]);
    }

    #[test]
    fn a_watch_lives_as_long_as_asked_or_half_an_hour_to_an_hour() {
        assert_eq!(life(Some(290), 7).as_secs(), 290);
        assert_eq!(life(Some(u64::MAX), 7).as_secs(), LIFE_SECONDS_MAX);
        assert_eq!(life(None, 0).as_secs(), 1800);
        assert_eq!(life(None, 1799).as_secs(), 3599);
        assert!((1800..3600).contains(&life(None, u32::MAX).as_secs()));
    }
}
