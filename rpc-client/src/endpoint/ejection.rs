//! [`Ejection`]: takes an endpoint out of use whose calls fail although its connection works.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The ejection of an endpoint, and the failures that lead to it.
///
/// A caller that picks a provider reads one flag. It takes the lock only while the endpoint is ejected, and after a
/// failed call.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// Whether `Record::until` is set; stored under the lock.
    active: AtomicBool,
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
    window: Option<Window>,
}

/// The calls of an endpoint since a failure.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    /// The number of calls that the endpoint had received by then.
    calls: u64,
    failures: u64,
}

/// The failed part of the calls in a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FailureShare {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
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
        (record.until, record.last_end, record.window) = (Some(now + duration), Some(now + duration), None);
        self.active.store(true, Ordering::Release);
        duration
    }

    /// Ends the ejection: a new connection may reach a restarted provider.
    pub(crate) fn end(&self) {
        let mut record = self.lock();
        (record.until, record.window) = (None, None);
        self.active.store(false, Ordering::Release);
    }

    /// Counts a failed call. `calls` returns the number of calls that the endpoint has received.
    ///
    /// Returns the failures of the window that ended with this call, if one did.
    pub(crate) fn count_failure(&self, now: Instant, calls: impl Fn() -> u64) -> Option<FailureShare> {
        let mut record = self.lock();
        // This call is one of the counted ones.
        let window =
            record.window.get_or_insert_with(|| Window { began: now, calls: calls().saturating_sub(1), failures: 0 });
        window.failures += 1;
        if now.saturating_duration_since(window.began) < WINDOW {
            return None;
        }
        let share = window.share(calls());
        record.window = None;
        Some(share)
    }

    /// Returns the failures of the present window, in which the endpoint may have received no failed call.
    pub(crate) fn share(&self, calls: u64) -> FailureShare {
        let window = self.lock().window;
        window.map_or(FailureShare { calls: 0, failures: 0 }, |window| window.share(calls))
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn share(&self, calls: u64) -> FailureShare {
        // A new connection counts its calls from 0, so the window may have more failures than calls.
        FailureShare { calls: calls.saturating_sub(self.calls), failures: self.failures }
    }
}

impl FailureShare {
    /// Returns the failed part, from 0 to 1.
    pub(crate) fn ratio(&self) -> f64 {
        if self.failures == 0 { 0.0 } else { (self.failures as f64 / self.calls.max(1) as f64).min(1.0) }
    }
}

/// The duration of the first ejection; the second one in a row takes twice as long, and so on.
const FIRST: Duration = Duration::from_secs(2);
/// The longest ejection, and the time of use after which an endpoint's ejections are forgotten.
const LONGEST: Duration = Duration::from_secs(60);
/// The time over which failures are compared with those of other endpoints.
const WINDOW: Duration = Duration::from_secs(10);

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

    #[test]
    fn window_ends_with_a_failure_after_ten_seconds() {
        let (ejection, start) = (Ejection::default(), Instant::now());
        assert_eq!(ejection.count_failure(start, || 1001), None);
        assert_eq!(ejection.share(1200), FailureShare { calls: 200, failures: 1 });
        let share = ejection.count_failure(start + WINDOW, || 1400).unwrap();
        assert_eq!((share, share.ratio()), (FailureShare { calls: 400, failures: 2 }, 0.005));
        assert_eq!(ejection.share(2000).ratio(), 0.0);
    }
}
