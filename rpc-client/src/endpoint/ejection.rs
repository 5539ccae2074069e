//! [`Ejection`]: takes an endpoint out of use whose calls fail although its connection works.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The ejection of an endpoint, and the failures that lead to it.
///
/// | from | event | to |
/// |---|---|---|
/// | in use | [`begin`](Self::begin) | ejected |
/// | ejected | its time passes | on probation: one call at a time |
/// | on probation | [`PROBES`] answers | in use, with a slow start |
/// | on probation | a failure | ejected, for a longer time |
/// | any | a new connection | in use |
///
/// A caller that picks a provider reads one flag. The follower of a service that lists the endpoint ends the ejection, so
/// a pick takes no lock and reads no clock.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    /// A [`Phase`]; stored under the lock.
    phase: AtomicU8,
    /// Whether the next call of an endpoint on probation may be sent.
    permit: AtomicBool,
    /// The number of calls that ever failed.
    failures: AtomicU64,
    record: Mutex<Record>,
}

/// The use of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    InUse,
    Ejected,
    /// Returned from an ejection: one call at a time shows whether the provider works.
    Probation,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EjectionCause {
    /// Calls failed one after another.
    Failures(u32),
    /// Calls had no answer in time, while other providers answered.
    NoAnswer,
    /// A large part of the calls failed.
    FailureRate,
    /// The part of calls that succeeded deviated from that of the other providers.
    SuccessRate,
    /// The answers took much longer than those of the other providers.
    Latency,
    /// A call after an ejection failed.
    Probe,
}

#[derive(Debug, Default)]
struct Record {
    /// When the last ejection began.
    began: Option<Instant>,
    /// When the present ejection ends.
    until: Option<Instant>,
    cause: Option<EjectionCause>,
    /// When the last ejection ended or ends.
    last_end: Option<Instant>,
    /// The number of ejections without a long time of use in between.
    times: u32,
    /// The number of all ejections.
    total: u64,
    /// The answers during the probation.
    answers: u32,
    /// When a probe without an outcome is repeated.
    probe_again_at: Option<Instant>,
    /// When the last probation ended.
    returned: Option<Instant>,
}

impl Ejection {
    /// Returns the use of the endpoint.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::InUse,
            1 => Phase::Ejected,
            _ => Phase::Probation,
        }
    }

    /// Returns whether the endpoint is ejected.
    pub(crate) fn is_active(&self) -> bool {
        self.phase() == Phase::Ejected
    }

    /// Returns whether calls may pick the endpoint.
    pub(crate) fn admits(&self) -> bool {
        match self.phase() {
            Phase::InUse => true,
            Phase::Ejected => false,
            Phase::Probation => self.permit.load(Ordering::Relaxed),
        }
    }

    /// Takes the permit of the next probe, if the endpoint is on probation.
    pub(crate) fn take_permit(&self) {
        if self.phase() == Phase::Probation {
            self.permit.store(false, Ordering::Relaxed);
        }
    }

    /// Returns the cause of the present ejection, and the time until it ends.
    pub(crate) fn remaining(&self, now: Instant) -> Option<(EjectionCause, Duration)> {
        if !self.is_active() {
            return None;
        }
        let record = self.lock();
        let (until, cause) = (record.until?, record.cause?);
        Some((cause, until.saturating_duration_since(now)))
    }

    /// Ends an ejection whose time has passed. Returns whether it did, and the time until the next change.
    pub(crate) fn advance(&self, now: Instant) -> (bool, Option<Duration>) {
        if self.phase() == Phase::InUse {
            return (false, None);
        }
        let mut record = self.lock();
        let ended = record.until.is_some_and(|until| until <= now);
        if ended {
            (record.until, record.answers) = (None, 0);
            self.set(Phase::Probation);
        }
        if ended || record.probe_again_at.is_some_and(|at| at <= now) {
            // A call that its caller abandons has no outcome.
            record.probe_again_at = Some(now + PROBE_INTERVAL);
            self.permit.store(true, Ordering::Relaxed);
        }
        let next = if self.is_active() { record.until } else { record.probe_again_at };
        (ended, next.map(|at| at.saturating_duration_since(now)))
    }

    /// Ejects the endpoint, for longer than the last time if that was not long ago.
    ///
    /// Returns the duration of the ejection.
    pub(crate) fn begin(&self, cause: EjectionCause, now: Instant) -> Duration {
        let mut record = self.lock();
        if record.last_end.is_none_or(|end| now.saturating_duration_since(end) >= LONGEST) {
            record.times = 0;
        }
        (record.times, record.total) = (record.times.saturating_add(1), record.total + 1);
        let duration = FIRST.saturating_mul(record.times).min(LONGEST);
        (record.began, record.until, record.last_end) = (Some(now), Some(now + duration), Some(now + duration));
        (record.cause, record.probe_again_at) = (Some(cause), None);
        self.set(Phase::Ejected);
        duration
    }

    /// Records an answer on probation. Returns whether it ended the probation.
    pub(crate) fn record_answer(&self, now: Instant) -> bool {
        if self.phase() != Phase::Probation {
            return false;
        }
        let mut record = self.lock();
        record.answers += 1;
        if record.answers < PROBES {
            record.probe_again_at = Some(now + PROBE_INTERVAL);
            self.permit.store(true, Ordering::Relaxed);
            return false;
        }
        (record.probe_again_at, record.returned) = (None, Some(now));
        self.set(Phase::InUse);
        true
    }

    /// Ends the ejection: a new connection may reach a restarted provider.
    pub(crate) fn end(&self) {
        let mut record = self.lock();
        (record.until, record.probe_again_at) = (None, None);
        self.set(Phase::InUse);
    }

    /// Returns when the endpoint returned from its last ejection, if it has not been ejected since.
    pub(crate) fn returned(&self) -> Option<Instant> {
        self.lock().returned
    }

    /// Returns the number of ejections.
    pub(crate) fn total(&self) -> u64 {
        self.lock().total
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

    fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for EjectionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(count) => write!(f, "{count} calls in a row failed"),
            Self::NoAnswer => f.write_str("its calls have no answer while others answer"),
            Self::FailureRate => f.write_str("a large part of its calls failed"),
            Self::SuccessRate => f.write_str("fewer of its calls succeed than of the others' calls"),
            Self::Latency => f.write_str("its answers take much longer than the others' answers"),
            Self::Probe => f.write_str("a call after the last ejection failed"),
        }
    }
}

/// The duration of the first ejection; the second one in a row takes twice as long, and so on.
const FIRST: Duration = Duration::from_secs(2);
/// The longest ejection, and the time of use after which an endpoint's ejections are forgotten.
const LONGEST: Duration = Duration::from_secs(60);
/// The answers after an ejection with which the endpoint returns to use.
const PROBES: u32 = 3;
/// The time after which a probe without an outcome is repeated.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    const CAUSE: EjectionCause = EjectionCause::Failures(5);

    fn advance(ejection: &Ejection, now: Instant) -> Option<Duration> {
        ejection.advance(now).1
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let (ejection, mut now) = (Ejection::default(), Instant::now());
        for duration in [2, 4, 6].map(Duration::from_secs) {
            assert!(!ejection.is_active());
            assert_eq!(ejection.begin(CAUSE, now), duration);
            let before = now + duration - Duration::from_nanos(1);
            assert_eq!(advance(&ejection, before), Some(Duration::from_nanos(1)));
            assert_eq!(ejection.remaining(before), Some((CAUSE, Duration::from_nanos(1))));
            now += duration;
            assert!(ejection.advance(now).0 && ejection.remaining(now).is_none());
        }
        for _ in 0..40 {
            ejection.begin(CAUSE, now);
        }
        assert_eq!(ejection.begin(CAUSE, now), LONGEST);
        ejection.end();
        assert_eq!(ejection.phase(), Phase::InUse, "a new connection ends the ejection");
        assert_eq!(ejection.begin(CAUSE, now + 2 * LONGEST), FIRST);
    }

    #[test]
    fn answers_of_probes_end_the_probation() {
        let (ejection, start) = (Ejection::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(ejection.advance(start), (false, None));
        ejection.begin(CAUSE, start);
        assert!(!ejection.admits() && !ejection.record_answer(at(1)), "a late answer");
        assert_eq!(ejection.advance(at(2)), (true, Some(PROBE_INTERVAL)));
        for answer in 0..PROBES {
            assert_eq!(ejection.phase(), Phase::Probation);
            assert!(ejection.admits());
            ejection.take_permit();
            assert!(!ejection.admits(), "one call at a time");
            assert_eq!(ejection.record_answer(at(3)), answer + 1 == PROBES);
        }
        assert_eq!((ejection.phase(), ejection.returned()), (Phase::InUse, Some(at(3))));
        assert_eq!(ejection.advance(at(9)), (false, None));
    }

    #[test]
    fn probe_without_outcome_is_repeated() {
        let (ejection, start) = (Ejection::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        ejection.begin(CAUSE, start);
        advance(&ejection, at(2));
        ejection.take_permit();
        assert_eq!(ejection.advance(at(3)), (false, Some(Duration::from_secs(1))));
        assert!(!ejection.admits());
        assert_eq!(ejection.advance(at(4)), (false, Some(PROBE_INTERVAL)));
        assert!(ejection.admits());
        assert_eq!(ejection.begin(EjectionCause::Probe, at(5)), 2 * FIRST, "the probe failed");
    }

    /// A pick reads the flag for each provider that it considers, while another thread has the lock.
    #[test]
    fn pick_of_an_ejected_endpoint_takes_no_lock() {
        let (ejection, (sender, receiver)) = (Arc::new(Ejection::default()), mpsc::sync_channel(1));
        ejection.begin(CAUSE, Instant::now());
        let _locked = ejection.lock();
        let picking = Arc::clone(&ejection);
        let thread = std::thread::spawn(move || {
            picking.take_permit();
            sender.send(picking.admits())
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(60)), Ok(false));
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn earlier_calls_are_told_from_later_ones() {
        let (ejection, start) = (Ejection::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!ejection.is_after(start));
        ejection.begin(CAUSE, after(1));
        ejection.end();
        assert_eq!([0, 1, 2].map(|seconds| ejection.is_after(after(seconds))), [true, false, false]);
    }
}
