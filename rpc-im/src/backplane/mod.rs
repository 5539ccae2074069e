//! [`Backplane`]: broadcast between nodes.
//!
//! | topic | module |
//! |---|---|
//! | the messages on the wire | `frame` |
//! | the queue of received messages | `inbox` |
//! | broadcast through NATS and RabbitMQ | `nats`, `rabbitmq` |

#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod frame;
#[cfg(any(feature = "nats", feature = "rabbitmq"))]
mod inbox;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;

#[cfg(feature = "nats")]
pub use nats::NatsBackplane;
#[cfg(feature = "rabbitmq")]
pub use rabbitmq::RabbitMqBackplane;

use bytes::Bytes;
use rpc_core::BoxFuture;

/// The maximum size of a message in bytes, with which a frame fits into the default `max_payload` of NATS.
pub const MAX_MESSAGE: usize = 1_000_000;

/// Broadcast between the nodes of a cluster.
///
/// Messages of one node arrive in order. A lost connection is established again in the background.
///
/// An implementation passes the tests in `tests/im_contract/backplane.rs`.
pub trait Backplane: Send + Sync + 'static {
    /// Publishes a message to all nodes except this one.
    ///
    /// Completes immediately: the message is in a bounded queue then. It may be lost or arrive twice; the other nodes
    /// receive [`Received::Gap`] instead of a lost message, at the latest before the next message of this node. A node
    /// also receives a gap before its first message of a node that published earlier ones.
    ///
    /// # Errors
    ///
    /// See [`BackplaneError`]. The message is not published.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it was polled, the message is not published.
    fn publish(&self, message: Bytes) -> BoxFuture<'_, Result<(), BackplaneError>>;

    /// Returns the next message of another node, or a notice that messages may have been lost.
    ///
    /// Between calls the backplane keeps a bounded number of messages; when the queue is full, it drops new ones and
    /// reports a gap.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no message.
    fn next(&self) -> BoxFuture<'_, Received>;
}

/// The outcome of [`Backplane::next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message of another node.
    Message(Bytes),
    /// Messages may have been lost, because of a new connection or a full queue. All later messages follow the notice.
    Gap,
}

/// The reason why [`Backplane::publish`] did not publish a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackplaneError {
    /// The engine is not connected.
    #[error("{0}")]
    Unavailable(String),
    /// Too many messages wait to be sent.
    #[error("too many messages wait to be sent")]
    Overloaded,
    /// The message exceeds the limit.
    #[error("message is {size} bytes, limit is {limit}")]
    TooLarge {
        /// The size of the message in bytes.
        size: usize,
        /// The limit in bytes: [`MAX_MESSAGE`], or that of the engine.
        limit: usize,
    },
}
