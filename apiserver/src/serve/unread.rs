//! What a client still sends of a request that was already answered.
//!
//! Who refuses a request by its head drops its body. In HTTP/2 that resets the stream, and a client that is still sending
//! takes the reset for the answer: it would see a broken stream where 401, 403 or 429 was said. So what is dropped unread
//! is read to its end and thrown away, within bounds.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// As much as any request may carry: whoever sends more has not kept to what is documented, and is cut off.
const BYTES_MAX: usize = crate::objects::BODY_BYTES_MAX;

/// A body that is read to its end even when nobody wants it any more.
pub(super) struct Unread<B>
where
    B: Body + Send + Unpin + 'static,
{
    /// Taken when it is dropped.
    body: Option<B>,
    /// How long the rest of it is read then.
    patience: Duration,
}

impl<B> Unread<B>
where
    B: Body + Send + Unpin + 'static,
{
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self { body: Some(body), patience }
    }
}

impl<B> Body for Unread<B>
where
    B: Body + Send + Unpin + 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.get_mut().body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl<B> Drop for Unread<B>
where
    B: Body + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
            && tokio::runtime::Handle::try_current().is_ok()
        {
            let patience = self.patience;
            crate::task::spawn("drains a body", async move {
                // Whether it ended, broke off or took too long: it goes here.
                drop(tokio::time::timeout(patience, drain(body)).await);
            });
        }
    }
}

async fn drain<B: Body + Unpin>(mut body: B) {
    let mut left = BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Buf::remaining);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
