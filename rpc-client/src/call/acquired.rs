//! [`Acquired`]: a channel for the next attempt of a call.

use std::sync::Arc;

use rpc_core::transport::OutboxTurn;

use crate::connection::channel::Channel;

/// A channel for the next attempt of a call.
pub(super) struct Acquired {
    pub(super) channel: Arc<Channel>,
    /// The turn at the channel's outbox, if the call has waited for it.
    pub(super) turn: Option<OutboxTurn>,
}
