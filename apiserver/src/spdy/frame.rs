//! Frames as bytes. Header blocks are left as they are, compressed: reading one needs what was read before.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Error;

/// The longest frame that is taken: Go's side sends data in pieces of 32 KiB, and headers of a few hundred bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// The version in control frames: 3.1 differs from 3 in flow control only.
const VERSION: u16 = 3;
const HEAD_BYTES: usize = 8;

/// There is no more on this stream from whoever sent the frame.
const FIN: u8 = 1;
/// The other side sends nothing on this stream.
const UNIDIRECTIONAL: u8 = 2;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// The new stream.
        stream: u32,
        /// A stream it belongs to; 0 for none.
        associated: u32,
        /// From 0, the most urgent, to 7.
        priority: u8,
        /// Whether its opener sends nothing more.
        fin: bool,
        /// Whether its other side sends nothing.
        unidirectional: bool,
        /// The compressed headers.
        headers: Bytes,
    },
    /// Accepts a stream.
    SynReply {
        /// The stream.
        stream: u32,
        /// Whether nothing more is sent.
        fin: bool,
        /// The compressed headers.
        headers: Bytes,
    },
    /// Ends a stream at once.
    RstStream {
        /// The stream.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// Says how its sender would like things to be: `(flags, id, value)`.
    Settings(Vec<(u8, u32, u32)>),
    /// To be sent back by whoever did not begin it.
    Ping(u32),
    /// No more streams are taken.
    GoAway {
        /// The last stream that was.
        last: u32,
        /// Why.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// The stream.
        stream: u32,
        /// Whether nothing more is sent.
        fin: bool,
        /// The compressed headers.
        headers: Bytes,
    },
    /// So many more bytes may be sent.
    WindowUpdate {
        /// The stream; 0 for all together.
        stream: u32,
        /// How many.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// The stream.
        stream: u32,
        /// Whether nothing more is sent.
        fin: bool,
        /// The bytes.
        data: Bytes,
    },
    /// A control frame of a type that this side does not know, to be passed over.
    Unknown(u16),
}

/// Takes bytes as they come and gives the frames in them.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    rest: BytesMut,
}

impl FrameDecoder {
    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until there are more bytes. After an error the session is over.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Error> {
        if self.rest.len() < HEAD_BYTES {
            return Ok(None);
        }
        let length = usize::from(self.rest[5]) << 16 | usize::from(self.rest[6]) << 8 | usize::from(self.rest[7]);
        if length > FRAME_BYTES_MAX {
            return Err(Error::TooLong(length));
        }
        if self.rest.len() < HEAD_BYTES + length {
            return Ok(None);
        }
        let mut frame = self.rest.split_to(HEAD_BYTES + length).freeze();
        let first = frame.get_u32();
        let flags = frame.get_u8();
        frame.advance(3);
        if first & 0x8000_0000 == 0 {
            return Ok(Some(Frame::Data { stream: first, fin: flags & FIN != 0, data: frame }));
        }
        let [version_high, version_low, type_high, type_low] = first.to_be_bytes();
        if u16::from_be_bytes([version_high & 0x7f, version_low]) != VERSION {
            return Err(Error::Frame("a control frame of another version"));
        }
        control(u16::from_be_bytes([type_high, type_low]), flags, frame).map(Some)
    }
}

fn control(type_: u16, flags: u8, mut body: Bytes) -> Result<Frame, Error> {
    let fin = flags & FIN != 0;
    let at_least = |body: &Bytes, bytes: usize| {
        if body.len() < bytes { Err(Error::Frame("a control frame is too short")) } else { Ok(()) }
    };
    let exactly = |body: &Bytes, bytes: usize| {
        if body.len() == bytes { Ok(()) } else { Err(Error::Frame("a control frame has the wrong length")) }
    };
    let number = |body: &mut Bytes| body.get_u32() & 0x7fff_ffff;
    Ok(match type_ {
        1 => {
            at_least(&body, 10)?;
            let (stream, associated) = (number(&mut body), number(&mut body));
            let priority = body.get_u8() >> 5;
            body.advance(1);
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional: flags & UNIDIRECTIONAL != 0,
                headers: body,
            }
        }
        2 => {
            at_least(&body, 4)?;
            Frame::SynReply { stream: number(&mut body), fin, headers: body }
        }
        3 => {
            exactly(&body, 8)?;
            Frame::RstStream { stream: number(&mut body), status: body.get_u32() }
        }
        4 => {
            at_least(&body, 4)?;
            let entries = usize::try_from(body.get_u32()).unwrap_or(usize::MAX);
            if entries.checked_mul(8) != Some(body.len()) {
                return Err(Error::Frame("settings have another length than they say"));
            }
            let mut entry = || {
                let word = body.get_u32();
                (word.to_be_bytes()[0], word & 0x00ff_ffff, body.get_u32())
            };
            Frame::Settings((0..entries).map(|_| entry()).collect())
        }
        6 => {
            exactly(&body, 4)?;
            Frame::Ping(body.get_u32())
        }
        7 => {
            exactly(&body, 8)?;
            Frame::GoAway { last: number(&mut body), status: body.get_u32() }
        }
        8 => {
            at_least(&body, 4)?;
            Frame::Headers { stream: number(&mut body), fin, headers: body }
        }
        9 => {
            exactly(&body, 8)?;
            Frame::WindowUpdate { stream: number(&mut body), delta: number(&mut body) }
        }
        unknown => Frame::Unknown(unknown),
    })
}

impl Frame {
    /// The frame as bytes. An unknown one has none.
    pub fn encode(&self) -> Bytes {
        let mut body = BytesMut::new();
        let fin = |fin: bool| if fin { FIN } else { 0 };
        let (type_, flags) = match self {
            Self::Data { stream, fin: ends, data } => {
                let mut out = BytesMut::with_capacity(HEAD_BYTES + data.len());
                out.put_u32(*stream & 0x7fff_ffff);
                out.put_u32(u32::from(fin(*ends)) << 24 | length(data.len()));
                out.put_slice(data);
                return out.freeze();
            }
            Self::Unknown(_) => return Bytes::new(),
            Self::SynStream { stream, associated, priority, fin: ends, unidirectional, headers } => {
                body.put_u32(*stream);
                body.put_u32(*associated);
                body.put_u8(priority << 5);
                body.put_u8(0);
                body.put_slice(headers);
                (1, fin(*ends) | if *unidirectional { UNIDIRECTIONAL } else { 0 })
            }
            Self::SynReply { stream, fin: ends, headers } => {
                body.put_u32(*stream);
                body.put_slice(headers);
                (2, fin(*ends))
            }
            Self::RstStream { stream, status } => {
                body.put_u32(*stream);
                body.put_u32(*status);
                (3, 0)
            }
            Self::Settings(entries) => {
                body.put_u32(length(entries.len()));
                for (flags, id, value) in entries {
                    body.put_u32(u32::from(*flags) << 24 | (id & 0x00ff_ffff));
                    body.put_u32(*value);
                }
                (4, 0)
            }
            Self::Ping(id) => {
                body.put_u32(*id);
                (6, 0)
            }
            Self::GoAway { last, status } => {
                body.put_u32(*last);
                body.put_u32(*status);
                (7, 0)
            }
            Self::Headers { stream, fin: ends, headers } => {
                body.put_u32(*stream);
                body.put_slice(headers);
                (8, fin(*ends))
            }
            Self::WindowUpdate { stream, delta } => {
                body.put_u32(*stream);
                body.put_u32(*delta);
                (9, 0)
            }
        };
        let mut out = BytesMut::with_capacity(HEAD_BYTES + body.len());
        out.put_u16(0x8000 | VERSION);
        out.put_u16(type_);
        out.put_u32(u32::from(flags) << 24 | length(body.len()));
        out.put_slice(&body);
        out.freeze()
    }
}

/// Frames are built here from pieces that are far shorter than the 24 bits of a length.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX) & 0x00ff_ffff
}
