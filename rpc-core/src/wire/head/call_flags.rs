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
    /// Reserved: the caller sends a stream, or expects one.
    const STREAMING: u8 = 4 | 8;
    const KNOWN: u8 = 1 | 2 | Self::STREAMING;

    /// Returns whether all bits of `other` are set.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
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
        if bits & Self::STREAMING != 0 {
            return Err(Status::new(Code::Unimplemented, "streaming calls are not implemented"));
        }
        Ok(Self(bits))
    }
}
