//! The protocol against itself, against what Go's client really sends, and against nonsense.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (a + b) % 65521)
    });
    b << 16 | a
}

#[test]
fn the_dictionary_is_the_protocols() {
    let bytes = dictionary::dictionary();
    assert_eq!((bytes.len(), adler32(&bytes)), (1423, 0xe3c6_a7c2));
}

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The other side of a session, as far as tests need it.
#[derive(Default)]
struct Client {
    writer: HeaderWriter,
    decoder: FrameDecoder,
    next: u32,
}

impl Client {
    fn open(&mut self, of: &[(&str, &str)]) -> (u32, Bytes) {
        let stream = self.next * 2 + 1;
        self.next += 1;
        let headers = self.writer.write(&headers(of)).into();
        let frame = Frame::SynStream { stream, associated: 0, priority: 0, fin: false, unidirectional: false, headers };
        (stream, frame.encode())
    }

    fn frames(&mut self, session: &mut Session) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(bytes) = session.next_frame() {
            self.decoder.feed(&bytes);
            frames.extend(std::iter::from_fn(|| self.decoder.next_frame().unwrap()));
        }
        frames
    }
}

fn data(stream: u32, fin: bool, bytes: &'static [u8]) -> Bytes {
    Frame::Data { stream, fin, data: Bytes::from_static(bytes) }.encode()
}

#[test]
fn a_stream_from_its_opening_to_its_end() {
    let (mut client, mut session) = (Client::default(), Session::server());
    let of = [("port", "8080"), ("requestid", "0"), ("streamtype", "data")];
    let (stream, opening) = client.open(&of);
    assert_eq!(session.receive(&opening), Ok(vec![Heard::Opened { stream, headers: headers(&of) }]));
    session.reply(stream);
    let frames = client.frames(&mut session);
    assert!(matches!(frames[..], [Frame::SynReply { stream: 1, fin: false, .. }]), "{frames:?}");
    let heard = session.receive(&[data(stream, false, b"ab"), data(stream, true, b"c")].concat());
    let expected = vec![
        Heard::Data { stream, data: Bytes::from_static(b"ab") },
        Heard::Data { stream, data: Bytes::from_static(b"c") },
        Heard::Finished { stream },
    ];
    assert_eq!(heard, Ok(expected));
    session.send(stream, b"answer");
    session.finish(stream);
    assert_eq!(session.streams(), 0, "both sides have ended it");
    session.send(stream, b"too late");
    let answer = Frame::Data { stream, fin: false, data: Bytes::from_static(b"answer") };
    assert_eq!(client.frames(&mut session), [answer, Frame::Data { stream, fin: true, data: Bytes::new() }]);
}

#[test]
fn what_is_consumed_is_credited_and_pings_are_answered() {
    let (mut client, mut session) = (Client::default(), Session::server());
    let (stream, opening) = client.open(&[("port", "1")]);
    session.receive(&opening).unwrap();
    session.consumed(stream, 20 << 10);
    session.consumed(stream, 20 << 10);
    session.receive(&[Frame::Ping(7).encode(), Frame::Ping(8).encode()].concat()).unwrap();
    let delta = 40 << 10;
    let expected = [Frame::WindowUpdate { stream: 0, delta }, Frame::WindowUpdate { stream, delta }, Frame::Ping(7)];
    assert_eq!(client.frames(&mut session), expected);
}

#[test]
fn who_opens_streams_out_of_order_or_without_end_is_stopped() {
    let (mut client, mut session) = (Client::default(), Session::server());
    let (_, first) = client.open(&[("port", "1")]);
    let (_, second) = client.open(&[("port", "1")]);
    session.receive(&[first, second].concat()).unwrap();
    client.next = 0;
    let (stream, again) = client.open(&[("port", "1")]);
    assert_eq!(session.receive(&again), Err(Error::StreamId(stream)));

    let (mut client, mut session) = (Client::default(), Session::server());
    for _ in 0..2000 {
        let (_, opening) = client.open(&[("port", "1")]);
        session.receive(&opening).unwrap();
    }
    assert_eq!(session.streams(), 1024);
    let refusals = client.frames(&mut session);
    assert_eq!(refusals.len(), 2000 - 1024);
    assert!(refusals.iter().all(|frame| matches!(frame, Frame::RstStream { status: 3, .. })));
}

#[test]
fn data_of_streams_that_ended_is_passed_over_and_of_strangers_refused() {
    let (mut client, mut session) = (Client::default(), Session::server());
    let (stream, opening) = client.open(&[("port", "1")]);
    session.receive(&opening).unwrap();
    let reset = Frame::RstStream { stream, status: 5 }.encode();
    assert_eq!(session.receive(&reset), Ok(vec![Heard::Reset { stream }]));
    assert_eq!(session.receive(&[data(stream, false, b"late"), reset].concat()), Ok(vec![]));
    assert_eq!(client.frames(&mut session), []);
    session.receive(&data(99, false, b"x")).unwrap();
    assert_eq!(client.frames(&mut session), [Frame::RstStream { stream: 99, status: 2 }]);
}

#[test]
fn malformed_frames_end_the_session_and_nothing_else() {
    for (what, bytes) in [
        ("another version", &[0x80, 2, 0, 1, 0, 0, 0, 0][..]),
        ("too long", &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("a short opening", &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]),
        ("a long ping", &[0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0]),
        ("settings that lie", &[0x80, 3, 0, 4, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]),
        ("an empty block", &[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("no zlib", &[0x80, 3, 0, 1, 0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]),
    ] {
        assert!(Session::server().receive(bytes).is_err(), "{what}");
    }
    let unknown = [0x80, 3, 0, 77, 0, 0, 0, 1, 9];
    assert_eq!(Session::server().receive(&unknown), Ok(vec![]), "an unknown frame is passed over");
}

#[test]
fn a_block_that_grows_without_end_is_refused() {
    let block = HeaderWriter::default().write(&headers(&[("a", &"x".repeat(1 << 20))]));
    assert!(block.len() < 8 << 10, "it compresses well: {}", block.len());
    assert_eq!(HeaderReader::default().read(&block), Err(Error::Headers("it is too long")));
}

fn some_headers() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-z-]{1,20}", "[ -~é]{0,60}", 0..8)
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn some_frame() -> impl Strategy<Value = Frame> {
    let id = 0_u32..0x7fff_ffff;
    prop_oneof![
        (id.clone(), id.clone(), 0_u8..8, any::<(bool, bool)>(), some_bytes()).prop_map(
            |(stream, associated, priority, (fin, unidirectional), headers)| Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers
            }
        ),
        (id.clone(), any::<bool>(), some_bytes()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        proptest::collection::vec((any::<u8>(), 0_u32..0x00ff_ffff, any::<u32>()), 0..5).prop_map(Frame::Settings),
        any::<u32>().prop_map(Frame::Ping),
        (id.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (id.clone(), any::<bool>(), some_bytes()).prop_map(|(stream, fin, headers)| Frame::Headers {
            stream,
            fin,
            headers
        }),
        (id.clone(), id.clone()).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        (id, any::<bool>(), some_bytes()).prop_map(|(stream, fin, data)| Frame::Data { stream, fin, data }),
    ]
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut(
        frames in proptest::collection::vec(some_frame(), 0..8),
        cut in 1_usize..50,
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut decoder = FrameDecoder::default();
        let mut found = Vec::new();
        for piece in bytes.chunks(cut) {
            decoder.feed(piece);
            while let Some(frame) = decoder.next_frame().unwrap() {
                found.push(frame);
            }
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn header_blocks_are_read_in_order(blocks in proptest::collection::vec(some_headers(), 1..6)) {
        let (mut writer, mut reader) = (HeaderWriter::default(), HeaderReader::default());
        for block in blocks {
            let written = writer.write(&block);
            prop_assert_eq!(reader.read(&written), Ok(block));
        }
    }

    #[test]
    fn nonsense_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 1_usize..60) {
        let mut session = Session::server();
        for piece in bytes.chunks(cut) {
            if session.receive(piece).is_err() {
                break;
            }
        }
        prop_assert!(session.streams() <= 1024);
    }

    /// Frames that are well formed and mean nothing together.
    #[test]
    fn any_frames_are_survived(frames in proptest::collection::vec(some_frame(), 0..20)) {
        let mut session = Session::server();
        for frame in &frames {
            if session.receive(&frame.encode()).is_err() {
                break;
            }
            while session.next_frame().is_some() {}
        }
    }
}
