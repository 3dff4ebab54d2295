//! gRPC over one HTTP/2 connection: the client library is the same as for Berth, so that neither side is measured with
//! the slower one.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{Method, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::count_bytes;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The bytes before each message: a flag (0: not compressed) and the length.
const PREFIX_BYTES: usize = 5;
/// As much as an answer of 11,000 objects of 1 KiB, so that flow control never makes etcd wait for us.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// One connection.
pub(crate) struct Channel {
    sender: SendRequest<Body>,
    address: SocketAddr,
    // Ends with the channel.
    _driver: JoinSet<()>,
}

impl Channel {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection is seen by the request that needs it.
            drop(connection.await);
        });
        Ok(Self { sender, address, _driver: driver })
    }

    /// One message there, one back.
    pub(crate) async fn unary<Q: Message, A: Message + Default>(&mut self, path: &str, ask: &Q) -> anyhow::Result<A> {
        let body = Full::new(framed(ask)).boxed_unsync();
        let collected = self.send(path, body).await?.into_body().collect().await?;
        let status = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
        let mut bytes = collected.to_bytes();
        match status {
            Some(status) if status != "0" => bail!("{path}: gRPC status {}", status.to_str().unwrap_or("unreadable")),
            _ => {}
        }
        let message = take_frame(&mut bytes).with_context(|| format!("{path}: no whole message in the answer"))?;
        Ok(A::decode(message)?)
    }

    /// One message there, and the bytes of the answer counted and thrown away.
    pub(crate) async fn drain<Q: Message>(&mut self, path: &str, ask: &Q) -> anyhow::Result<usize> {
        count_bytes(self.send(path, Full::new(framed(ask)).boxed_unsync()).await?.into_body()).await
    }

    /// One message there, and those that come back as long as the stream is kept.
    pub(crate) async fn stream<Q: Message>(&mut self, path: &str, ask: &Q) -> anyhow::Result<Messages> {
        let first = futures::stream::once(std::future::ready(Ok(Frame::data(framed(ask)))));
        // The request stays open: its end would end the watch.
        let body = StreamBody::new(first.chain(futures::stream::pending())).boxed_unsync();
        Ok(Messages { body: self.send(path, body).await?.into_body(), buffer: BytesMut::new() })
    }

    async fn send(&mut self, path: &str, body: Body) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .version(Version::HTTP_2)
            .method(Method::POST)
            .uri(format!("http://{}{path}", self.address))
            .header(http::header::CONTENT_TYPE, "application/grpc")
            .header(http::header::TE, "trailers")
            .body(body)?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        if let Some(status) = answer.headers().get("grpc-status").filter(|status| *status != "0") {
            bail!("{path}: gRPC status {}", status.to_str().unwrap_or("unreadable"));
        }
        Ok(answer)
    }
}

/// The messages of a stream.
pub(crate) struct Messages {
    body: Incoming,
    buffer: BytesMut,
}

impl Messages {
    /// The next one; `None` at the end of the stream.
    pub(crate) async fn next<A: Message + Default>(&mut self) -> anyhow::Result<Option<A>> {
        loop {
            if let Some(length) = length_of_frame(&self.buffer) {
                let mut bytes = self.buffer.split_to(PREFIX_BYTES + length).freeze();
                bytes.advance(PREFIX_BYTES);
                return Ok(Some(A::decode(bytes)?));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn framed<Q: Message>(message: &Q) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).expect("a request of a benchmark is small"));
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// The length of the message that the buffer begins with, if all of it is there.
fn length_of_frame(buffer: &[u8]) -> Option<usize> {
    let length: [u8; 4] = buffer.get(1..PREFIX_BYTES)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (buffer.len() >= PREFIX_BYTES + length).then_some(length)
}

fn take_frame(bytes: &mut Bytes) -> Option<Bytes> {
    let length = length_of_frame(bytes)?;
    bytes.advance(PREFIX_BYTES);
    Some(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::wire::PutRequest;

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let put = PutRequest { key: "key".into(), value: "value".into() };
        let bytes = framed(&put);
        assert_eq!(length_of_frame(&bytes), Some(put.encoded_len()));
        for end in 0..bytes.len() {
            assert_eq!(length_of_frame(&bytes[..end]), None);
        }
        let mut two = Bytes::from([&bytes[..], &bytes[..]].concat());
        assert_eq!(PutRequest::decode(take_frame(&mut two).unwrap()).unwrap(), put);
        assert_eq!(two, bytes);
    }
}
