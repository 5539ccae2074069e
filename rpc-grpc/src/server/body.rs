//! [`AnswerBody`]: the body of a response, which ends with trailers.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::{
    HeaderMap,
    body::{Body, Frame, SizeHint},
};
use rpc_core::{Code, Codec, Error, Payload, Received, ReplyItems};
use rpc_server::{Http2Task, Unread};
use tokio::sync::mpsc;

use super::{compression::compress, messages::PREFIX, routes::Route, sending::Sending, status};
use crate::transcode::to_protobuf;

/// The body of a response.
pub(super) struct AnswerBody(Content);

enum Content {
    Empty,
    Message { message: Bytes, trailers: Option<HeaderMap>, _unread: Option<Unread> },
    Items(Box<Items>),
    Parts { parts: mpsc::Receiver<Part>, _task: Http2Task },
}

/// A part of a body that a task writes.
pub(super) enum Part {
    Message(Bytes),
    End(HeaderMap),
}

/// The items of a stream.
pub(super) struct Items {
    pub(super) items: Option<ReplyItems>,
    pub(super) route: Arc<Route>,
    pub(super) compresses: bool,
    /// Sends the items of the caller.
    pub(super) sending: Option<Sending>,
    pub(super) trailers: Option<HeaderMap>,
}

impl AnswerBody {
    pub(super) fn empty() -> Self {
        Self(Content::Empty)
    }

    /// Creates the body of an answer, which counts as unread until the body is sent.
    pub(super) fn message(message: Bytes, trailers: HeaderMap, unread: Option<Unread>) -> Self {
        Self(Content::Message { message, trailers: Some(trailers), _unread: unread })
    }

    pub(super) fn items(items: Items) -> Self {
        Self(Content::Items(Box::new(items)))
    }

    /// Creates a body whose parts a task sends. The task ends with the body.
    pub(super) fn parts(parts: mpsc::Receiver<Part>, task: Http2Task) -> Self {
        Self(Content::Parts { parts, _task: task })
    }
}

/// Appends a message with its prefix.
pub(super) fn write_message(
    out: &mut BytesMut,
    compresses: bool,
    write: impl FnOnce(&mut BytesMut) -> Result<(), Error>,
) -> Result<(), Error> {
    let at = out.len();
    out.put_bytes(0, PREFIX);
    write(out)?;
    let compressed = if compresses { compress(&out[at + PREFIX..]) } else { None };
    if let Some(compressed) = compressed {
        out.truncate(at + PREFIX);
        out.put_slice(&compressed);
        out[at] = 1;
    }
    let length = out.len() - at - PREFIX;
    let length = u32::try_from(length).map_err(|_| Error::answered(Code::Internal, "the message has 4 GiB or more"))?;
    out[at + 1..at + PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Appends the message of a result or an item.
pub(super) fn write_payload(route: &Route, payload: &Payload, out: &mut BytesMut) -> Result<(), Error> {
    if route.info.is_one_way() {
        // It has no answer, and the message is empty.
        return Ok(());
    }
    if payload.codec != Codec::MessagePack as u8 {
        return Err(Error::answered(Code::Internal, "the result has another codec than its call"));
    }
    to_protobuf(&route.proto, route.method().response, &payload.bytes, out)
        .map_err(|fault| Error::answered(Code::Internal, format!("the result has no form in protobuf: {fault}")))
}

impl Items {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let mut out = BytesMut::new();
        while out.len() < CHUNK {
            let Some(items) = &mut self.items else { break };
            let failed = self.sending.as_mut().map_or(Poll::Pending, |sending| sending.poll_failed(cx));
            if let Poll::Ready(error) = failed {
                self.end(status::failure(&error));
                break;
            }
            match items.poll_item(cx) {
                Poll::Ready(Received::Item(payload)) => {
                    items.release(payload.bytes.len());
                    let (route, at) = (&self.route, out.len());
                    let written = write_message(&mut out, self.compresses, |out| write_payload(route, &payload, out));
                    if let Err(error) = written {
                        out.truncate(at);
                        self.end(status::failure(&error));
                    }
                }
                Poll::Ready(Received::End(Ok(end))) if end.is_application_error => {
                    let trailers = status::service_error(&self.route, &end, true);
                    self.end(trailers);
                }
                Poll::Ready(Received::End(Ok(end))) => self.end(status::success(&end.metadata)),
                Poll::Ready(Received::End(Err(error))) => self.end(status::failure(&error)),
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if !out.is_empty() {
            return Poll::Ready(Some(Frame::data(out.freeze())));
        }
        Poll::Ready(self.trailers.take().map(Frame::trailers))
    }

    fn end(&mut self, trailers: HeaderMap) {
        self.items = None;
        self.sending = None;
        self.trailers = Some(trailers);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.0 {
            Content::Empty => None,
            Content::Message { message, trailers, .. } if message.is_empty() => trailers.take().map(Frame::trailers),
            // In parts, so that the rest counts as unread while a caller reads slowly.
            Content::Message { message, .. } => Some(Frame::data(message.split_to(message.len().min(CHUNK)))),
            Content::Items(items) => ready!(items.poll_part(cx)),
            Content::Parts { parts, .. } => ready!(parts.poll_recv(cx)).map(|part| match part {
                Part::Message(message) => Frame::data(message),
                Part::End(trailers) => Frame::trailers(trailers),
            }),
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::default();
        match &self.0 {
            Content::Empty => hint.set_exact(0),
            // Not exact: calls of gRPC have no `content-length`.
            Content::Message { message, .. } => hint.set_upper(message.len() as u64),
            Content::Items(_) | Content::Parts { .. } => {}
        }
        hint
    }
}

/// The longest part of a body that is passed on at once, in bytes.
const CHUNK: usize = 64 << 10;
