//! [`Acquired`]: a channel for the next attempt of a call.

use std::sync::Arc;

use rpc_core::transport::OutboxTurn;

use crate::{compatibility::Contracts, connection::channel::Channel};

/// A channel for the next attempt of a call.
pub(super) struct Acquired {
    pub(super) channel: Arc<Channel>,
    /// The turn at the channel's outbox, if the call has waited for it.
    pub(super) turn: Option<OutboxTurn>,
    /// The contracts that the call has waited for to be compared, because those of this channel differ.
    pub(super) compared: Option<Contracts>,
}

impl Acquired {
    /// Creates a channel for which the call has waited for nothing.
    pub(super) fn at_once(channel: Arc<Channel>) -> Self {
        Self { channel, turn: None, compared: None }
    }
}
