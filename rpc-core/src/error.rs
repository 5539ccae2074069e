//! [`Error`] and [`CallError`]: what a caller is told when a call has no answer.

use std::{borrow::Cow, error::Error as StdError, fmt, net::SocketAddr, time::Duration};

use crate::{Code, Status};

/// Why a call, or a step on its way, failed.
///
/// Display tells this level only; the causes are in [`source`](StdError::source).
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    phase: Option<Phase>,
    delivery: Delivery,
    peer: Option<SocketAddr>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// How far a call had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Looking for providers in the registry.
    Resolve,
    /// Connecting to a provider.
    Connect,
    /// Waiting for room on the connection, encoding, handing over to the socket.
    Send,
    /// Waiting for the answer.
    Wait,
    /// Understanding the answer.
    Decode,
}

/// Whether the call may have run: the promise that retries rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Not a byte of the request was handed to a socket, or the server refused it before the handler ran. Safe to send again.
    NotSent,
    /// It was sent, and how it ended is not known.
    Unknown,
    /// The server answered; sending it again gives the same.
    Answered,
}

impl Error {
    /// An error that no request had a part in: [`Delivery::NotSent`], no phase, no peer.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            phase: None,
            delivery: Delivery::NotSent,
            peer: None,
            retry_after: None,
            source: None,
        }))
    }

    /// What a peer's answer says: [`Phase::Wait`] and [`Delivery::Answered`], unless the status says that the handler did not
    /// run, which is [`Delivery::NotSent`].
    ///
    /// A server says so by `Unavailable`, by `Unauthenticated`, and by `ResourceExhausted` together with a time to wait.
    pub fn from_status(status: Status, retry_after: Option<Duration>) -> Self {
        let refused = match status.code() {
            Code::Unavailable | Code::Unauthenticated => true,
            Code::ResourceExhausted => retry_after.is_some(),
            _ => false,
        };
        let mut error = Self::new(status.code(), status.message().to_owned())
            .with_phase(Phase::Wait)
            .with_delivery(if refused { Delivery::NotSent } else { Delivery::Answered });
        error.0.retry_after = retry_after;
        error
    }

    /// Sets how far the call had come.
    #[must_use]
    pub fn with_phase(mut self, phase: Phase) -> Self {
        self.0.phase = Some(phase);
        self
    }

    /// Sets whether the call may have run.
    #[must_use]
    pub fn with_delivery(mut self, delivery: Delivery) -> Self {
        self.0.delivery = delivery;
        self
    }

    /// Sets the address of the other end.
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

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The outcome.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The words for a person.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// How far the call had come, where a call was on its way.
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// Whether the call may have run.
    pub fn delivery(&self) -> Delivery {
        self.0.delivery
    }

    /// The address of the other end, once one was chosen.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// How long the peer asks to be left alone before a retry.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the deadline was what ended the call.
    pub fn is_timeout(&self) -> bool {
        self.0.code == Code::DeadlineExceeded
    }

    /// Whether sending the call again is safe for any method and may help: it did not run, and the reason may pass.
    ///
    /// An [`Unknown`](Delivery::Unknown) delivery is not retryable in this sense; only the caller knows whether the method may
    /// run twice.
    pub fn is_retryable(&self) -> bool {
        let may_pass = match self.0.code {
            Code::Unavailable => true,
            // A bound that other calls have reached, unlike one that this call is over by itself.
            Code::ResourceExhausted => self.0.retry_after.is_some(),
            _ => false,
        };
        may_pass && self.0.delivery == Delivery::NotSent
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
        let Inner { code, message, phase, delivery, peer, retry_after, source } = &*self.0;
        f.debug_struct("Error")
            .field("code", code)
            .field("message", message)
            .field("phase", phase)
            .field("delivery", delivery)
            .field("peer", peer)
            .field("retry_after", retry_after)
            .field("source", source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What a method that returns `Result<T, E>` gives its caller instead of `E`.
#[derive(Debug)]
pub enum CallError<E> {
    /// The service's own error: the handler ran and returned it.
    Service(E),
    /// The framework's: see [`Error::delivery`] for whether the handler may have run.
    Rpc(Error),
}

impl<E> CallError<E> {
    /// The framework's error, if it is one.
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
    fn a_refusal_before_the_handler_may_be_sent_again() {
        let wait = Some(Duration::from_millis(5));
        let retryable = |code, after| Error::from_status(Status::new(code, ""), after).is_retryable();
        assert!(retryable(Code::Unavailable, None));
        assert!(retryable(Code::ResourceExhausted, wait));
        assert!(!retryable(Code::ResourceExhausted, None));
        assert!(!retryable(Code::Internal, wait));
    }

    #[test]
    fn display_tells_one_level_and_the_source_the_next() {
        let error = Error::new(Code::Unavailable, "connect failed")
            .with_peer(([127, 0, 0, 1], 7788).into())
            .with_source(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "Unavailable from 127.0.0.1:7788: connect failed");
        assert_eq!(error.source().unwrap().to_string(), "refused");
    }
}
