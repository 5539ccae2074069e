//! [`CallId`]: a request id on the wire.

/// A request id in flight: the index of a slot in the in-flight table, and the slot's generation.
///
/// The generation distinguishes successive calls in one slot. It wraps around after [`GENERATIONS`] calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(u32);

impl CallId {
    /// The id of every short one-way call.
    ///
    /// No table has a slot with this index, so a response to it matches no call.
    pub(crate) const ONE_WAY: Self = Self(1 << INDEX_BITS | INDICES);

    /// The largest number of slots that ids can address; the last index belongs to one-way calls.
    pub(super) const MAX_SLOTS: usize = INDICES as usize;

    /// Returns the id of a long one-way call, of which `number` were sent before.
    ///
    /// Short calls may be sent between its fragments, so it differs from their id.
    pub(crate) fn long_one_way(number: u32) -> Self {
        Self::new(INDICES, 2 + number % (GENERATIONS - 1))
    }

    pub(super) fn new(index: u32, generation: u32) -> Self {
        Self(generation << INDEX_BITS | index)
    }

    pub(crate) fn from_wire(id: u32) -> Self {
        Self(id)
    }

    /// Returns the id as the wire carries it.
    pub(crate) fn as_u32(self) -> u32 {
        self.0
    }

    pub(super) fn index(self) -> usize {
        (self.0 & INDICES) as usize
    }

    pub(super) fn generation(self) -> u32 {
        self.0 >> INDEX_BITS
    }
}

const INDEX_BITS: u32 = 20;
const INDICES: u32 = (1 << INDEX_BITS) - 1;
/// The highest generation, and the mask of one.
pub(super) const GENERATIONS: u32 = (1 << (32 - INDEX_BITS)) - 1;
