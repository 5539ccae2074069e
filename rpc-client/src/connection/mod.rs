//! One connection.

pub(crate) mod channel;
pub(crate) mod credentials;
pub(crate) mod heartbeat;
pub(crate) mod in_flight;
#[cfg(all(test, shuttle))]
mod interleavings;
pub(crate) mod role;
