//! The outcome of sending a call on a channel: [`SentCall`] or [`SendError`].

use rpc_core::{
    Status,
    transport::{Position, Priority},
};

use super::in_flight::CallId;

/// A call whose request is in the outbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentCall {
    pub(crate) id: CallId,
    /// The position of the request in the output.
    pub(crate) position: Position,
}

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
