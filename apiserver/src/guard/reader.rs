//! Responses whose reader has stopped reading.
//!
//! A client that opens a list of many megabytes, or a watch, and does not read makes the server keep what is left to be
//! sent. TCP, TLS and HTTP/2 all just wait. So a response that stays unread for longer than the patience is given up:
//! what it holds is dropped at once, and the connection or stream fails when the client comes back to it. The sockets
//! themselves have a time limit of their own, in `serve`: this one is needed where one connection carries many responses.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use prometheus::IntCounter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::task;

/// Longer bodies are handed out in pieces of at most this length, so that what has not been sent can be dropped. Four TLS
/// records: a piece costs a look at a lock, and that is nothing beside encrypting it. The pieces of a list or of a watch fit.
const PIECE_BYTES: usize = 64 * 1024;
/// Bodies up to this length are not followed: they fit into the buffers below anyway.
const SHORT_BYTES: u64 = 64 * 1024;

/// The open responses.
pub(crate) struct Readers {
    patience: Duration,
    started: Instant,
    open: Mutex<Vec<Weak<Slot>>>,
    evicted: IntCounter,
    shutdown: CancellationToken,
    watching: Once,
}

/// What a response still has to send.
struct Slot {
    left: Mutex<Option<Left>>,
    /// When a piece was handed out that the client has not asked to be followed by another, in milliseconds since the
    /// start and at least 1; 0 while the server is the one who makes the other wait.
    unread_since: AtomicU64,
}

struct Left {
    body: Body,
    rest: Bytes,
}

impl Slot {
    fn left(&self) -> MutexGuard<'_, Option<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Readers {
    pub(super) fn new(patience: Duration, evicted: IntCounter, shutdown: CancellationToken) -> Self {
        Self { patience, started: Instant::now(), open: Mutex::default(), evicted, shutdown, watching: Once::new() }
    }

    /// From now on this response must be read. The first starts the task that looks after all of them.
    pub(super) fn follow(self: &Arc<Self>, response: Response) -> Response {
        let hint = response.body().size_hint();
        if hint.upper().is_some_and(|bytes| bytes <= SHORT_BYTES) {
            return response;
        }
        self.watching.call_once(|| {
            task::spawn("slow-readers", Arc::clone(self).run());
        });
        response.map(|body| {
            let left = Mutex::new(Some(Left { body, rest: Bytes::new() }));
            let slot = Arc::new(Slot { left, unread_since: AtomicU64::new(0) });
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that ended are forgotten when the list would have to grow, so that it is never twice too long.
            if open.len() == open.capacity() {
                open.retain(|slot| slot.strong_count() > 0);
            }
            open.push(Arc::downgrade(&slot));
            Body::new(Followed { slot, started: self.started })
        })
    }

    /// Gives unread responses up until shutdown.
    async fn run(self: Arc<Self>) {
        let period = (self.patience / 4).clamp(Duration::from_millis(20), Duration::from_secs(5));
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(period) => self.evict(),
            }
        }
    }

    fn evict(&self) {
        let open: Vec<Arc<Slot>> = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|slot| slot.strong_count() > 0);
            open.iter().filter_map(Weak::upgrade).collect()
        };
        let now = millis(self.started);
        let patience = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        for slot in open {
            let since = slot.unread_since.load(Ordering::Acquire);
            if since != 0 && now.saturating_sub(since) > patience && slot.left().take().is_some() {
                self.evicted.inc();
                tracing::debug!("a response is given up because its client does not read on");
            }
        }
    }
}

fn millis(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A body that can be given up from outside.
struct Followed {
    slot: Arc<Slot>,
    started: Instant,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Whoever polls has room for more: until something is handed out, it is not the client who is slow.
        self.slot.unread_since.store(0, Ordering::Release);
        let mut guard = self.slot.left();
        let Some(left) = guard.as_mut() else {
            let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the client did not read on");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        };
        if left.rest.is_empty() {
            match Pin::new(&mut left.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => left.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return other,
            }
        }
        let piece = left.rest.split_to(left.rest.len().min(PIECE_BYTES));
        self.slot.unread_since.store(millis(self.started).max(1), Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.slot.left().as_ref().is_some_and(|left| left.rest.is_empty() && left.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let guard = self.slot.left();
        let Some(left) = guard.as_ref() else { return SizeHint::default() };
        let rest = left.rest.len() as u64;
        let below = left.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(below.lower().saturating_add(rest));
        if let Some(upper) = below.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn readers(patience: Duration) -> Arc<Readers> {
        let counter = IntCounter::new("evicted", "evicted").unwrap();
        Arc::new(Readers::new(patience, counter, CancellationToken::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_whole_and_in_pieces_for_who_reads_it() {
        let readers = readers(Duration::from_secs(10));
        let text: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut body = readers.follow(Response::new(Body::from(text.clone()))).into_body();
        assert_eq!(body.size_hint().exact(), Some(300_000));
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE_BYTES);
            read.extend_from_slice(&data);
            assert_eq!(body.size_hint().exact(), Some(300_000 - read.len() as u64));
            // Slow, and never slower than the patience.
            tokio::time::advance(Duration::from_secs(9)).await;
            readers.evict();
        }
        assert!(read == text && body.is_end_stream());
        assert_eq!(readers.evicted.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_is_dropped_and_fails() {
        let readers = readers(Duration::from_secs(10));
        let text = Bytes::from(vec![b'x'; 1 << 20]);
        let mut body = readers.follow(Response::new(Body::from(text.clone()))).into_body();
        body.frame().await.unwrap().unwrap();
        assert!(!text.is_unique());
        tokio::time::advance(Duration::from_secs(11)).await;
        readers.evict();
        assert!(text.is_unique(), "its memory is free although the client still holds the response");
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(readers.evicted.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_is_not_a_slow_reader() {
        let readers = readers(Duration::from_secs(10));
        let quiet = futures::stream::pending::<Result<Bytes, std::convert::Infallible>>();
        let mut body = readers.follow(Response::new(Body::from_stream(quiet))).into_body();
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        tokio::time::advance(Duration::from_hours(1)).await;
        readers.evict();
        assert!(futures::poll!(std::pin::pin!(body.frame())).is_pending());
        assert_eq!(readers.evicted.get(), 0);
        drop(body);
        readers.evict();
        assert!(readers.open.lock().unwrap().is_empty(), "what has ended is forgotten");
    }
}
