//! [`Explanation`]: how a client handled one call.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::BoxFuture;

/// How a client handled one call: the candidates and the attempts with their times.
///
/// Returned by [`Call::explain`](crate::Call::explain).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Explanation {
    /// The called method, `service:version/method`.
    pub route: String,
    /// The registry's address; empty without a registry.
    pub registry: String,
    /// The name of the rule that applies, or the names of those that may apply to calls of a service; empty without one.
    pub rule: String,
    /// Whether the list of providers comes from the cache on disk because the registry has not answered.
    pub stale: bool,
    /// The known providers when the call ended, with the state of each.
    pub candidates: Vec<Candidate>,
    /// The attempts, in order.
    pub attempts: Vec<Attempt>,
    /// The time from the first poll to the end.
    pub took: Duration,
}

/// A provider that the client could have chosen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Candidate {
    /// The address of the provider.
    pub address: SocketAddr,
    /// The state of its endpoint, and why the client can or cannot choose it.
    pub state: String,
}

/// One attempt of a call. Times count from the call's first poll.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// The address of the provider.
    pub address: SocketAddr,
    /// When the request was appended to the connection's outbox.
    ///
    /// Before, the client waited for the registry, a connection or capacity.
    pub sent: Duration,
    /// When the attempt ended; `None` if another attempt won.
    pub ended: Option<Duration>,
    /// The error with which it ended; `None` if it was answered.
    pub error: Option<String>,
}

/// A call in progress that can report how it was handled.
pub trait Explain {
    /// Returns how the call was handled until now.
    fn explanation(&self) -> Explanation;
}

/// The explanation of a custom caller's reply that is ready at once is empty.
impl<T> Explain for std::future::Ready<T> {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

/// The explanation of a custom caller's boxed future is empty.
impl<T> Explain for BoxFuture<'_, T> {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

impl Candidate {
    /// Creates a candidate.
    pub fn new(address: SocketAddr, state: impl Into<String>) -> Self {
        Self { address, state: state.into() }
    }
}

impl Attempt {
    /// Creates an attempt that was sent and has not ended.
    pub fn new(address: SocketAddr, sent: Duration) -> Self {
        Self { address, sent, ended: None, error: None }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} took {:?}", self.route, self.took)?;
        if !self.rule.is_empty() {
            writeln!(f, "by rule {}", self.rule)?;
        }
        let stale = if self.stale { ", which has not answered: cached list" } else { "" };
        writeln!(f, "providers from {}{stale}:", self.registry)?;
        for Candidate { address, state } in &self.candidates {
            writeln!(f, "  {address}: {state}")?;
        }
        for Attempt { address, sent, ended, error } in &self.attempts {
            write!(f, "sent to {address} after {sent:?}")?;
            match (ended, error) {
                (Some(ended), Some(error)) => writeln!(f, ", failed after {ended:?}: {error}")?,
                (Some(ended), None) => writeln!(f, ", answered after {ended:?}")?,
                (None, _) => writeln!(f, ", abandoned")?,
            }
        }
        Ok(())
    }
}
