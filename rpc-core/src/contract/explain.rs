//! [`Explanation`]: what happened to one call, for a person who wonders.

use std::{fmt, net::SocketAddr, time::Duration};

use crate::BoxFuture;

/// What happened to one call: whom it could have gone to, whom it went to, and when. Get one with
/// [`Call::explain`](crate::Call::explain).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Explanation {
    /// What is called, `service:version/method`.
    pub route: String,
    /// The registry's address; empty where no registry was asked.
    pub registry: String,
    /// Whether the list of providers is an old one from disk, because the registry has not answered.
    pub stale: bool,
    /// The providers known at the end, and how each of them is doing.
    pub candidates: Vec<Candidate>,
    /// Whom the call was sent to, in order.
    pub attempts: Vec<Attempt>,
    /// From the first poll to the end.
    pub took: Duration,
}

/// One provider that a call could have gone to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Candidate {
    /// Where it is.
    pub address: SocketAddr,
    /// Why it can or cannot be called.
    pub state: String,
}

/// One time that a call was sent. Times count from the call's first poll.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attempt {
    /// To whom.
    pub address: SocketAddr,
    /// When the request was handed to the connection: until then, providers were looked for, connected to, or had no room.
    pub sent: Duration,
    /// When it ended; `None` when another attempt won.
    pub ended: Option<Duration>,
    /// How it ended, if not with an answer.
    pub error: Option<String>,
}

/// A call in flight that can tell what has happened to it.
pub trait Explain {
    /// What has happened so far.
    fn explanation(&self) -> Explanation;
}

/// A reply that is there already, from a caller of your own.
impl<T> Explain for std::future::Ready<T> {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

/// Any future that tells nothing, from a caller of your own.
impl<T> Explain for BoxFuture<'_, T> {
    fn explanation(&self) -> Explanation {
        Explanation::default()
    }
}

impl Candidate {
    /// A provider and its state.
    pub fn new(address: SocketAddr, state: impl Into<String>) -> Self {
        Self { address, state: state.into() }
    }
}

impl Attempt {
    /// An attempt that was sent and has not ended.
    pub fn new(address: SocketAddr, sent: Duration) -> Self {
        Self { address, sent, ended: None, error: None }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} took {:?}", self.route, self.took)?;
        let stale = if self.stale { ", which has not answered: the list is an old one" } else { "" };
        writeln!(f, "providers by {}{stale}:", self.registry)?;
        for Candidate { address, state } in &self.candidates {
            writeln!(f, "  {address}: {state}")?;
        }
        for Attempt { address, sent, ended, error } in &self.attempts {
            write!(f, "sent to {address} after {sent:?}")?;
            match (ended, error) {
                (Some(ended), Some(error)) => writeln!(f, ", failed after {ended:?}: {error}")?,
                (Some(ended), None) => writeln!(f, ", answered after {ended:?}")?,
                (None, _) => writeln!(f, ", given up")?,
            }
        }
        Ok(())
    }
}
