//! [`Error`] and [`CallError`]: the failures of a call.

use std::{borrow::Cow, error::Error as StdError, fmt, net::SocketAddr, time::Duration};

use crate::{Code, Metadata, Status, StatusAnswer};

/// The failure of a call or of another operation.
///
/// `Display` describes this level only; [`source`](StdError::source) returns the cause.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    phase: Option<Phase>,
    delivery: Delivery,
    peer: Option<SocketAddr>,
    retry_after: Option<Duration>,
    metadata: Metadata,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The phase of a call in which it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Finding providers in the registry.
    Resolve,
    /// Connecting to a provider.
    Connect,
    /// Waiting for capacity on the connection, encoding the request, writing it to the socket.
    Send,
    /// Waiting for the answer.
    Wait,
    /// Decoding the answer.
    Decode,
}

/// Whether the handler of a failed call may have executed. Retries depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// The handler did not execute.
    ///
    /// No byte of the request reached a socket, or the server rejected the call before it executed the handler. Another
    /// attempt cannot execute the call twice.
    NotExecuted,
    /// The request was sent, or may have been, and the outcome is not known: the handler may have executed.
    Unknown,
    /// The server answered the call with an error. Another attempt would receive the same answer.
    Answered,
}

impl Error {
    /// Creates the error of a call whose handler did not execute ([`Delivery::NotExecuted`]).
    ///
    /// Also creates the error of an operation that is not a call, such as binding a server.
    pub fn not_executed(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Delivery::NotExecuted, code, message.into())
    }

    /// Creates the error of a call whose handler may have executed ([`Delivery::Unknown`]).
    pub fn unknown(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Delivery::Unknown, code, message.into())
    }

    /// Creates the error of a call that the server has answered ([`Delivery::Answered`]).
    pub fn answered(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Delivery::Answered, code, message.into())
    }

    /// Creates the error of a call that was answered with a status ([`Delivery::Answered`]), with [`Phase::Wait`].
    ///
    /// For a call that was not sent, use [`not_executed`](Self::not_executed).
    pub fn from_status(status: Status) -> Self {
        Self::from_answer(StatusAnswer::handled(status))
    }

    /// Creates the error that a RESPONSE reports, with [`Phase::Wait`].
    ///
    /// The delivery is [`Delivery::NotExecuted`] if the answer states this, and [`Delivery::Answered`] otherwise.
    #[doc(hidden)]
    pub fn from_answer(answer: StatusAnswer) -> Self {
        let StatusAnswer { status, not_executed } = answer;
        let delivery = if not_executed { Delivery::NotExecuted } else { Delivery::Answered };
        let mut error = Self::new(delivery, status.code(), status.message().to_owned().into()).with_phase(Phase::Wait);
        error.0.retry_after = status.retry_after();
        error
    }

    pub(crate) fn new(delivery: Delivery, code: Code, message: Cow<'static, str>) -> Self {
        let (phase, peer, retry_after, metadata, source) = (None, None, None, Metadata::default(), None);
        Self(Box::new(Inner { code, message, phase, delivery, peer, retry_after, metadata, source }))
    }

    /// Adds the route of the method to the message.
    pub(crate) fn of_route(mut self, route: &str) -> Self {
        self.0.message = format!("{route}: {}", self.0.message).into();
        self
    }

    /// Adds a detail to the message.
    pub(crate) fn with_detail(mut self, detail: &str) -> Self {
        self.0.message = format!("{}; {detail}", self.0.message).into();
        self
    }

    /// Sets the phase in which the call failed.
    #[must_use]
    pub fn with_phase(mut self, phase: Phase) -> Self {
        self.0.phase = Some(phase);
        self
    }

    /// Replaces the delivery, for example because an earlier attempt may have executed.
    #[must_use]
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.0.delivery = delivery;
        self
    }

    /// Sets the address of the peer.
    #[must_use]
    pub fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.0.peer = Some(peer);
        self
    }

    /// Sets how long to wait before a retry.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// Sets the metadata of the answer.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the message, without code, peer and cause.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the phase in which the call failed; `None` if the operation was not a call.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// Returns whether the handler may have executed.
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// Returns the address of the peer; `None` if the operation failed before a peer was chosen.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// Returns how long the caller should wait before a retry, if the peer sent it.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the metadata that the server sent with the status.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Returns whether the call failed because its deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.0.code == Code::DeadlineExceeded
    }

    /// Returns whether a retry is safe for any method and may succeed.
    ///
    /// This is so if the handler did not execute and the cause is temporary. Returns `false` for an
    /// [`Unknown`](Delivery::Unknown) delivery: only the caller can decide whether the handler may execute twice.
    pub fn is_retryable(&self) -> bool {
        let is_temporary = match self.0.code {
            Code::Unavailable => true,
            // With a retry-after, other calls have used up the limit. Without, this call exceeds it by itself.
            Code::ResourceExhausted => self.0.retry_after.is_some(),
            _ => false,
        };
        is_temporary && self.0.delivery == Delivery::NotExecuted
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.code)?;
        if let Some(peer) = self.0.peer {
            write!(f, " from {peer}")?;
        }
        if !self.0.message.is_empty() {
            write!(f, ": {}", self.0.message)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, message, phase, delivery, peer, retry_after, metadata, source } = &*self.0;
        f.debug_struct("Error")
            .field("code", code)
            .field("message", message)
            .field("phase", phase)
            .field("delivery", delivery)
            .field("peer", peer)
            .field("retry_after", retry_after)
            .field("metadata", metadata)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Converts the error of a call that a handler makes into the status of its own answer.
///
/// Keeps code, message and retry-after. The peer and the delivery are those of the other call.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let status = Self::new(error.0.code, error.0.message);
        match error.0.retry_after {
            Some(wait) => status.with_retry_after(wait),
            None => status,
        }
    }
}

/// The failure of a call to a method that returns `Result<T, E>` or `Result<T, HandlerError<E>>`.
#[derive(Debug)]
pub enum CallError<E> {
    /// The service's own error, which the handler returned.
    Service(E),
    /// The framework's error. [`Error::delivery`] states whether the handler may have executed.
    Rpc(Error),
}

impl<E> CallError<E> {
    /// Returns the framework's error, if this is one.
    pub fn rpc(&self) -> Option<&Error> {
        match self {
            Self::Service(_) => None,
            Self::Rpc(error) => Some(error),
        }
    }
}

impl<E> From<Error> for CallError<E> {
    fn from(error: Error) -> Self {
        Self::Rpc(error)
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(error) => error.fmt(f),
            Self::Rpc(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Service(error) => error.source(),
            Self::Rpc(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_before_the_handler_is_retryable() {
        let wait = Some(Duration::from_millis(5));
        let rejected = |code, after: Option<Duration>| {
            let status = after.into_iter().fold(Status::new(code, ""), Status::with_retry_after);
            Error::from_answer(StatusAnswer::rejection(status))
        };
        assert!(rejected(Code::Unavailable, None).is_retryable());
        assert!(rejected(Code::ResourceExhausted, wait).is_retryable());
        assert!(!rejected(Code::ResourceExhausted, None).is_retryable());
        assert!(!rejected(Code::Internal, wait).is_retryable());
    }

    #[test]
    fn status_of_a_handler_is_an_answer() {
        for code in [Code::Unavailable, Code::Unimplemented, Code::Unauthenticated, Code::ResourceExhausted] {
            let error = Error::from_status(Status::new(code, "").with_retry_after(Duration::ZERO));
            assert_eq!((error.delivery(), error.is_retryable()), (Delivery::Answered, false), "{code}");
        }
    }

    #[test]
    fn display_omits_the_source() {
        let error = Error::not_executed(Code::Unavailable, "connect failed")
            .with_peer(([127, 0, 0, 1], 7788).into())
            .with_source(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "Unavailable from 127.0.0.1:7788: connect failed");
        assert_eq!(error.source().unwrap().to_string(), "refused");
    }
}
