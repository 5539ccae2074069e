//! Who is who in the cluster: [`NodeId`], [`Epoch`], [`NodeKey`], [`SessionId`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of a node, 0 to 1023. No two nodes that live have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(u16);

/// Which life of a node: a node that was started again has a greater one. Milliseconds since 1970 at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u64);

/// One life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeKey {
    /// Which node.
    pub id: NodeId,
    /// Which life of it.
    pub epoch: Epoch,
}

/// One login of one device; unique in the cluster. A later login has a greater one, as far as the nodes' clocks agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl NodeId {
    /// The largest number.
    pub const MAX: u16 = 1023;

    /// A node's number.
    pub const fn new(number: u16) -> Option<Self> {
        if number <= Self::MAX { Some(Self(number)) } else { None }
    }

    /// The one after it; after the largest, 0.
    pub(crate) const fn next(self) -> Self {
        Self((self.0 + 1) % (Self::MAX + 1))
    }

    /// The number.
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
