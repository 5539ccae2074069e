//! [`Traffic`]: the bytes of many connections.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

/// The bytes of many connections together. Each adds its own now and then, so that they do not get into each other's way.
#[derive(Debug, Default)]
pub struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

/// What one connection has not added yet.
#[derive(Debug)]
pub(super) struct Uncounted {
    pub(super) read: u64,
    pub(super) written: u64,
    since: Instant,
}

impl Traffic {
    /// Bytes that were read and written.
    pub fn bytes(&self) -> (u64, u64) {
        (self.read.load(Relaxed), self.written.load(Relaxed))
    }
}

impl Uncounted {
    pub(super) fn new(now: Instant) -> Self {
        Self { read: 0, written: 0, since: now }
    }

    /// Adds what is due.
    pub(super) fn add_in_time(&mut self, traffic: &Traffic, now: Instant) {
        if now.duration_since(self.since) >= EVERY {
            self.since = now;
            self.add(traffic);
        }
    }

    /// Adds all.
    pub(super) fn add(&mut self, traffic: &Traffic) {
        traffic.read.fetch_add(std::mem::take(&mut self.read), Relaxed);
        traffic.written.fetch_add(std::mem::take(&mut self.written), Relaxed);
    }
}

const EVERY: Duration = Duration::from_millis(100);
