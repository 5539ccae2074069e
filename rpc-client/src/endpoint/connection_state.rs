//! [`ConnectionState`]: the state of one of the connections to an address.

use std::sync::Arc;

use rpc_core::Error;

use crate::connection::channel::Channel;

/// The state of one of the connections to an address.
#[derive(Debug, Clone)]
pub(crate) enum ConnectionState {
    /// The watchdog connects.
    Connecting,
    /// A connection exists; its channel has a state of its own.
    Connected(Arc<Channel>),
    /// The last connect failed or the connection was lost; the watchdog waits before the next connect.
    Backoff(Arc<Error>),
    /// Too many connects failed; the watchdog has ended.
    Evicted(Arc<Error>),
    /// No service and no caller uses the address any more.
    Retired,
}

impl ConnectionState {
    /// Returns the channel of the connection, if one exists.
    pub(crate) fn channel(&self) -> Option<&Arc<Channel>> {
        match self {
            Self::Connected(channel) => Some(channel),
            Self::Connecting | Self::Backoff(_) | Self::Evicted(_) | Self::Retired => None,
        }
    }

    /// Returns the channel if it is eligible for calls.
    pub(crate) fn eligible_channel(&self) -> Option<&Arc<Channel>> {
        self.channel().filter(|channel| channel.is_eligible())
    }
}
