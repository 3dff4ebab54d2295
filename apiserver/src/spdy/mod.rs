//! SPDY/3.1, as much of it as Kubernetes' clients speak: a small, old relative of HTTP/2.
//!
//! Pure: bytes in, what happened and bytes out. Source: <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>.
//!
//! Flow control is kept in the direction in which it can be: what was consumed is credited. Kubernetes' clients
//! (moby/spdystream) neither keep nor credit windows, so that waiting for credit would be waiting for ever; what is sent
//! to them is bounded by the connection below.

mod dictionary;
mod frame;
mod headers;
mod session;
#[cfg(test)]
mod tests;

pub use frame::{Frame, FrameDecoder};
pub use headers::{HeaderReader, HeaderWriter};
pub use session::{Heard, Session};

/// Why a session cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame is not as the protocol has it.
    #[error("{0}")]
    Frame(&'static str),
    /// A frame is longer than anybody here sends.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// A header block cannot be read: the state that both sides share is lost.
    #[error("a header block cannot be read: {0}")]
    Headers(&'static str),
    /// Two sides that do not agree on which streams there are.
    #[error("stream {0} is out of order")]
    StreamId(u32),
}
