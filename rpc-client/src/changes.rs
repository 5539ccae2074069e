//! [`ChangeNotifier`]: notifications about endpoints and provider lists.

use tokio::sync::{Notify, futures::Notified, watch};

/// Notifies tasks of the client about endpoints, and subscribers also about provider lists.
///
/// The client's own tasks and callers wait on a `Notify`, which wakes them in order: the caller that has waited longest
/// for a provider proceeds first. Subscribers use a `watch`, which wakes in random order; that suffices because they
/// only read state.
#[derive(Debug, Default)]
pub(crate) struct ChangeNotifier {
    endpoints: Notify,
    subscribers: watch::Sender<()>,
}

impl ChangeNotifier {
    /// Reports a change of an endpoint.
    pub(crate) fn notify(&self) {
        self.endpoints.notify_waiters();
        self.subscribers.send_replace(());
    }

    /// Reports a change of a provider list, to subscribers only.
    ///
    /// Callers wait for the list itself, and followers do not depend on the lists of other services: waking all of them
    /// would cost work that grows with the square of the number of services.
    pub(crate) fn notify_subscribers(&self) {
        self.subscribers.send_replace(());
    }

    /// Returns a future that resolves with the first endpoint change after this call.
    ///
    /// It also counts changes before the first poll: a task that calls this, checks its condition and then awaits the
    /// future misses none.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.endpoints.notified()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.subscribers.subscribe()
    }
}
