//! The ids of nodes and sessions: [`NodeId`], [`Epoch`], [`NodeKey`], [`SessionId`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// The id of a node, 0 to 1023, unique among the nodes that are alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(u16);

/// One run of a node's process; a restarted node has a greater epoch.
///
/// The number is the milliseconds since 1970 at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// The identity of a running node: its id and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey {
    /// The node's id.
    pub id: NodeId,
    /// The node's epoch.
    pub epoch: Epoch,
}

/// The id of a session, unique in the cluster.
///
/// A later login has a greater id, as far as the nodes' clocks agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl NodeId {
    /// The greatest id.
    pub const MAX: u16 = 1023;

    /// Creates an id; `None` above [`MAX`](Self::MAX).
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// Returns the next id, 0 after the greatest one.
    pub(crate) const fn next(self) -> Self {
        Self((self.0 + 1) % (Self::MAX + 1))
    }

    /// Returns the id as a number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.epoch.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
