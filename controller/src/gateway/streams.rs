//! Log streams from a node to whoever reads: bounded, so that a slow reader slows nobody but himself.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

/// Pieces that wait for a reader. Agents send pieces of some 16 KiB: a reader may fall 1 MiB behind.
const PIECES_MAX: usize = 64;
/// Streams of one node at a time: each costs a task there and a buffer here.
const STREAMS_MAX: usize = 256;

/// A piece of a stream.
#[derive(Debug)]
pub enum Piece {
    /// Text, and how many bytes were dropped before it.
    Text {
        /// The text.
        text: String,
        /// Bytes that are missing before it.
        dropped: u64,
    },
    /// There is no more, and why if not because all was read.
    End(Option<String>),
}

/// The streams of one node's connection.
#[derive(Default)]
pub(super) struct Streams(Mutex<State>);

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Stream>,
    last: u64,
}

struct Stream {
    reader: mpsc::Sender<Piece>,
    dropped: u64,
}

impl Streams {
    /// A new stream's number and its end; `None` when there are too many.
    pub(super) fn open(&self) -> Option<(u64, mpsc::Receiver<Piece>)> {
        let mut state = self.lock();
        state.open.retain(|_, stream| !stream.reader.is_closed());
        if state.open.len() >= STREAMS_MAX {
            return None;
        }
        state.last += 1;
        let number = state.last;
        // One place more, kept for the end.
        let (reader, pieces) = mpsc::channel(PIECES_MAX + 1);
        state.open.insert(number, Stream { reader, dropped: 0 });
        Some((number, pieces))
    }

    /// Passes text on. Returns true when nobody reads the stream any more, so that the agent can be told.
    pub(super) fn data(&self, number: u64, text: String, dropped: u64) -> bool {
        let mut state = self.lock();
        let Some(stream) = state.open.get_mut(&number) else {
            return true;
        };
        if stream.reader.is_closed() {
            state.open.remove(&number);
            return true;
        }
        let bytes = text.len() as u64;
        let missing = stream.dropped + dropped;
        let room = stream.reader.capacity() > 1;
        stream.dropped = if room && stream.reader.try_send(Piece::Text { text, dropped: missing }).is_ok() {
            0
        } else {
            missing + bytes
        };
        false
    }

    /// Ends a stream.
    pub(super) fn end(&self, number: u64, error: Option<String>) {
        if let Some(stream) = self.lock().open.remove(&number) {
            // Fails only if nobody reads: one place is kept for this.
            stream.reader.try_send(Piece::End(error)).ok();
        }
    }

    /// Ends all streams: the connection is gone.
    pub(super) fn end_all(&self, error: &str) {
        let open = std::mem::take(&mut self.lock().open);
        for stream in open.into_values() {
            stream.reader.try_send(Piece::End(Some(error.to_owned()))).ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_falls_behind_is_told_how_much_is_missing() {
        let streams = Streams::default();
        let (number, mut pieces) = streams.open().unwrap();
        for _ in 0..PIECES_MAX + 10 {
            assert!(!streams.data(number, "12345".to_owned(), 0));
        }
        for _ in 0..PIECES_MAX {
            assert!(matches!(pieces.recv().await, Some(Piece::Text { dropped: 0, .. })));
        }
        assert!(!streams.data(number, "on".to_owned(), 7));
        assert!(matches!(pieces.recv().await, Some(Piece::Text { dropped: 57, .. })));
        streams.end(number, None);
        assert!(matches!(pieces.recv().await, Some(Piece::End(None))));
        assert!(pieces.recv().await.is_none());
    }

    #[test]
    fn a_stream_that_nobody_reads_is_closed_and_their_number_is_bounded() {
        let streams = Streams::default();
        let (number, pieces) = streams.open().unwrap();
        drop(pieces);
        assert!(streams.data(number, String::new(), 0));
        assert!(streams.data(99, String::new(), 0), "never opened");
        let open: Vec<_> = (0..STREAMS_MAX).map(|_| streams.open().unwrap()).collect();
        assert!(streams.open().is_none());
        drop(open);
        assert!(streams.open().is_some());
    }

    #[tokio::test]
    async fn the_end_arrives_even_when_the_reader_is_behind() {
        let streams = Streams::default();
        let (number, mut pieces) = streams.open().unwrap();
        for _ in 0..PIECES_MAX * 2 {
            streams.data(number, "x".to_owned(), 0);
        }
        streams.end_all("the node is gone");
        let mut last = None;
        while let Some(piece) = pieces.recv().await {
            last = Some(piece);
        }
        assert!(matches!(last, Some(Piece::End(Some(why))) if why == "the node is gone"));
    }
}
