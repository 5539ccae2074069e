//! [`SendError`]: the reason why a channel did not accept a call.

use rpc_core::{Status, transport::Priority};

/// The reason why a channel did not accept a call.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The channel accepts no calls.
    Closed,
    /// A limit is reached; `Channel::capacity` waits until the channel is below it.
    Full(Limit),
    /// The request is longer than the frame limit.
    TooLong(Status),
}

/// A limit of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The number of calls in flight.
    InFlight,
    /// The number of bytes in the outbox, of frames with this priority.
    Outbox(Priority),
}
