//! [`ChangeNotifier`]: notifications about one endpoint; [`Subscribers`]: notifications about any change of a client.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, futures::Notified, watch};

/// The programs that observe a client.
///
/// They use a `watch`, which wakes in random order; that suffices because they only read state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subscribers(watch::Sender<()>);

impl Subscribers {
    /// Reports a change of an endpoint or of a provider list.
    pub(crate) fn notify(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// Notifies about the changes of one endpoint.
///
/// It does not wake the calls that wait for a service: the follower of the service decides whether a change concerns
/// them. The cost of a change therefore does not grow with the number of waiting calls, nor with that of services.
#[derive(Debug)]
pub(crate) struct ChangeNotifier {
    /// Calls that name the address. A `Notify` wakes them in order: the longest waiting one proceeds first.
    calls: Notify,
    /// The followers of the services that list the endpoint.
    followers: Mutex<Vec<Arc<Notify>>>,
    subscribers: Subscribers,
}

impl ChangeNotifier {
    pub(crate) fn new(subscribers: Subscribers) -> Self {
        Self { calls: Notify::new(), followers: Mutex::default(), subscribers }
    }

    /// Reports a change.
    pub(crate) fn notify(&self) {
        self.calls.notify_waiters();
        // The permit of a follower that is not waiting remains, so it misses no change.
        self.followers().iter().for_each(|follower| follower.notify_one());
        self.subscribers.notify();
    }

    /// Returns a future that resolves with the first change after this call.
    ///
    /// It also counts changes before the first poll: a task that calls this, checks its condition and then awaits the
    /// future misses none.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.calls.notified()
    }

    /// Notifies a follower of further changes.
    pub(crate) fn add_follower(&self, follower: &Arc<Notify>) {
        self.followers().push(Arc::clone(follower));
    }

    /// Ends one earlier [`add_follower`](Self::add_follower).
    pub(crate) fn remove_follower(&self, follower: &Arc<Notify>) {
        let mut followers = self.followers();
        if let Some(index) = followers.iter().position(|known| Arc::ptr_eq(known, follower)) {
            followers.swap_remove(index);
        }
    }

    fn followers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Notify>>> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
