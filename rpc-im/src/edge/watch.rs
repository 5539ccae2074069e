//! [`Watchdog`]: closes connections at their timeouts.
//!
//! One periodic sweep replaces a timer per connection.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::config::EdgeConfig;

/// The WebSocket connections of an edge and their activity times.
pub(super) struct Watchdog {
    start: Instant,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    next_key: u64,
    activities: HashMap<u64, Arc<Activity>>,
}

/// The activity times of one connection, in milliseconds since [`Watchdog::start`].
struct Activity {
    opened: u64,
    logged_in: AtomicBool,
    last_read: AtomicU64,
    /// The start of the write in progress; 0 if there is none.
    write_started: AtomicU64,
    /// The [`Timeout`] that the sweep has set; 0 if there is none.
    timeout: AtomicU8,
    timed_out: Notify,
}

/// The registration of one connection, which ends on drop.
pub(super) struct WatchGuard {
    watchdog: Arc<Watchdog>,
    key: u64,
    activity: Arc<Activity>,
}

/// The limit that a connection exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timeout {
    /// [`EdgeConfig::login_time`]
    Login = 1,
    /// [`EdgeConfig::idle`]
    Idle = 2,
    /// [`EdgeConfig::write_stall`]
    WriteStall = 3,
}

impl Watchdog {
    pub(super) fn new() -> Arc<Self> {
        // Times start at 1 ms, because 0 means that there is no write.
        let start = Instant::now() - Duration::from_millis(1);
        Arc::new(Self { start, connections: Mutex::default() })
    }

    /// Registers a connection.
    pub(super) fn register(self: &Arc<Self>) -> WatchGuard {
        let now = self.now();
        let activity = Arc::new(Activity {
            opened: now,
            logged_in: AtomicBool::new(false),
            last_read: AtomicU64::new(now),
            write_started: AtomicU64::new(0),
            timeout: AtomicU8::new(0),
            timed_out: Notify::new(),
        });
        let mut connections = self.connections();
        let key = connections.next_key;
        connections.next_key += 1;
        connections.activities.insert(key, Arc::clone(&activity));
        WatchGuard { watchdog: Arc::clone(self), key, activity }
    }

    /// Times out connections forever.
    ///
    /// The delay is at most a quarter of the shortest limit, and at most one second.
    pub(super) async fn sweep(&self, config: &EdgeConfig) {
        let shortest = config.idle.min(config.login_time).min(config.write_stall);
        let pause = (shortest / 4).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep_once(config, self.now());
        }
    }

    fn sweep_once(&self, config: &EdgeConfig, now: u64) {
        for activity in self.connections().activities.values() {
            if let Some(timeout) = activity.timeout_at(config, now)
                && activity.timeout.compare_exchange(0, timeout as u8, Relaxed, Relaxed).is_ok()
            {
                activity.timed_out.notify_one();
            }
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Activity {
    fn timeout_at(&self, config: &EdgeConfig, now: u64) -> Option<Timeout> {
        let since = |then: u64| now.saturating_sub(then);
        let write_started = self.write_started.load(Relaxed);
        if write_started != 0 && since(write_started) >= millis(config.write_stall) {
            Some(Timeout::WriteStall)
        } else if !self.logged_in.load(Relaxed) && since(self.opened) >= millis(config.login_time) {
            Some(Timeout::Login)
        } else if since(self.last_read.load(Relaxed)) >= millis(config.idle) {
            Some(Timeout::Idle)
        } else {
            None
        }
    }
}

impl WatchGuard {
    /// Ends the login limit.
    pub(super) fn logged_in(&self) {
        self.activity.logged_in.store(true, Relaxed);
    }

    /// Restarts the idle limit after a read.
    pub(super) fn has_read(&self) {
        self.activity.last_read.store(self.watchdog.now(), Relaxed);
    }

    /// Runs a write under the write limit; returns an error once the connection has timed out.
    ///
    /// Not cancel-safe: dropping the future drops the write, so the caller must close the connection.
    pub(super) async fn writing<T>(&self, write: impl Future<Output = T>) -> Result<T, Timeout> {
        self.activity.write_started.store(self.watchdog.now(), Relaxed);
        let written = tokio::select! {
            biased;
            written = write => Ok(written),
            timeout = self.timed_out() => Err(timeout),
        };
        self.activity.write_started.store(0, Relaxed);
        written
    }

    /// Waits until the sweep times out this connection.
    ///
    /// Cancel-safe: the timeout stays set.
    pub(super) async fn timed_out(&self) -> Timeout {
        loop {
            match self.timeout() {
                Some(timeout) => return timeout,
                None => self.activity.timed_out.notified().await,
            }
        }
    }

    /// Returns the timeout of this connection, if the sweep has set one.
    pub(super) fn timeout(&self) -> Option<Timeout> {
        [Timeout::Login, Timeout::Idle, Timeout::WriteStall]
            .into_iter()
            .find(|timeout| *timeout as u8 == self.activity.timeout.load(Relaxed))
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.watchdog.connections().activities.remove(&self.key);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default limits (10, 150 and 10 seconds), in milliseconds.
    const LOGIN: u64 = 10_000;
    const IDLE: u64 = 150_000;
    const STALL: u64 = 10_000;

    fn timeout(guard: &WatchGuard, now: u64) -> Option<Timeout> {
        guard.activity.timeout_at(&EdgeConfig::default(), now)
    }

    #[test]
    fn each_limit_expires_at_its_millisecond() {
        let watchdog = Watchdog::new();
        let guard = watchdog.register();
        let opened = guard.activity.opened;
        assert_eq!(timeout(&guard, opened + LOGIN - 1), None);
        assert_eq!(timeout(&guard, opened + LOGIN), Some(Timeout::Login));
        guard.logged_in();
        assert_eq!(timeout(&guard, opened + IDLE - 1), None);
        assert_eq!(timeout(&guard, opened + IDLE), Some(Timeout::Idle));
        guard.activity.write_started.store(opened + 5, Relaxed);
        assert_eq!(timeout(&guard, opened + 5 + STALL - 1), None);
        assert_eq!(timeout(&guard, opened + 5 + STALL), Some(Timeout::WriteStall));
    }

    #[tokio::test]
    async fn first_timeout_is_kept() {
        let watchdog = Watchdog::new();
        let guard = watchdog.register();
        let config = EdgeConfig::default();
        watchdog.sweep_once(&config, guard.activity.opened + LOGIN);
        guard.logged_in();
        watchdog.sweep_once(&config, guard.activity.opened + IDLE);
        assert_eq!(guard.timed_out().await, Timeout::Login);
        assert_eq!(guard.timed_out().await, Timeout::Login);
        assert_eq!(guard.writing(std::future::pending::<()>()).await, Err(Timeout::Login));
        drop(guard);
        assert!(watchdog.connections().activities.is_empty());
    }
}
