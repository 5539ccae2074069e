//! [`CalleeStreams`]: the streams of a call at its callee.

use super::ItemSource;
use crate::{BoxFuture, Context, ReceivedItems, Status};

/// The streams of one call at its callee, such as those of a connection.
pub(crate) trait CalleeStreams: Send + Sync {
    /// Takes the items that the caller sends. `None` if the caller sends none, or if they were taken.
    fn take_received(&self) -> Option<Box<dyn ReceivedItems>>;

    /// Accepts the call: the caller then expects items. Returns false if the call has ended.
    fn accept(&self, context: &Context) -> bool;

    /// Sends the items of an accepted call.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, an item that was taken from the source may be lost. The stream must then end with an
    /// error.
    fn send<'a>(&'a self, context: &'a Context, source: &'a mut (dyn ItemSource + 'a)) -> BoxFuture<'a, Sent>;
}

/// How the sending of items ended.
#[derive(Debug)]
pub(crate) enum Sent {
    /// The source has no more items.
    All,
    /// The call has ended.
    Ended,
    /// An item cannot be sent.
    Failed(Status),
}
