//! [`Health`]: whether an open channel is eligible for new calls.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use rpc_core::sync::{AtomicBool, AtomicUsize, Mutex};
use tokio::time::Instant;

/// The health of a connection: the probe of an unresponsive peer, the cooldown after RETRY AFTER, and failed calls.
///
/// A caller that picks a channel reads two flags. It takes the lock of the cooldown only while a cooldown is set.
#[derive(Debug)]
pub(super) struct Health {
    /// Whether the driver probed the peer and has read nothing since; callers do not pick the channel.
    unresponsive: AtomicBool,
    /// The driver probes the peer if it has read nothing since this time.
    probe_since: Mutex<Option<Instant>>,
    /// Whether `cooldown_until` is set; stored under its lock.
    in_cooldown: AtomicBool,
    cooldown_until: Mutex<Option<Instant>>,
    /// The number of failed calls since the last answer, and [`PROBED`].
    failures: AtomicUsize,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            unresponsive: AtomicBool::new(false),
            probe_since: Mutex::new(None),
            in_cooldown: AtomicBool::new(false),
            cooldown_until: Mutex::new(None),
            failures: AtomicUsize::new(0),
        }
    }

    /// Returns whether the peer is responsive and not in cooldown.
    pub(super) fn is_eligible(&self) -> bool {
        !self.is_unresponsive() && self.cooldown_until().is_none()
    }

    /// Returns whether the driver probed the peer and has read nothing since.
    pub(super) fn is_unresponsive(&self) -> bool {
        self.unresponsive.load(Ordering::Relaxed)
    }

    /// Requests a probe unless the driver has read something after `since`.
    pub(super) fn request_probe(&self, since: Instant) {
        let mut probe_since = self.probe_since.lock().unwrap_or_else(PoisonError::into_inner);
        // Several callers may request a probe: the latest time is the strictest.
        *probe_since = (*probe_since).max(Some(since));
    }

    /// Takes the request for a probe.
    ///
    /// Returns whether the driver must probe the peer, and then marks it as unresponsive.
    pub(super) fn take_probe(&self, last_read: Instant) -> bool {
        let requested = self.probe_since.lock().unwrap_or_else(PoisonError::into_inner).take();
        let probe = requested.is_some_and(|since| last_read < since);
        if probe {
            self.unresponsive.store(true, Ordering::Release);
        }
        probe
    }

    /// Records that the driver read something. Returns whether the peer was unresponsive until now.
    pub(super) fn mark_responsive(&self) -> bool {
        self.is_unresponsive() && self.unresponsive.swap(false, Ordering::AcqRel)
    }

    /// Counts a failed call. Returns the number of failed calls since the last answer.
    pub(super) fn count_failure(&self) -> usize {
        (self.failures.fetch_add(1, Ordering::Relaxed) & !PROBED) + 1
    }

    /// Records that the peer answered a call.
    ///
    /// Returns whether it is the first answer since [`expect_probe`](Self::expect_probe).
    pub(super) fn record_answer(&self) -> bool {
        // Most answers follow another answer. They only read, so all callers share the cache line.
        self.failures.load(Ordering::Relaxed) != 0 && self.failures.swap(0, Ordering::Relaxed) & PROBED != 0
    }

    /// Requests a report of the next answer, because the provider has returned from an ejection.
    pub(super) fn expect_probe(&self) {
        self.failures.fetch_or(PROBED, Ordering::Relaxed);
    }

    /// Returns the number of failed calls since the last answer.
    pub(super) fn failures(&self) -> usize {
        self.failures.load(Ordering::Relaxed) & !PROBED
    }

    /// Starts a cooldown of `time`, at most [`MAX_COOLDOWN`].
    ///
    /// Returns whether the peer was in none until now.
    pub(super) fn start_cooldown(&self, time: Duration) -> bool {
        let until = Instant::now() + time.min(MAX_COOLDOWN);
        let mut cooldown = self.cooldown_until.lock().unwrap_or_else(PoisonError::into_inner);
        *cooldown = Some(until);
        !self.in_cooldown.swap(true, Ordering::AcqRel)
    }

    /// Returns when the cooldown ends, if the peer is in one.
    #[inline]
    pub(super) fn cooldown_until(&self) -> Option<Instant> {
        // A pick calls this for each provider that it considers, and a cooldown is rare.
        if self.in_cooldown.load(Ordering::Acquire) { self.current_cooldown() } else { None }
    }

    #[cold]
    fn current_cooldown(&self) -> Option<Instant> {
        let mut cooldown = self.cooldown_until.lock().unwrap_or_else(PoisonError::into_inner);
        *cooldown = cooldown.filter(|until| Instant::now() < *until);
        if cooldown.is_none() {
            self.in_cooldown.store(false, Ordering::Release);
        }
        *cooldown
    }
}

/// The bit that requests a report of the next answer.
const PROBED: usize = 1 << (usize::BITS - 1);
/// The longest cooldown that a peer can request.
const MAX_COOLDOWN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn cooldown_ends_and_has_a_limit() {
        let health = Health::new();
        assert!(health.is_eligible());
        assert!(health.start_cooldown(MAX_COOLDOWN + Duration::from_secs(1)));
        assert!(!health.start_cooldown(2 * MAX_COOLDOWN), "the peer is in cooldown already");
        assert_eq!(health.cooldown_until(), Some(Instant::now() + MAX_COOLDOWN));
        assert!(!health.is_eligible());
        tokio::time::advance(MAX_COOLDOWN).await;
        assert!(health.is_eligible() && health.cooldown_until().is_none());
    }

    #[test]
    fn expected_answer_is_reported_once() {
        let health = Health::new();
        assert!(!health.record_answer());
        health.expect_probe();
        assert_eq!((health.count_failure(), health.failures()), (1, 1));
        assert!(health.record_answer() && !health.record_answer());
        assert_eq!((health.count_failure(), health.count_failure()), (1, 2));
    }

    #[test]
    fn probe_depends_on_the_latest_request() {
        let (health, start) = (Health::new(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!health.take_probe(start), "no caller requested a probe");
        health.request_probe(after(1));
        assert!(!health.take_probe(after(1)) && health.is_eligible(), "the driver has read in time");
        health.request_probe(after(3));
        health.request_probe(after(2));
        assert!(health.take_probe(after(2)) && !health.is_eligible());
        assert!(health.mark_responsive() && health.is_eligible());
        assert!(!health.mark_responsive(), "the peer was responsive");
    }
}
