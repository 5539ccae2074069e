//! [`LocalCallerItems`]: the items of a caller in the same process.

use std::{
    pin::Pin,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{CallerSource, ItemSource};
use crate::{Code, Codec, Error, Metadata, Payload, Received, ReceivedItems, Reply, Status, WriteBuffer};

/// The items of a caller in the same process. The handler takes each directly from its source.
///
/// As over a connection, each item is encoded and decoded.
pub(crate) struct LocalCallerItems {
    items: LocalItems,
    codec: Codec,
}

/// The items that a caller sends to a handler in the same process.
pub(crate) struct LocalItems {
    source: Box<dyn CallerSource>,
    /// Notifies the call that its stream has failed.
    failed: Option<oneshot::Sender<Status>>,
}

/// The failure of the stream that a caller sends to a handler in the same process.
pub(crate) struct LocalFailure(Option<oneshot::Receiver<Status>>);

impl LocalItems {
    pub(crate) fn new(source: Box<dyn CallerSource>) -> (Self, LocalFailure) {
        let (failed, failure) = oneshot::channel();
        (Self { source, failed: Some(failed) }, LocalFailure(Some(failure)))
    }
}

impl LocalFailure {
    /// Returns the failure of no stream.
    pub(crate) fn never() -> Self {
        Self(None)
    }

    /// Waits for the error of a call whose stream has failed.
    pub(crate) fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Error> {
        let Some(failure) = &mut self.0 else { return Poll::Pending };
        match ready!(Pin::new(failure).poll(cx)) {
            Ok(status) => Poll::Ready(Error::unknown(
                status.code(),
                format!("the stream of the caller failed: {}", status.message()),
            )),
            // The items were dropped without a failure.
            Err(_) => {
                self.0 = None;
                Poll::Pending
            }
        }
    }
}

impl LocalCallerItems {
    pub(crate) fn new(items: LocalItems, codec: Codec) -> Self {
        Self { items, codec }
    }
}

impl ReceivedItems for LocalCallerItems {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        let LocalItems { source, failed } = &mut self.items;
        if let Some(received) = ready!(poll_payload(&mut **source, self.codec, cx)) {
            return Poll::Ready(received);
        }
        Poll::Ready(Received::End(match source.take_failure() {
            None => Ok(end(self.codec)),
            // As over a connection, the call fails, and its handler does not receive the reason.
            Some(status) => {
                failed.take().map(|failed| failed.send(status));
                Err(Error::unknown(Code::Cancelled, "the call has ended"))
            }
        }))
    }

    fn release(&mut self, _: usize) {}
}

/// Returns the next item of a source in this process; `None` at its end.
pub(super) fn poll_payload(
    source: &mut (impl ItemSource + ?Sized),
    codec: Codec,
    cx: &mut task::Context<'_>,
) -> Poll<Option<Received>> {
    let mut out = WriteBuffer::new();
    Poll::Ready(match ready!(source.poll_encode(cx, codec, &mut out)) {
        None => None,
        Some(Ok(())) => Some(Received::Item(Payload::plain(codec, out.into_bytes()))),
        Some(Err(error)) => {
            let error = Error::answered(Code::Internal, "an item of the stream does not encode").with_source(error);
            Some(Received::End(Err(error)))
        }
    })
}

fn end(codec: Codec) -> Reply {
    let payload = Payload::plain(codec, Bytes::new());
    Reply { is_application_error: false, metadata: Metadata::default(), payload, peer: None, items: None }
}
