//! [`AnswerBody`]: the body of a response.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use rpc_core::{Code, Error, Received, ReplyItems};
use rpc_server::Unread;
use tokio::time::{Instant, Sleep, sleep};

use super::{activity::Busy, problem::problem_of};

/// The body of a response. It keeps its request in progress until it is sent or dropped.
pub(super) struct AnswerBody {
    content: Content,
    _busy: Option<Busy>,
}

enum Content {
    Bytes(Bytes, #[expect(dead_code, reason = "dropped with the body")] Option<Unread>),
    Items(Items),
}

/// The items of a stream.
struct Items {
    items: Option<ReplyItems>,
    /// The error with which the body ends behind the items that were sent.
    failed: Option<Broken>,
    delays_failure: bool,
    format: ItemFormat,
    /// The time of the next comment that keeps the connection alive.
    keep_alive: Pin<Box<Sleep>>,
}

/// How the items of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemFormat {
    /// A line for each item.
    Lines,
    /// Server-sent events.
    Events,
}

/// The stream of a response has failed after its head was sent.
#[derive(Debug)]
pub(super) struct Broken(Error);

impl ItemFormat {
    /// Returns the format that a request accepts.
    pub(super) fn accepted(accept: &str) -> Self {
        let is_events =
            |part: &str| part.split(';').next().is_some_and(|kind| kind.trim() == Self::Events.media_type());
        if accept.split(',').any(is_events) { Self::Events } else { Self::Lines }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    fn write(self, item: &[u8], out: &mut BytesMut) {
        if self == Self::Events {
            out.put_slice(b"data: ");
        }
        // JSON has no line ends outside of strings, where they are escaped.
        out.put_slice(item);
        out.put_slice(if self == Self::Events { b"\n\n" } else { b"\n" });
    }
}

impl AnswerBody {
    pub(super) fn empty() -> Self {
        Self { content: Content::Bytes(Bytes::new(), None), _busy: None }
    }

    pub(super) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Bytes(bytes.into(), None), _busy: None }
    }

    /// Creates the body of an answer, which counts as unread until the body is sent.
    pub(super) fn answer(bytes: Bytes, unread: Unread) -> Self {
        Self { content: Content::Bytes(bytes, Some(unread)), _busy: None }
    }

    pub(super) fn items(items: ReplyItems, format: ItemFormat) -> Self {
        let keep_alive = Box::pin(sleep(KEEP_ALIVE));
        Self {
            content: Content::Items(Items {
                items: Some(items),
                failed: None,
                delays_failure: true,
                format,
                keep_alive,
            }),
            _busy: None,
        }
    }

    /// Keeps `busy` until the body is sent or dropped.
    pub(super) fn keep(mut self, busy: Busy) -> Self {
        self._busy = Some(busy);
        self
    }
}

impl Items {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let Some(items) = &mut self.items else {
            if self.failed.is_some() && std::mem::take(&mut self.delays_failure) {
                // hyper discards what it has not written when a body fails, and writes while a body is pending.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(self.failed.take().map(Err));
        };
        let mut out = BytesMut::new();
        while out.len() < CHUNK {
            match items.poll_item(cx) {
                Poll::Ready(Received::Item(payload)) => {
                    items.release(payload.bytes.len());
                    self.format.write(&payload.bytes, &mut out);
                }
                Poll::Ready(Received::End(end)) => {
                    self.items = None;
                    match end {
                        Ok(end) if end.is_application_error => {
                            let error = Error::answered(Code::Application, "the stream has ended with an error");
                            self.fail(error, &end.payload.bytes, &mut out);
                        }
                        Ok(_) => {}
                        Err(error) => {
                            let problem = serde_json::to_vec(&problem_of(&error)).unwrap_or_default();
                            self.fail(error, &problem, &mut out);
                        }
                    }
                    let last = (!out.is_empty()).then(|| Ok(out.freeze()));
                    return Poll::Ready(last.or_else(|| self.failed.take().map(Err)));
                }
                Poll::Pending if out.is_empty() && self.format == ItemFormat::Events => {
                    ready!(self.keep_alive.as_mut().poll(cx));
                    self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
                    return Poll::Ready(Some(Ok(Bytes::from_static(b":\n\n"))));
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(out.freeze())))
    }

    /// Ends the stream with an error: as an event, or by an incomplete body, because lines have no form for errors.
    fn fail(&mut self, error: Error, body: &[u8], out: &mut BytesMut) {
        match self.format {
            ItemFormat::Events => {
                out.put_slice(b"event: error\n");
                self.format.write(body, out);
            }
            ItemFormat::Lines => self.failed = Some(Broken(error)),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.content {
            Content::Bytes(bytes, _) if bytes.is_empty() => Poll::Ready(None),
            // In parts, so that the rest counts as unread while a caller reads slowly.
            Content::Bytes(bytes, _) => Poll::Ready(Some(Ok(Frame::data(bytes.split_to(bytes.len().min(CHUNK)))))),
            Content::Items(items) => items.poll_frame(cx).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Bytes(bytes, _) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Content::Items(_) => SizeHint::default(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the stream has failed: {}", self.0)
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The longest part of a body that is passed on at once, in bytes.
const CHUNK: usize = 64 << 10;
/// The time without an item after which a stream of events sends a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_header_selects_the_format() {
        for (accept, expected) in [
            ("", ItemFormat::Lines),
            ("*/*", ItemFormat::Lines),
            ("application/x-ndjson", ItemFormat::Lines),
            ("text/event-stream", ItemFormat::Events),
            ("text/html, text/event-stream;q=0.9", ItemFormat::Events),
        ] {
            assert_eq!(ItemFormat::accepted(accept), expected, "{accept}");
        }
    }
}
