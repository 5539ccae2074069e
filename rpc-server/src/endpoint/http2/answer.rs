//! [`Answer`]: the body of a response, which keeps its request in progress.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::{Activity, Busy, Unsent};

/// The body of a response of an endpoint.
pub type Http2Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The body of a response. It keeps its request in progress until it is sent or dropped.
pub(super) struct Answer {
    body: Http2Body,
    /// The progress of a body that does not wait for its handler.
    unsent: Option<Unsent>,
    _busy: Busy,
}

impl Answer {
    pub(super) fn new(body: Http2Body, activity: &Activity, busy: Busy) -> Self {
        let is_bounded = !body.is_end_stream() && body.size_hint().upper().is_some();
        Self { body, unsent: is_bounded.then(|| activity.unsent()), _busy: busy }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(unsent) = &self.unsent {
            unsent.progress();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
