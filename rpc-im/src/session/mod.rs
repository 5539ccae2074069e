//! The sessions of this node, and the queues between a session and its connection.

pub(crate) mod client_session;
pub(crate) mod local_sessions;
pub(crate) mod outbox;
pub(crate) mod pair_session;
pub(crate) mod queue;
pub(crate) mod resync;
pub(crate) mod terminator;
