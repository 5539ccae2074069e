//! [`Watch`]: the registry's list of one service, across the ends of its senders.

use std::{sync::Arc, time::Duration};

use rpc_core::{Addresses, Discovery, Instance, ServiceId};
use tokio::time::Instant;

/// The registry's list of one service.
///
/// A registry drops its sender when the runtime of its tasks ends. This watches again after a pause, and keeps the last
/// list meanwhile.
pub(super) struct Watch {
    discovery: Arc<dyn Discovery>,
    service: ServiceId,
    addresses: Addresses,
    /// The last list of the present or an earlier sender.
    last: Option<Arc<[Instance]>>,
    /// When to watch again, if the sender was dropped.
    again_at: Option<Instant>,
    /// The next pause.
    pause: Duration,
}

impl Watch {
    pub(super) fn new(discovery: Arc<dyn Discovery>, service: ServiceId) -> Self {
        let addresses = discovery.watch(&service);
        Self { discovery, service, addresses, last: None, again_at: None, pause: FIRST_PAUSE }
    }

    /// Returns the latest list, after it has watched again if that is due.
    pub(super) fn list(&mut self, now: Instant) -> Option<Arc<[Instance]>> {
        if self.again_at.is_some_and(|at| at <= now) {
            self.addresses = self.discovery.watch(&self.service);
            self.again_at = None;
        }
        if let Some(list) = &*self.addresses.borrow_and_update() {
            self.last = Some(Arc::clone(list));
        }
        self.last.clone()
    }

    /// Returns when to call [`list`](Self::list) to watch again, if the sender was dropped.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Waits until the list changes or the sender is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: a change that it did not report is in the next list.
    pub(super) async fn changed(&mut self) {
        if self.again_at.is_some() {
            return std::future::pending().await;
        }
        if self.addresses.changed().await.is_ok() {
            self.pause = FIRST_PAUSE;
        } else {
            self.again_at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The pause before a service is watched again whose sender was dropped. It doubles until a sender reports a change.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

    use super::*;

    /// A registry whose senders all end at once.
    #[derive(Default)]
    struct Ending(Mutex<Vec<Instant>>);

    impl Discovery for Ending {
        fn watch(&self, _: &ServiceId) -> Addresses {
            self.0.lock().unwrap().push(Instant::now());
            watch::channel(None).1
        }

        fn url(&self) -> &str {
            "test://ending"
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_between_watches_double() {
        let (discovery, start) = (Arc::new(Ending::default()), Instant::now());
        let mut watch = Watch::new(Arc::clone(&discovery) as _, ServiceId::from_static("any", "1"));
        for _ in 0..7 {
            watch.changed().await;
            tokio::time::sleep_until(watch.again_at().unwrap()).await;
            assert_eq!(watch.list(Instant::now()), None);
        }
        let watched: Vec<_> = discovery.0.lock().unwrap().iter().map(|at| (*at - start).as_secs()).collect();
        assert_eq!(watched, [0, 1, 3, 7, 15, 31, 61, 91]);
    }
}
