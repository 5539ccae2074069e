//! [`Changes`]: tells whoever waits that an endpoint or a list of providers is not as it was.

use tokio::sync::{Notify, futures::Notified, watch};

/// Tells whoever waits that an endpoint or a list of providers is not as it was.
///
/// The client's own tasks and callers wait on a `Notify`, which wakes them in the order in which they came: who waited longest
/// for a provider is first. A `watch` wakes in random order, which suits those outside who merely look.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    inside: Notify,
    outside: watch::Sender<()>,
}

impl Changes {
    /// Says that something changed.
    pub(crate) fn tell(&self) {
        self.inside.notify_waiters();
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
