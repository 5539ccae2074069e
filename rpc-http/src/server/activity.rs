//! [`Activity`]: the state of a connection, for its times.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
    time::Duration,
};

use rpc_core::deadline_after;
use rpc_server::Watch;
use tokio::{sync::Notify, time::Instant};

/// The state of a connection: it waits for a request, receives the head of one, or has requests in progress. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// The number of requests in progress.
    requests: usize,
    idle_since: Instant,
    /// When the first byte of a head arrived.
    head_since: Option<Instant>,
}

/// A request in progress, until its response is sent or dropped.
#[derive(Debug)]
pub(super) struct Busy(Activity);

/// The next time at which a connection exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The head of a request has not arrived by then.
    Head(Instant),
    /// No request has arrived by then.
    Idle(Instant),
    /// Requests are in progress.
    Never,
}

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { requests: 0, idle_since: Instant::now(), head_since: None };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Records that bytes were read.
    pub(super) fn read(&self) {
        let mut state = self.lock();
        if state.requests == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
            drop(state);
            self.0.changed.notify_one();
        }
    }

    /// Records that a head has arrived.
    pub(super) fn begin(&self) -> Busy {
        let mut state = self.lock();
        state.requests += 1;
        state.head_since = None;
        drop(state);
        Busy(self.clone())
    }

    /// Returns the next time at which the connection exceeds a limit.
    pub(super) fn due(&self, head_time: Duration, idle_time: Duration) -> Due {
        let state = self.lock();
        match (state.requests, state.head_since) {
            (0, Some(since)) => Due::Head(deadline_after(since, head_time)),
            (0, None) => Due::Idle(deadline_after(state.idle_since, idle_time)),
            _ => Due::Never,
        }
    }

    /// Waits until the result of [`due`](Self::due) may have changed.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the next call returns for a change in between.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Activity {
    fn handle_read(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() {
            self.read();
        }
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.requests -= 1;
        state.idle_since = Instant::now();
        drop(state);
        self.0.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn times_follow_the_state() {
        let second = Duration::from_secs(1);
        let (activity, start) = (Activity::new(), Instant::now());
        let due = || activity.due(second, 10 * second);
        assert_eq!(due(), Due::Idle(start + 10 * second));
        activity.read();
        tokio::time::advance(second / 2).await;
        activity.read();
        assert_eq!(due(), Due::Head(start + second), "from the first byte");
        let (one, other) = (activity.begin(), activity.begin());
        activity.read();
        assert_eq!(due(), Due::Never);
        drop(one);
        assert_eq!(due(), Due::Never);
        drop(other);
        assert_eq!(due(), Due::Idle(start + second / 2 + 10 * second));
    }
}
