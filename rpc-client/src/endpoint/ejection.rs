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
/// A caller that picks a provider reads one flag. The follower of a service that lists the endpoint clears it at the end
/// of the ejection, so a pick takes no lock and reads no clock.
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
    /// When the last ejection began.
    began: Option<Instant>,
    /// When the present ejection ends.
    until: Option<Instant>,
    /// When the last ejection ended or ends.
    last_end: Option<Instant>,
    /// The number of ejections without a long time of use in between.
    times: u32,
}

impl Ejection {
    /// Returns whether the endpoint is ejected.
    pub(crate) fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }

    /// Returns the time until the present ejection ends, and ends it if none is left.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        if !self.is_active() {
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
        (record.began, record.until, record.last_end) = (Some(now), Some(now + duration), Some(now + duration));
        self.active.store(true, Ordering::Release);
        duration
    }

    /// Ends the ejection: a new connection may reach a restarted provider.
    pub(crate) fn end(&self) {
        let mut record = self.lock();
        record.until = None;
        self.active.store(false, Ordering::Release);
    }

    /// Returns whether a call that was sent at `sent_at` was sent before the last ejection began.
    ///
    /// Its failure has the cause of that ejection, and says nothing about the provider since.
    pub(crate) fn is_after(&self, sent_at: Instant) -> bool {
        self.lock().began.is_some_and(|began| sent_at < began)
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
    use std::sync::{Arc, mpsc};

    use super::*;

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let (ejection, mut now) = (Ejection::default(), Instant::now());
        for duration in [2, 4, 6].map(Duration::from_secs) {
            assert!(!ejection.is_active());
            assert_eq!(ejection.begin(now), duration);
            assert_eq!(ejection.remaining(now + duration - Duration::from_nanos(1)), Some(Duration::from_nanos(1)));
            now += duration;
            assert_eq!(ejection.remaining(now), None);
        }
        for _ in 0..40 {
            ejection.begin(now);
        }
        assert_eq!(ejection.begin(now), LONGEST);
        ejection.end();
        assert!(!ejection.is_active(), "a new connection ends the ejection");
        assert_eq!(ejection.begin(now + 2 * LONGEST), FIRST);
    }

    /// A pick reads the flag for each provider that it considers, while another thread has the lock.
    #[test]
    fn pick_of_an_ejected_endpoint_takes_no_lock() {
        let (ejection, (sender, receiver)) = (Arc::new(Ejection::default()), mpsc::sync_channel(1));
        ejection.begin(Instant::now());
        let _locked = ejection.lock();
        let picking = Arc::clone(&ejection);
        let thread = std::thread::spawn(move || sender.send(picking.is_active()));
        assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(true));
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn earlier_calls_are_told_from_later_ones() {
        let (ejection, start) = (Ejection::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!ejection.is_after(start));
        ejection.begin(after(1));
        ejection.end();
        assert_eq!([0, 1, 2].map(|seconds| ejection.is_after(after(seconds))), [true, false, false]);
    }
}
