//! [`CallFlags`]: the kind of a call.

use crate::{Code, Status};

/// The kind of a call: the bits of the CALL FLAGS tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallFlags(u8);

impl CallFlags {
    /// The callee sends no response.
    pub const ONE_WAY: Self = Self(1);
    /// The handler may execute twice without harm.
    pub const IDEMPOTENT: Self = Self(2);
    /// The caller sends items.
    pub const SENDS_ITEMS: Self = Self(4);
    /// The caller expects items.
    pub const EXPECTS_ITEMS: Self = Self(8);
    const KNOWN: u8 = 1 | 2 | 4 | 8;

    /// Returns whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether the caller sends or expects items.
    pub fn has_streams(self) -> bool {
        self.0 & (Self::SENDS_ITEMS.0 | Self::EXPECTS_ITEMS.0) != 0
    }

    /// Returns the bits of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_wire(bits: u8) -> Result<Self, Status> {
        if bits & !Self::KNOWN != 0 {
            return Err(Status::new(Code::Unimplemented, format!("call flags {bits:#04x} are not supported")));
        }
        Ok(Self(bits))
    }
}
