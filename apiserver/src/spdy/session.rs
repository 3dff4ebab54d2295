//! One end of a session: which streams there are, and what its frames mean.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::Error;
use super::frame::{Frame, FrameDecoder};
use super::headers::{HeaderReader, HeaderWriter};

/// Streams that are open at a time: two for each connection of a port-forward, which bounds itself below this.
const STREAMS_MAX: usize = 1024;
/// What is consumed before it is credited: half of the protocol's first window of 64 KiB.
const CREDIT_BYTES: usize = 32 << 10;
/// The longest data in one frame.
const DATA_BYTES_MAX: usize = 32 << 10;

const PROTOCOL_ERROR: u32 = 1;
const INVALID_STREAM: u32 = 2;
const REFUSED_STREAM: u32 = 3;

/// What the other side did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It opened a stream, which is to be answered with [`Session::reply`] or [`Session::refuse`].
    Opened {
        /// The stream.
        stream: u32,
        /// Its headers, names in lower case.
        headers: BTreeMap<String, String>,
    },
    /// It sent bytes; to be credited with [`Session::consumed`].
    Data {
        /// The stream.
        stream: u32,
        /// The bytes.
        data: Bytes,
    },
    /// It sends no more on a stream.
    Finished {
        /// The stream.
        stream: u32,
    },
    /// It ended a stream at once.
    Reset {
        /// The stream.
        stream: u32,
    },
    /// It opens no more streams.
    GoneAway,
}

/// A stream that is open in at least one direction.
#[derive(Debug, Default)]
struct Stream {
    /// The other side has finished.
    finished: bool,
    /// This side has.
    closed: bool,
    /// Consumed and not yet credited.
    owed: usize,
}

/// One end of a session.
#[derive(Debug)]
pub struct Session {
    decoder: FrameDecoder,
    reader: HeaderReader,
    writer: HeaderWriter,
    streams: BTreeMap<u32, Stream>,
    /// The last stream that the other side has opened.
    last: u32,
    /// No new streams are taken, or can be had.
    gone: bool,
    owed: usize,
    out: VecDeque<Bytes>,
}

impl Session {
    /// The end that streams are opened to.
    pub fn server() -> Self {
        Self {
            decoder: FrameDecoder::default(),
            reader: HeaderReader::default(),
            writer: HeaderWriter::default(),
            streams: BTreeMap::new(),
            last: 0,
            gone: false,
            owed: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes bytes in; says what happened. After an error the session is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, Error> {
        self.decoder.feed(bytes);
        let mut heard = Vec::new();
        while let Some(frame) = self.decoder.next_frame()? {
            self.hear(frame, &mut heard)?;
        }
        Ok(heard)
    }

    /// The next frame to send, if there is one.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    fn hear(&mut self, frame: Frame, heard: &mut Vec<Heard>) -> Result<(), Error> {
        match frame {
            Frame::SynStream { stream, fin, unidirectional, headers, .. } => {
                // Every block must be read, also that of a stream that is refused: the next one builds on it.
                let headers = self.reader.read(&headers)?;
                if stream % 2 == 0 || stream <= self.last {
                    return Err(Error::StreamId(stream));
                }
                self.last = stream;
                if self.gone || self.streams.len() >= STREAMS_MAX {
                    self.refuse(stream);
                    return Ok(());
                }
                self.streams.insert(stream, Stream { finished: fin, closed: unidirectional, owed: 0 });
                heard.push(Heard::Opened { stream, headers });
                if fin {
                    heard.push(Heard::Finished { stream });
                }
            }
            Frame::Data { stream, fin, data } => match self.streams.get(&stream) {
                Some(Stream { finished: false, .. }) => {
                    if !data.is_empty() {
                        heard.push(Heard::Data { stream, data });
                    }
                    self.finished(stream, fin, heard);
                }
                Some(_) => self.reset(stream, PROTOCOL_ERROR),
                // It was on its way when the stream ended.
                None if stream <= self.last => {}
                None => self.reset(stream, INVALID_STREAM),
            },
            Frame::Headers { stream, fin, headers } => {
                self.reader.read(&headers)?;
                self.finished(stream, fin, heard);
            }
            Frame::SynReply { headers, .. } => {
                // This end opens no streams, and says so; the block must be read all the same.
                self.reader.read(&headers)?;
            }
            Frame::RstStream { stream, .. } => {
                if self.streams.remove(&stream).is_some() {
                    heard.push(Heard::Reset { stream });
                }
            }
            // The other side's are odd; an even one would be the answer to one of ours.
            Frame::Ping(id) if id % 2 == 1 => self.say(&Frame::Ping(id)),
            Frame::GoAway { .. } => {
                self.gone = true;
                heard.push(Heard::GoneAway);
            }
            Frame::Ping(_) | Frame::Settings(_) | Frame::WindowUpdate { .. } | Frame::Unknown(_) => {}
        }
        Ok(())
    }

    fn finished(&mut self, stream: u32, fin: bool, heard: &mut Vec<Heard>) {
        if let Some(state) = self.streams.get_mut(&stream)
            && fin
            && !state.finished
        {
            state.finished = true;
            heard.push(Heard::Finished { stream });
            self.forget(stream);
        }
    }

    /// A stream that both sides have ended is no more.
    fn forget(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(|state| state.finished && state.closed) {
            self.streams.remove(&stream);
        }
    }

    fn say(&mut self, frame: &Frame) {
        self.out.push_back(frame.encode());
    }

    fn reset(&mut self, stream: u32, status: u32) {
        self.streams.remove(&stream);
        self.say(&Frame::RstStream { stream, status });
    }

    /// Accepts a stream.
    pub fn reply(&mut self, stream: u32) {
        let headers = self.writer.write(&BTreeMap::new()).into();
        self.say(&Frame::SynReply { stream, fin: false, headers });
    }

    /// Refuses a stream.
    pub fn refuse(&mut self, stream: u32) {
        self.reset(stream, REFUSED_STREAM);
    }

    /// Sends bytes, if the stream is still open.
    pub fn send(&mut self, stream: u32, data: &[u8]) {
        if self.streams.get(&stream).is_some_and(|state| !state.closed) {
            for piece in data.chunks(DATA_BYTES_MAX) {
                self.say(&Frame::Data { stream, fin: false, data: Bytes::copy_from_slice(piece) });
            }
        }
    }

    /// Says that nothing more is sent on a stream.
    pub fn finish(&mut self, stream: u32) {
        if let Some(state) = self.streams.get_mut(&stream)
            && !state.closed
        {
            state.closed = true;
            self.say(&Frame::Data { stream, fin: true, data: Bytes::new() });
            self.forget(stream);
        }
    }

    /// Notes that bytes of a stream went where they belong, so that the other side may send more.
    pub fn consumed(&mut self, stream: u32, bytes: usize) {
        self.owed += bytes;
        let mut credits = Vec::new();
        if self.owed >= CREDIT_BYTES {
            credits.push((0, std::mem::take(&mut self.owed)));
        }
        if let Some(state) = self.streams.get_mut(&stream).filter(|state| !state.finished) {
            state.owed += bytes;
            if state.owed >= CREDIT_BYTES {
                credits.push((stream, std::mem::take(&mut state.owed)));
            }
        }
        for (stream, bytes) in credits {
            let delta = u32::try_from(bytes).unwrap_or(u32::MAX) & 0x7fff_ffff;
            self.say(&Frame::WindowUpdate { stream, delta });
        }
    }

    /// Says that no more streams are taken, because the other side broke the protocol.
    pub fn go_away(&mut self) {
        self.gone = true;
        self.say(&Frame::GoAway { last: self.last, status: PROTOCOL_ERROR });
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }
}
