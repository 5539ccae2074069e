//! One connection to a provider, from a call's request bytes to its outcome.
//!
//! | topic | module |
//! |---|---|
//! | the callers' view of a connection | `channel`, its states `state`, its health `health` |
//! | the load of a peer, and the latency of its answers | `load`, `latency` |
//! | the calls of a channel, and the queue for a free slot | `calls`, over the plain table `in_flight` |
//! | the streams of a channel | `streams` |
//! | the client's role in the driver | `role`, its pings `heartbeat` |
//! | TLS and the token proof | `credentials` |

mod calls;
pub(crate) mod channel;
pub(crate) mod credentials;
mod health;
mod heartbeat;
pub(crate) mod in_flight;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod latency;
pub(crate) mod load;
pub(crate) mod role;
pub(crate) mod sending;
mod state;
pub(crate) mod streams;
