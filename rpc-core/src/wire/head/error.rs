//! [`HeadError`].

use crate::{Status, frame::Violation};

/// Why a head was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadError {
    /// The peer violated the protocol; the connection must close.
    Violation(Violation),
    /// Only this call fails.
    Rejected(Status),
}

impl From<Violation> for HeadError {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<Status> for HeadError {
    fn from(status: Status) -> Self {
        Self::Rejected(status)
    }
}
