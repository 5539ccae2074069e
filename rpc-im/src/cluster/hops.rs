//! [`Hops`]: how many nodes have passed a request on.

use serde::{Deserialize, Serialize};

/// How many nodes have passed a request on. One who does not reach the node that is responsible takes another one for it, which asks
/// that one then: so two nodes that are cut off from each other meet through a third.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hops(u8);

impl Hops {
    /// It begins here.
    pub(crate) const NONE: Self = Self(0);

    /// One more, unless that is too many: nodes that see different nodes shall not send it to and fro.
    pub(crate) fn next(self) -> Option<Self> {
        (self.0 < MAX).then_some(Self(self.0 + 1))
    }
}

/// From the node that is asked first to one that stands in for the responsible one, and from there to that one.
const MAX: u8 = 2;
