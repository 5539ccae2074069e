//! [`Traffic`]: the byte counters of many connections.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// The byte counters of many connections together.
///
/// Each connection adds its own at intervals, which avoids contention.
#[derive(Debug, Default)]
pub struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

/// The bytes that one connection has not added yet.
#[derive(Debug)]
pub(super) struct Uncounted {
    pub(super) read: u64,
    pub(super) written: u64,
    since: Instant,
}

impl Traffic {
    /// Adds numbers of bytes read and written.
    pub fn add(&self, read: u64, written: u64) {
        self.read.fetch_add(read, Relaxed);
        self.written.fetch_add(written, Relaxed);
    }

    /// Returns the numbers of bytes read and written.
    pub fn bytes(&self) -> (u64, u64) {
        (self.read.load(Relaxed), self.written.load(Relaxed))
    }
}

impl Uncounted {
    pub(super) fn new(now: Instant) -> Self {
        Self { read: 0, written: 0, since: now }
    }

    /// Adds the bytes if the interval has passed.
    pub(super) fn add_if_due(&mut self, traffic: &Traffic, now: Instant) {
        if now.duration_since(self.since) >= INTERVAL {
            self.since = now;
            self.add(traffic);
        }
    }

    /// Adds the bytes.
    pub(super) fn add(&mut self, traffic: &Traffic) {
        traffic.add(std::mem::take(&mut self.read), std::mem::take(&mut self.written));
    }
}

/// The interval between two additions of a connection.
const INTERVAL: Duration = Duration::from_millis(100);
