//! The sessions of this node, and the queues between a session and its connection.
//!
//! | topic | module |
//! |---|---|
//! | one login of a device, and the requests of its client | `client_session`, `requests`, `sync` |
//! | announcements of new groups and of changes of members | `announcements` |
//! | one side of a pairing room | `pair_session` |
//! | the table of all sessions of this node | `local_sessions` |
//! | the bounded queues of outgoing frames | `outbox`, `queue` |
//! | ending sessions on any node | `terminator` |
//! | resync of all clients of this node | `resync` |

mod announcements;
pub(crate) mod client_session;
pub(crate) mod local_sessions;
pub(crate) mod outbox;
pub(crate) mod pair_session;
pub(crate) mod queue;
mod requests;
pub(crate) mod resync;
mod sync;
pub(crate) mod terminator;
