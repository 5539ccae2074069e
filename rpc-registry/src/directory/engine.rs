//! [`Engine`] and [`Session`]: what a server must support.

use std::fmt;

use super::entry::Entry;

/// A server that stores entries.
pub(crate) trait Engine: Send + Sync + 'static {
    /// A session with the server.
    type Session: Session;

    /// Opens a session.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, Failure>> + Send;
}

/// A session with a server. All operations have a time limit.
///
/// Dropping it ends the session: the server removes its providers at once, or after its timeout.
pub(crate) trait Session: Send + Sync + 'static {
    /// Reports the next change of a list.
    type Changes: Changes;

    /// Adds an entry, or replaces the one with the same name. The entry of a provider lives as long as the session.
    fn put(&self, service: &str, entry: &Entry) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Removes the entry with this name, which may not exist.
    fn remove(&self, service: &str, entry: &Entry) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Returns the entries of a service, and the changes from then on.
    fn list(&self, service: &str) -> impl Future<Output = Result<(Vec<Entry>, Self::Changes), Failure>> + Send;

    /// Returns the names of the services that have entries.
    fn services(&self) -> impl Future<Output = Result<Vec<String>, Failure>> + Send;

    /// Resolves when the session has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time.
    fn ended(&self) -> impl Future<Output = Failure> + Send;

    /// Ends the session, and waits until the server has removed its providers.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// The changes of a list.
pub(crate) trait Changes: Send + 'static {
    /// Waits until the list may have changed.
    ///
    /// # Errors
    ///
    /// The session has ended.
    fn changed(self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Why an operation of a server failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
