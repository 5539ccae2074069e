//! [`Code`] and [`Status`]: the outcome of a call on the wire.

use std::{borrow::Cow, fmt};

/// The outcome of a call. The numbers are those of gRPC, with [`Application`](Self::Application) added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller cancelled the call.
    Cancelled = 1,
    /// The peer sent a code that this version does not support.
    Unknown = 2,
    /// The request is invalid; a retry cannot succeed.
    InvalidArgument = 3,
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// An entity that the call names does not exist.
    NotFound = 5,
    /// An entity that the call would create exists.
    AlreadyExists = 6,
    /// The caller is authenticated and not permitted to make this call.
    PermissionDenied = 7,
    /// A limit was reached, such as a size or a number of calls.
    ResourceExhausted = 8,
    /// The system is not in the state that the call requires.
    FailedPrecondition = 9,
    /// The call lost a conflict with another call.
    Aborted = 10,
    /// The call names a position past the end.
    OutOfRange = 11,
    /// The callee does not support the service, method, codec, compression or feature.
    Unimplemented = 12,
    /// The callee failed.
    Internal = 13,
    /// No provider was reachable, or the connection was lost.
    Unavailable = 14,
    /// Data was lost or corrupted.
    DataLoss = 15,
    /// The caller has not proved its identity.
    Unauthenticated = 16,
    /// The service returned its own error, which is the payload.
    Application = 32,
}

impl Code {
    /// Returns the code with this number on the wire; [`Unknown`](Self::Unknown) if there is none.
    pub fn from_u8(number: u8) -> Self {
        Self::ALL.into_iter().find(|code| *code as u8 == number).unwrap_or(Self::Unknown)
    }

    const ALL: [Self; 18] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
        Self::Application,
    ];
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A [`Code`] with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
}

impl Status {
    /// The longest message on the wire, in bytes. Longer messages are truncated.
    pub const MAX_MESSAGE: usize = 4096;

    /// The status of a successful call.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed("") };

    /// Creates a status.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the message, which may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the message, truncated to [`MAX_MESSAGE`](Self::MAX_MESSAGE) at a character boundary.
    pub(crate) fn wire_message(&self) -> &str {
        &self.message[..self.message.floor_char_boundary(Self::MAX_MESSAGE)]
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips_by_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_u8(code as u8), code);
        }
        assert_eq!(Code::from_u8(200), Code::Unknown);
    }

    #[test]
    fn long_message_is_truncated_between_characters() {
        let status = Status::new(Code::Internal, "é".repeat(Status::MAX_MESSAGE));
        assert!(status.wire_message().len() <= Status::MAX_MESSAGE);
    }
}
