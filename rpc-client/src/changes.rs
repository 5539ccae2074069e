//! [`Changes`]: tells whoever waits that an endpoint is not as it was.

use tokio::sync::{Notify, futures::Notified, watch};

/// Tells whoever waits that an endpoint is not as it was, and programs that a list of providers is not.
///
/// The client's own tasks and callers wait on a `Notify`, which wakes them in the order in which they came: who waited longest
/// for a provider is first. A `watch` wakes in random order, which suits those outside who merely look.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    inside: Notify,
    outside: watch::Sender<()>,
}

impl Changes {
    /// Says that an endpoint changed.
    pub(crate) fn tell(&self) {
        self.inside.notify_waiters();
        self.outside.send_replace(());
    }

    /// Says that the list of a service changed, to programs alone: its callers wait for it at the list. Told of each other's lists,
    /// the followers of many services had work that grew with their square.
    pub(crate) fn tell_outside(&self) {
        self.outside.send_replace(());
    }

    /// Resolves with the first change after this call, not after the first poll: call it, look, and then wait, and nothing is
    /// missed.
    pub(crate) fn next(&self) -> Notified<'_> {
        self.inside.notified()
    }

    /// For programs.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.outside.subscribe()
    }
}
