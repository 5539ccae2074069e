//! [`Code`] and [`Status`]: the outcome of a call on the wire.

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

/// The outcome of a call. The numbers are those of gRPC, with [`Application`](Self::Application) added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Code {
    /// The call succeeded.
    Ok = 0,
    /// The caller cancelled the call.
    Cancelled = 1,
    /// The cause is not known, or the peer sent a code that this version does not support.
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

/// A [`Code`] with a message: the outcome of a call without a result.
///
/// A method that returns `Result<T, Status>` answers with a status of the handler's choice. Its caller receives an
/// [`Error`](crate::Error) with the same code, message and retry-after, and with [`Delivery::Answered`](crate::Delivery::Answered): a
/// client does not send the call again by itself, whatever the code.
///
/// `?` converts the [`Error`](crate::Error) of a call that the handler makes into a status with its code, message and retry-after.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use rpc_core::{Code, Status, rpc_service};
///
/// #[rpc_service(name = "shop.Stock", version = "1.0")]
/// trait Stock {
///     async fn count(&self, item: String) -> Result<u32, Status>;
/// }
///
/// struct Shelf;
///
/// impl Stock for Shelf {
///     async fn count(&self, item: String) -> Result<u32, Status> {
///         match item.as_str() {
///             "teapot" => Ok(3),
///             "cup" => Err(Status::unavailable("stocktaking").with_retry_after(Duration::from_secs(5))),
///             _ => Err(Status::not_found(format!("no item {item}"))),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let stock = StockClient::local(Shelf);
/// assert_eq!(stock.count("teapot".into()).await.unwrap(), 3);
/// let error = stock.count("kettle".into()).await.unwrap_err();
/// assert_eq!((error.code(), error.message()), (Code::NotFound, "no item kettle"));
/// let error = stock.count("cup".into()).await.unwrap_err();
/// assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    code: Code,
    message: Cow<'static, str>,
    retry_after: Option<Duration>,
}

impl Status {
    /// The longest message on the wire, in bytes. Longer messages are truncated.
    pub const MAX_MESSAGE: usize = 4096;

    /// The status of a successful call.
    pub const OK: Self = Self { code: Code::Ok, message: Cow::Borrowed(""), retry_after: None };

    /// Creates a status.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// Sets how long the caller should wait before it sends the call again.
    ///
    /// It is sent in whole milliseconds, rounded up, and at most 49 days.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the message, which may be empty.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how long the caller should wait before it sends the call again, if this was set.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
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

impl StdError for Status {}

/// One constructor for each code that a handler may choose.
impl Status {
    /// Creates a status with [`Code::Cancelled`].
    pub fn cancelled(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Cancelled, message)
    }

    /// Creates a status with [`Code::Unknown`].
    pub fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unknown, message)
    }

    /// Creates a status with [`Code::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Creates a status with [`Code::DeadlineExceeded`].
    pub fn deadline_exceeded(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    /// Creates a status with [`Code::NotFound`].
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Creates a status with [`Code::AlreadyExists`].
    pub fn already_exists(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// Creates a status with [`Code::PermissionDenied`].
    pub fn permission_denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Creates a status with [`Code::ResourceExhausted`].
    pub fn resource_exhausted(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// Creates a status with [`Code::FailedPrecondition`].
    pub fn failed_precondition(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// Creates a status with [`Code::Aborted`].
    pub fn aborted(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Aborted, message)
    }

    /// Creates a status with [`Code::OutOfRange`].
    pub fn out_of_range(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::OutOfRange, message)
    }

    /// Creates a status with [`Code::Unimplemented`].
    pub fn unimplemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// Creates a status with [`Code::Internal`].
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// Creates a status with [`Code::Unavailable`].
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Creates a status with [`Code::DataLoss`].
    pub fn data_loss(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DataLoss, message)
    }

    /// Creates a status with [`Code::Unauthenticated`].
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
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
