//! [`LocalCallerItems`]: the items of a caller in the same process.

use std::task::{self, Poll, ready};

use bytes::Bytes;

use super::{CallerSource, ItemSource};
use crate::{Code, Codec, Error, Metadata, Payload, Received, ReceivedItems, Reply, WriteBuffer};

/// The items of a caller in the same process. The handler takes each directly from its source.
///
/// As over a connection, each item is encoded and decoded.
pub(crate) struct LocalCallerItems {
    source: Box<dyn CallerSource>,
    codec: Codec,
}

impl LocalCallerItems {
    pub(crate) fn new(source: Box<dyn CallerSource>, codec: Codec) -> Self {
        Self { source, codec }
    }
}

impl ReceivedItems for LocalCallerItems {
    fn poll_item(&mut self, cx: &mut task::Context<'_>) -> Poll<Received> {
        if let Some(received) = ready!(poll_payload(&mut *self.source, self.codec, cx)) {
            return Poll::Ready(received);
        }
        let failed = self.source.take_failure().map(Error::from_status);
        Poll::Ready(Received::End(failed.map_or_else(|| Ok(end(self.codec)), Err)))
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
