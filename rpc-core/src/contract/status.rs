//! [`Code`] and [`Status`]: how a call ended, as it travels on the wire.

use std::{borrow::Cow, fmt};

/// The outcome of a call. The numbers are gRPC's, and one of our own: [`Application`](Self::Application).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// The call was answered.
    Ok = 0,
    /// The caller gave the call up.
    Cancelled = 1,
    /// The peer sent a code that this version does not know.
    Unknown = 2,
    /// The request could not be understood; sending it again cannot help.
    InvalidArgument = 3,
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// Something that the call names does not exist.
    NotFound = 5,
    /// Something that the call would create exists.
    AlreadyExists = 6,
    /// The caller is known and may not do this.
    PermissionDenied = 7,
    /// A bound was reached: a size, a number of calls.
    ResourceExhausted = 8,
    /// The system is not in the state that the call needs.
    FailedPrecondition = 9,
    /// The call lost against another.
    Aborted = 10,
    /// A position past the end.
    OutOfRange = 11,
    /// No such service, method, codec, compression or feature here.
    Unimplemented = 12,
    /// The callee is at fault.
    Internal = 13,
    /// Nobody could be reached, or the connection broke.
    Unavailable = 14,
    /// Data was lost or corrupted.
    DataLoss = 15,
    /// The caller has not proved who it is.
    Unauthenticated = 16,
    /// The service's own error, whose value is the payload.
    Application = 32,
}

impl Code {
    /// The code with this number on the wire; [`Unknown`](Self::Unknown) when there is none.
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

/// A [`Code`] and the words that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
}

impl Status {
    /// The longest message on the wire in bytes; a longer one is cut.
    pub const MAX_MESSAGE: usize = 4096;

    /// The call was answered.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed("") };

    /// A status with words for a person.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    /// The outcome.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The words; may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The words, cut to [`MAX_MESSAGE`](Self::MAX_MESSAGE) at a character's boundary.
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
    fn every_code_is_found_by_its_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_u8(code as u8), code);
        }
        assert_eq!(Code::from_u8(200), Code::Unknown);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let status = Status::new(Code::Internal, "é".repeat(Status::MAX_MESSAGE));
        assert!(status.wire_message().len() <= Status::MAX_MESSAGE);
    }
}
