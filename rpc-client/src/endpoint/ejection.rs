//! [`Ejection`]: takes an endpoint out of use whose calls fail although its connection works.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The ejection of an endpoint, and the failures that lead to it.
///
/// A caller that picks a provider reads one flag. It takes the lock only while the endpoint is ejected.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// Whether `Record::until` is set; stored under the lock.
    active: AtomicBool,
    /// The number of calls that ever failed.
    failures: AtomicU64,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// When the present ejection ends.
    until: Option<Instant>,
    /// When the last ejection ended or ends.
    last_end: Option<Instant>,
    /// The number of ejections without a long time of use in between.
    times: u32,
}

impl Ejection {
    /// Returns whether the endpoint is ejected now.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire) && self.remaining(Instant::now()).is_some()
    }

    /// Returns the time until the present ejection ends.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        if !self.active.load(Ordering::Acquire) {
            return None;
        }
        let mut record = self.lock();
        record.until = record.until.filter(|until| now < *until);
        if record.until.is_none() {
            self.active.store(false, Ordering::Release);
        }
        record.until.map(|until| until - now)
    }

    /// Ejects the endpoint, for longer than the last time if that was not long ago.
    ///
    /// Returns the duration of the ejection.
    pub(crate) fn begin(&self, now: Instant) -> Duration {
        let mut record = self.lock();
        if record.last_end.is_none_or(|end| now.saturating_duration_since(end) >= LONGEST) {
            record.times = 0;
        }
        record.times = record.times.saturating_add(1);
        let duration = FIRST.saturating_mul(record.times).min(LONGEST);
        (record.until, record.last_end) = (Some(now + duration), Some(now + duration));
        self.active.store(true, Ordering::Release);
        duration
    }

    /// Ends the ejection: a new connection may reach a restarted provider.
    pub(crate) fn end(&self) {
        let mut record = self.lock();
        record.until = None;
        self.active.store(false, Ordering::Release);
    }

    /// Counts a failed call.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of calls that ever failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duration of the first ejection; the second one in a row takes twice as long, and so on.
const FIRST: Duration = Duration::from_secs(2);
/// The longest ejection, and the time of use after which an endpoint's ejections are forgotten.
const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ejections_grow_and_are_forgotten() {
        let ejection = Ejection::default();
        for seconds in [2, 4, 6] {
            assert!(!ejection.is_active());
            assert_eq!(ejection.begin(Instant::now()), Duration::from_secs(seconds));
            tokio::time::advance(Duration::from_secs(seconds) - Duration::from_nanos(1)).await;
            assert!(ejection.is_active());
            tokio::time::advance(Duration::from_nanos(1)).await;
        }
        for _ in 0..40 {
            ejection.begin(Instant::now());
        }
        assert_eq!(ejection.begin(Instant::now()), LONGEST);
        ejection.end();
        assert!(!ejection.is_active(), "a new connection ends the ejection");
        tokio::time::advance(2 * LONGEST).await;
        assert_eq!(ejection.begin(Instant::now()), FIRST);
    }
}
