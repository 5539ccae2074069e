//! [`Activity`]: the requests in progress on a connection, and the responses that are not sent.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::time::Instant;

/// The requests in progress on a connection, and the responses that are not sent. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requests: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    idle_since: Instant,
    /// When each response that is not sent has made progress.
    unsent: BTreeMap<u64, Instant>,
    last_response: u64,
}

/// A request in progress, until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct Busy(Activity);

/// A response that is not sent, until it is dropped.
#[derive(Debug)]
pub(super) struct Unsent {
    activity: Activity,
    number: u64,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { idle_since: Instant::now(), unsent: BTreeMap::new(), last_response: 0 };
        Self(Arc::new(Shared { requests: AtomicUsize::new(0), state: Mutex::new(state) }))
    }

    /// Records a response.
    pub(super) fn unsent(&self) -> Unsent {
        let mut state = self.lock();
        state.last_response += 1;
        let number = state.last_response;
        state.unsent.insert(number, Instant::now());
        drop(state);
        Unsent { activity: self.clone(), number }
    }

    /// Returns since when a response has made no progress, of all responses the earliest time.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.lock().unsent.values().min().copied()
    }

    pub(super) fn begin(&self) -> Busy {
        self.0.requests.fetch_add(1, SeqCst);
        Busy(self.clone())
    }

    /// Returns when the last request ended; `None` if requests are in progress.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let since = self.lock().idle_since;
        (self.0.requests.load(SeqCst) == 0).then_some(since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let shared = &self.0.0;
        if shared.requests.load(SeqCst) == 1 {
            // Before the count is 0, so that no one reads an earlier time.
            self.0.lock().idle_since = Instant::now();
        }
        shared.requests.fetch_sub(1, SeqCst);
    }
}

impl Unsent {
    /// Records that a part was passed on.
    pub(super) fn progress(&self) {
        self.activity.lock().unsent.insert(self.number, Instant::now());
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.activity.lock().unsent.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connection_is_idle_after_its_last_request() {
        let (activity, start) = (Activity::new(), Instant::now());
        assert_eq!(activity.idle_since(), Some(start));
        let (one, other) = (activity.begin(), activity.begin());
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(one);
        assert_eq!(activity.idle_since(), None);
        drop(other);
        assert_eq!(activity.idle_since(), Some(start + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn earliest_response_without_progress_counts() {
        let (activity, start) = (Activity::new(), Instant::now());
        assert_eq!(activity.stalled_since(), None);
        let (one, other) = (activity.unsent(), activity.unsent());
        tokio::time::advance(Duration::from_secs(1)).await;
        one.progress();
        assert_eq!(activity.stalled_since(), Some(start));
        drop(other);
        assert_eq!(activity.stalled_since(), Some(start + Duration::from_secs(1)));
        drop(one);
        assert_eq!(activity.stalled_since(), None);
    }
}
