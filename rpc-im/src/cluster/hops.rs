//! [`Hops`]: the number of nodes that have forwarded a request.

use serde::{Deserialize, Serialize};

/// The number of nodes that have forwarded a request.
///
/// A node that cannot reach the owner of a key does not have it in its view, so it forwards to the next node in the
/// ranking, and that node forwards to the owner. So two nodes that cannot connect to each other communicate through a
/// third one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hops(u8);

impl Hops {
    /// A request that has not been forwarded.
    pub(crate) const NONE: Self = Self(0);

    /// Counts one more hop; `None` above the limit.
    ///
    /// The limit stops nodes with different views from forwarding a request back and forth.
    pub(crate) fn next(self) -> Option<Self> {
        (self.0 < MAX_HOPS).then_some(Self(self.0 + 1))
    }
}

/// One hop to the node that replaces the owner, one from there to the owner.
const MAX_HOPS: u8 = 2;
