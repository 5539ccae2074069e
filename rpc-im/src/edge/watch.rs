//! [`Watch`]: one coarse sweep over all connections, instead of timers for each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::EdgeConfig;

/// All connections with a time limit.
pub(super) struct Watch {
    start: Instant,
    watched: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    watched: HashMap<u64, Arc<Watched>>,
}

/// What is known of one connection. Milliseconds since the start of the watch.
pub(super) struct Watched {
    opened: u64,
    logged_in: AtomicBool,
    read: AtomicU64,
    /// 0 while nothing is being written.
    writing: AtomicU64,
    overdue: AtomicU8,
    ended: Notify,
}

/// A connection under watch, until dropped.
pub(super) struct UnderWatch {
    watch: Arc<Watch>,
    number: u64,
    watched: Arc<Watched>,
}

/// Why a connection was ended by the sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No token in time.
    Login = 1,
    /// Nothing was read from it.
    Idle = 2,
    /// It did not take what was written.
    Stuck = 3,
}

impl Watch {
    pub(super) fn new() -> Arc<Self> {
        // From 1 ms on, so that 0 is free.
        let start = Instant::now() - Duration::from_millis(1);
        Arc::new(Self { start, watched: Mutex::default() })
    }

    pub(super) fn enter(self: &Arc<Self>) -> UnderWatch {
        let now = self.now();
        let watched = Arc::new(Watched {
            opened: now,
            logged_in: AtomicBool::new(false),
            read: AtomicU64::new(now),
            writing: AtomicU64::new(0),
            overdue: AtomicU8::new(0),
            ended: Notify::new(),
        });
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.watched.insert(number, Arc::clone(&watched));
        UnderWatch { watch: Arc::clone(self), number, watched }
    }

    /// Ends what is overdue, for ever: at most a quarter of the shortest limit too late, and at most a second.
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
        for watched in self.table().watched.values() {
            if let Some(overdue) = watched.overdue_at(config, now)
                && watched.overdue.compare_exchange(0, overdue as u8, Relaxed, Relaxed).is_ok()
            {
                watched.ended.notify_one();
            }
        }
    }

    fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    fn overdue_at(&self, config: &EdgeConfig, now: u64) -> Option<Overdue> {
        let since = |then: u64| now.saturating_sub(then);
        let writing = self.writing.load(Relaxed);
        if writing != 0 && since(writing) >= millis(config.write_stall) {
            Some(Overdue::Stuck)
        } else if !self.logged_in.load(Relaxed) && since(self.opened) >= millis(config.login_time) {
            Some(Overdue::Login)
        } else if since(self.read.load(Relaxed)) >= millis(config.idle) {
            Some(Overdue::Idle)
        } else {
            None
        }
    }
}

impl UnderWatch {
    /// The limit of logging in is over.
    pub(super) fn logged_in(&self) {
        self.watched.logged_in.store(true, Relaxed);
    }

    /// Something was read.
    pub(super) fn has_read(&self) {
        self.watched.read.store(self.watch.now(), Relaxed);
    }

    /// Runs a write under its limit; an error when it is overdue.
    ///
    /// Dropped, the write is too: the caller closes the connection.
    pub(super) async fn writing<T>(&self, write: impl Future<Output = T>) -> Result<T, Overdue> {
        self.watched.writing.store(self.watch.now(), Relaxed);
        let written = tokio::select! {
            biased;
            written = write => Ok(written),
            overdue = self.overdue() => Err(overdue),
        };
        self.watched.writing.store(0, Relaxed);
        written
    }

    /// Waits until the sweep ends this connection.
    ///
    /// Cancel safe: what ended it stays written down.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            match self.ended_as() {
                Some(overdue) => return overdue,
                None => self.watched.ended.notified().await,
            }
        }
    }

    /// What ended it, if it is ended.
    pub(super) fn ended_as(&self) -> Option<Overdue> {
        [Overdue::Login, Overdue::Idle, Overdue::Stuck]
            .into_iter()
            .find(|overdue| *overdue as u8 == self.watched.overdue.load(Relaxed))
    }
}

impl Drop for UnderWatch {
    fn drop(&mut self) {
        self.watch.table().watched.remove(&self.number);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of 10, 150 and 10 seconds, in milliseconds.
    const LOGIN: u64 = 10_000;
    const IDLE: u64 = 150_000;
    const STALL: u64 = 10_000;

    fn overdue(entry: &UnderWatch, now: u64) -> Option<Overdue> {
        entry.watched.overdue_at(&EdgeConfig::default(), now)
    }

    #[test]
    fn each_limit_is_at_its_millisecond() {
        let watch = Watch::new();
        let entry = watch.enter();
        let opened = entry.watched.opened;
        assert_eq!(overdue(&entry, opened + LOGIN - 1), None);
        assert_eq!(overdue(&entry, opened + LOGIN), Some(Overdue::Login));
        entry.logged_in();
        assert_eq!(overdue(&entry, opened + IDLE - 1), None);
        assert_eq!(overdue(&entry, opened + IDLE), Some(Overdue::Idle));
        entry.watched.writing.store(opened + 5, Relaxed);
        assert_eq!(overdue(&entry, opened + 5 + STALL - 1), None);
        assert_eq!(overdue(&entry, opened + 5 + STALL), Some(Overdue::Stuck));
    }

    #[tokio::test]
    async fn an_end_is_told_once_and_stays() {
        let watch = Watch::new();
        let entry = watch.enter();
        let config = EdgeConfig::default();
        watch.sweep_once(&config, entry.watched.opened + LOGIN);
        entry.logged_in();
        watch.sweep_once(&config, entry.watched.opened + IDLE);
        assert_eq!(entry.overdue().await, Overdue::Login);
        assert_eq!(entry.overdue().await, Overdue::Login);
        assert_eq!(entry.writing(std::future::pending::<()>()).await, Err(Overdue::Login));
        drop(entry);
        assert!(watch.table().watched.is_empty());
    }
}
