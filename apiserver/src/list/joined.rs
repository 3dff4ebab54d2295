//! A list as it is sent: the bytes of its items with commas between them.
//!
//! It is put together piece by piece while it is sent, so that a list of ten thousand objects is never in memory a second
//! time, and a piece is encrypted while the processor still has it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What stands behind the items.
const TAIL: &[u8] = b"]}\n";
/// A piece ends with the item that makes it longer than this: two TLS records.
const PIECE_BYTES: usize = 32 * 1024;
/// Room for the item that ends a piece, which then needs no other place.
const ITEM_BYTES: usize = 4 * 1024;

/// The pieces of a list, in their order.
pub(crate) struct Joined<T> {
    /// What stands before the items, until it was handed out.
    head: String,
    items: std::vec::IntoIter<T>,
    text: fn(&T) -> &Bytes,
    first: bool,
    /// Bytes that were not handed out yet.
    left: usize,
}

impl<T> Joined<T> {
    /// A list that begins with `head`; `text` is an item's JSON.
    pub(crate) fn new(head: String, items: Vec<T>, text: fn(&T) -> &Bytes) -> Self {
        let commas = items.len().saturating_sub(1);
        let left = head.len() + items.iter().map(|item| text(item).len()).sum::<usize>() + commas + TAIL.len();
        Self { head, items: items.into_iter(), text, first: true, left }
    }

    /// Bytes that were not handed out yet.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// What was not handed out yet in one piece, for who has to see all of it.
    pub(crate) fn whole(self) -> Bytes {
        let mut whole = Vec::with_capacity(self.left);
        for piece in self {
            whole.extend_from_slice(&piece);
        }
        whole.into()
    }
}

impl<T> Iterator for Joined<T> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let mut piece = Vec::with_capacity(self.left.min(PIECE_BYTES + ITEM_BYTES));
        piece.extend_from_slice(std::mem::take(&mut self.head).as_bytes());
        while piece.len() < PIECE_BYTES {
            let Some(item) = self.items.next() else {
                piece.extend_from_slice(TAIL);
                break;
            };
            if !std::mem::take(&mut self.first) {
                piece.push(b',');
            }
            piece.extend_from_slice((self.text)(&item));
        }
        self.left -= piece.len();
        Some(piece.into())
    }
}

impl<T: Unpin> Body for Joined<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(items: &[Bytes]) -> Joined<Bytes> {
        Joined::new(r#"{"items":["#.to_owned(), items.to_vec(), |item| item)
    }

    #[test]
    fn it_is_as_long_as_it_says_and_its_pieces_are_short() {
        let item = |length: usize| Bytes::from(format!("\"{}\"", "x".repeat(length - 2)));
        let shapes: [Vec<Bytes>; 7] = [
            vec![],
            vec![item(2)],
            vec![item(1024); 100],
            // Pieces that are full with the head, with an item, with the comma.
            vec![item(PIECE_BYTES - 10), item(5)],
            vec![item(PIECE_BYTES - 11), item(5)],
            vec![item(PIECE_BYTES); 3],
            vec![item(1 << 20), item(7), item(1 << 20)],
        ];
        for items in shapes {
            let expected = format!(
                "{{\"items\":[{}]}}\n",
                items.iter().map(|item| std::str::from_utf8(item).unwrap()).collect::<Vec<_>>().join(",")
            );
            let mut list = joined(&items);
            let mut text = Vec::new();
            assert_eq!(list.left(), expected.len());
            while let Some(piece) = list.next() {
                let longest = items.iter().map(Bytes::len).max().unwrap_or_default();
                assert!(!piece.is_empty() && piece.len() <= PIECE_BYTES + longest + TAIL.len());
                text.extend_from_slice(&piece);
                assert_eq!(Body::size_hint(&list).exact(), Some((expected.len() - text.len()) as u64));
            }
            assert!(text == expected.as_bytes() && list.is_end_stream());
            assert_eq!(joined(&items).whole(), expected);
        }
    }
}
