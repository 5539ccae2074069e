//! The ids of nodes and sessions: [`NodeId`], [`SessionId`].

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rand::RngExt as _;
use serde::{Deserialize, Serialize};

/// The id of one run of a node.
///
/// A node that restarts has another id. So an entry of an earlier run is never taken for an entry of the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// The id of a session, unique on its node.
///
/// Without its lower 22 bits it is the time of the login in milliseconds since 1970. So a later login has a greater id,
/// as far as the nodes' clocks agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Generates the ids of a node's sessions.
#[derive(Debug, Default)]
pub(crate) struct SessionIds(Mutex<u64>);

impl NodeId {
    /// Returns a random id, which no other run of a node has.
    pub(crate) fn random() -> Self {
        Self(rand::rng().random())
    }
}

impl SessionIds {
    /// Returns an id that is greater than all earlier ones.
    pub(crate) fn next(&self) -> SessionId {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let wanted = millis << RANDOM_BITS | rand::rng().random_range(0..1 << RANDOM_BITS);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = wanted.max(*last + 1);
        SessionId(*last)
    }
}

/// The number of random bits in the id of a session.
const RANDOM_BITS: u32 = 22;

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_sessions_grow() {
        let ids = SessionIds::default();
        let all: Vec<_> = (0..10_000).map(|_| ids.next()).collect();
        assert!(all.is_sorted_by(|one, next| one < next));
    }
}
