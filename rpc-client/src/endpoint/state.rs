//! [`EndpointState`]: the state of an endpoint, for programs.

use std::{fmt, sync::Arc, time::Duration};

use rpc_core::Error;

use super::{backoff::Backoff, connection_state::ConnectionState};

/// The state of an address: the best of the states of its connections.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EndpointState {
    /// The client connects, or the peer has not answered the first ping yet.
    Connecting,
    /// The peer answers, and the client may pick it for calls.
    Ready {
        /// Calls that wait for an answer of this peer.
        in_flight: usize,
    },
    /// Connected, but its calls fail while those of other providers succeed.
    ///
    /// The client picks it only when it can pick no other provider, or when more than half of the providers of the called
    /// service are ejected.
    Ejected {
        /// Calls that wait for an answer of this peer.
        in_flight: usize,
        /// The time until the client sends it a call again.
        remaining: Duration,
        /// Why it was ejected.
        cause: String,
    },
    /// Connected, but not eligible for calls: the peer is unresponsive, in cooldown, or draining.
    Suspended,
    /// The connection was lost or the connect failed; the client waits before it connects again.
    Backoff(Arc<Error>),
    /// Too many connects failed in a row.
    ///
    /// The client connects again after 30 s if the registry still lists the address, or when its listing changes.
    Evicted(Arc<Error>),
    /// No service lists the address any more, or the client is closed.
    Retired,
}

impl EndpointState {
    /// Returns why the connection was lost or the connect failed.
    pub(crate) fn failure(&self) -> Option<&Error> {
        match self {
            Self::Backoff(error) | Self::Evicted(error) => Some(error),
            Self::Connecting | Self::Ready { .. } | Self::Ejected { .. } | Self::Suspended | Self::Retired => None,
        }
    }

    /// Orders the states; the best state has rank 0.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Ready { .. } => 0,
            Self::Ejected { .. } => 1,
            Self::Connecting => 2,
            Self::Suspended => 3,
            Self::Backoff(_) => 4,
            Self::Evicted(_) => 5,
            Self::Retired => 6,
        }
    }
}

impl From<&ConnectionState> for EndpointState {
    fn from(connection: &ConnectionState) -> Self {
        match connection {
            ConnectionState::Connecting => Self::Connecting,
            ConnectionState::Connected(channel) => match channel.callers() {
                Some(in_flight) => Self::Ready { in_flight },
                None if channel.is_proven() => Self::Suspended,
                None => Self::Connecting,
            },
            ConnectionState::Lost(error) | ConnectionState::Backoff(error) => Self::Backoff(Arc::clone(error)),
            ConnectionState::Evicted(error) => Self::Evicted(Arc::clone(error)),
            ConnectionState::Retired => Self::Retired,
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("connecting"),
            Self::Ready { in_flight } => write!(f, "ready, {in_flight} calls in flight"),
            Self::Ejected { in_flight, remaining, cause } => {
                write!(f, "ejected for another {remaining:?} because {cause}, {in_flight} calls in flight")
            }
            Self::Suspended => f.write_str("connected, suspended (unresponsive, in cooldown, or draining)"),
            Self::Backoff(error) => write!(f, "backing off: {error}"),
            Self::Evicted(error) => write!(f, "evicted after {} failures: {error}", Backoff::MAX_FAILURES),
            Self::Retired => f.write_str("retired"),
        }
    }
}
