//! [`EndpointItems`]: the items that an endpoint sends in a call.

use std::task::{self, Poll, ready};

use bytes::Bytes;
use rpc_core::{Codec, CodecError, ItemSource, Status, WriteBuffer};
use tokio::sync::mpsc;

use super::encoded::Encoded;

/// The encoded items that an endpoint sends in a call, in the codec of the call.
#[derive(Debug)]
pub struct EndpointItems {
    items: mpsc::Receiver<Bytes>,
}

/// Sends the items of a call. Dropping it ends the stream.
#[derive(Debug)]
pub struct EndpointItemSender(mpsc::Sender<Bytes>);

impl EndpointItems {
    /// Creates a stream of which at most `waiting` items wait to be sent.
    ///
    /// # Panics
    ///
    /// Panics if `waiting` is 0.
    pub fn channel(waiting: usize) -> (EndpointItemSender, Self) {
        let (sender, items) = mpsc::channel(waiting);
        (EndpointItemSender(sender), Self { items })
    }
}

impl EndpointItemSender {
    /// Sends an item. Waits for capacity.
    ///
    /// # Errors
    ///
    /// `Cancelled` if the call has ended.
    ///
    /// # Cancel safety
    ///
    /// The item is not sent if the future is dropped before it resolves.
    pub async fn send(&self, item: Bytes) -> Result<(), Status> {
        self.0.send(item).await.map_err(|_| Status::cancelled("the call has ended"))
    }
}

impl ItemSource for EndpointItems {
    fn poll_encode(
        &mut self,
        cx: &mut task::Context<'_>,
        _: Codec,
        out: &mut WriteBuffer,
    ) -> Poll<Option<Result<(), CodecError>>> {
        Poll::Ready(ready!(self.items.poll_recv(cx)).map(|item| {
            Encoded(item).append_to(out);
            Ok(())
        }))
    }
}
