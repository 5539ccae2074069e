//! [`Watch`]: the latest value of a registry or another source, across the ends of its senders.

use std::time::Duration;

use tokio::{sync::watch::Receiver, time::Instant};

/// The latest value of a registry for one service, such as its list of providers.
///
/// A registry drops its sender when the runtime of its tasks ends. This watches again after a pause, and keeps the last
/// value meanwhile.
pub(super) struct Watch<T> {
    open: Box<dyn Fn() -> Receiver<Option<T>> + Send>,
    receiver: Receiver<Option<T>>,
    /// The last value of the present or an earlier sender.
    last: Option<T>,
    /// When to watch again, if the sender was dropped.
    again_at: Option<Instant>,
    /// The next pause.
    pause: Duration,
}

impl<T: Clone> Watch<T> {
    /// Watches the value of the receivers that `open` returns.
    pub(super) fn new(open: impl Fn() -> Receiver<Option<T>> + Send + 'static) -> Self {
        let receiver = open();
        Self { open: Box::new(open), receiver, last: None, again_at: None, pause: FIRST_PAUSE }
    }

    /// Returns the latest value, after it has watched again if that is due.
    pub(super) fn latest(&mut self, now: Instant) -> Option<T> {
        if self.again_at.is_some_and(|at| at <= now) {
            self.receiver = (self.open)();
            self.again_at = None;
        }
        if let Some(value) = &*self.receiver.borrow_and_update() {
            self.last = Some(value.clone());
        }
        self.last.clone()
    }

    /// Returns when to call [`latest`](Self::latest) to watch again, if the sender was dropped.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at
    }

    /// Waits until the value changes or the sender is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the next value contains a change that it did not report.
    pub(super) async fn changed(&mut self) {
        if self.again_at.is_some() {
            return std::future::pending().await;
        }
        if self.receiver.changed().await.is_ok() {
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
    use std::sync::{Arc, Mutex};

    use tokio::sync::watch;

    use super::*;

    /// The senders all end at once.
    #[tokio::test(start_paused = true)]
    async fn pauses_between_watches_double() {
        let (watched, start) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let at = Arc::clone(&watched);
        let mut watch = Watch::<u8>::new(move || {
            at.lock().unwrap().push((Instant::now() - start).as_secs());
            watch::channel(None).1
        });
        for _ in 0..7 {
            watch.changed().await;
            tokio::time::sleep_until(watch.again_at().unwrap()).await;
            assert_eq!(watch.latest(Instant::now()), None);
        }
        assert_eq!(*watched.lock().unwrap(), [0, 1, 3, 7, 15, 31, 61, 91]);
    }
}
