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
    /// A connection that worked was lost, and the watchdog connects again at once.
    ///
    /// Calls wait for the result: a server that closes an idle connection usually accepts the next one.
    Lost(Arc<Error>),
    /// The last connect failed or the connection was lost early; the watchdog waits before the next connect.
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
            Self::Connecting | Self::Lost(_) | Self::Backoff(_) | Self::Evicted(_) | Self::Retired => None,
        }
    }

    /// Returns the channel if it is eligible for calls.
    pub(crate) fn eligible_channel(&self) -> Option<&Arc<Channel>> {
        self.channel().filter(|channel| channel.is_eligible())
    }

    /// Returns whether an event is pending that may make the channel eligible soon.
    ///
    /// The event is a connect, the first pong, or the answer to a probe: an unresponsive peer may only run a slow
    /// handler.
    pub(crate) fn is_pending(&self) -> bool {
        match self {
            Self::Connecting | Self::Lost(_) => true,
            Self::Connected(channel) => channel.is_pending(),
            Self::Backoff(_) | Self::Evicted(_) | Self::Retired => false,
        }
    }
}
