//! [`AdaptiveLimit`]: a limit of running handlers that follows their latency.

use std::{
    sync::{
        Mutex, TryLockError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// A limit of running handlers that follows their latency.
///
/// Handlers record their latencies in counters. The first one that ends after a window computes the next limit.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    epoch: Instant,
    limit: AtomicUsize,
    /// The end of the present window, in nanoseconds since the epoch.
    window_ends: AtomicU64,
    /// The handlers that ended in the present window, and the sum of their latencies in nanoseconds.
    ended: AtomicU64,
    latencies: AtomicU64,
    /// The largest number of handlers that ran in the present window.
    running: AtomicUsize,
    gradient: Mutex<Gradient>,
}

impl AdaptiveLimit {
    pub(super) fn new(max: usize, now: Instant) -> Self {
        let gradient = Gradient::new(max);
        Self {
            epoch: now,
            limit: AtomicUsize::new(gradient.limit()),
            window_ends: AtomicU64::new(nanos(WINDOW)),
            ended: AtomicU64::new(0),
            latencies: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            gradient: Mutex::new(gradient),
        }
    }

    /// Returns the present limit.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Records a handler that started at `started` and ends at `now`, while `running` handlers run. Returns whether the
    /// window has ended.
    pub(super) fn record(&self, started: Instant, running: usize, now: Instant) -> bool {
        let ended = self.ended.fetch_add(1, Relaxed) + 1;
        self.latencies.fetch_add(nanos(now.saturating_duration_since(started)), Relaxed);
        self.running.fetch_max(running, Relaxed);
        let at = nanos(now.saturating_duration_since(self.epoch));
        if at < self.window_ends.load(Relaxed) || ended < MIN_ENDED {
            return false;
        }
        let mut gradient = match self.gradient.try_lock() {
            Ok(gradient) => gradient,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another handler has ended the window.
            Err(TryLockError::WouldBlock) => return false,
        };
        self.window_ends.store(at + nanos(WINDOW), Relaxed);
        let (ended, sum) = (self.ended.swap(0, Relaxed), self.latencies.swap(0, Relaxed));
        let limit = gradient.update(sum as f64 / ended.max(1) as f64, self.running.swap(0, Relaxed));
        self.limit.store(limit, Relaxed);
        true
    }
}

/// The state of the gradient algorithm: a pure state machine, which receives the average latency of each window.
///
/// As in Netflix' concurrency-limits, and with the minimum latency of Envoy's adaptive concurrency filter. The gradient is
/// the ratio of the latency without load to the present one. While it is 1, the limit grows by its square root; a lower one
/// reduces the limit in proportion. The latency without load is measured at the lowest limit, and again after
/// [`MEASURED_AGAIN`] windows: a service may have become slower for another reason than its load.
#[derive(Debug)]
struct Gradient {
    max: f64,
    limit: f64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Measures the latency without load, after `skipped` windows that have handlers of the earlier limit.
    Measuring { skipped: u32, earlier: f64 },
    /// Follows the latency.
    Following { unloaded: f64, windows: u32 },
}

impl Gradient {
    fn new(max: usize) -> Self {
        let max = (max as f64).max(1.0);
        let state = State::Measuring { skipped: 0, earlier: FIRST_LIMIT.min(max) };
        Self { max, limit: MIN_LIMIT.min(max), state }
    }

    fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Applies a window with this average latency in nanoseconds, in which at most `running` handlers ran. Returns the next
    /// limit.
    fn update(&mut self, average: f64, running: usize) -> usize {
        let average = average.max(1.0);
        match &mut self.state {
            State::Measuring { skipped, .. } if *skipped > 0 => *skipped -= 1,
            State::Measuring { earlier, .. } => {
                self.limit = *earlier;
                self.state = State::Following { unloaded: average, windows: 0 };
            }
            State::Following { unloaded, windows } => {
                // Few running handlers show nothing about a higher limit.
                let is_loaded = running as f64 * 2.0 >= self.limit;
                *unloaded = unloaded.min(average);
                *windows += 1;
                let gradient = (*unloaded * TOLERANCE / average).clamp(MIN_GRADIENT, 1.0);
                if is_loaded && *windows >= MEASURED_AGAIN {
                    self.state = State::Measuring { skipped: SKIPPED, earlier: self.limit };
                    self.limit = MIN_LIMIT.min(self.max);
                } else if is_loaded || gradient < 1.0 {
                    let next = self.limit * gradient + self.limit.sqrt();
                    let next = self.limit + (next - self.limit) * SMOOTHING;
                    self.limit = next.clamp(MIN_LIMIT.min(self.max), self.max);
                }
            }
        }
        self.limit()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The time over which latencies are averaged, at least.
const WINDOW: Duration = Duration::from_millis(100);
/// The handlers that must end in a window.
const MIN_ENDED: u64 = 10;
/// The lowest limit, with which the latency without load is measured.
const MIN_LIMIT: f64 = 4.0;
/// The limit after the first measurement.
const FIRST_LIMIT: f64 = 20.0;
/// How many times the latency without load is not regarded as caused by load.
const TOLERANCE: f64 = 1.5;
/// The largest reduction of the limit before it is smoothed.
const MIN_GRADIENT: f64 = 0.5;
/// The part of the difference to the computed limit by which the limit changes in a window.
const SMOOTHING: f64 = 0.2;
/// The windows under load after which the latency without load is measured again.
const MEASURED_AGAIN: u32 = 600;
/// The windows without effect at the start of such a measurement.
const SKIPPED: u32 = 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the limits in windows of a server that serves `capacity` calls at the same time without delay.
    fn limits(max: usize, capacity: f64, offered: usize, windows: usize) -> Vec<usize> {
        let mut gradient = Gradient::new(max);
        let window = |_| {
            let running = offered.min(gradient.limit());
            let average = 5e6 * (running as f64 / capacity).max(1.0);
            gradient.update(average, running)
        };
        (0..windows).map(window).collect()
    }

    #[test]
    fn limit_stays_near_the_capacity_under_overload() {
        for capacity in [8.0, 50.0, 300.0] {
            let limits = limits(10_000, capacity, 100_000, 3000);
            let settled = &limits[1000..];
            let highest = *settled.iter().max().unwrap() as f64;
            assert!(highest <= capacity * 2.5 + 10.0, "{highest} for {capacity}");
            let sum: usize = settled.iter().sum();
            let mean = sum as f64 / settled.len() as f64;
            assert!(mean >= capacity, "{mean} for {capacity}");
        }
    }

    #[test]
    fn limit_grows_to_the_maximum_without_delay() {
        let limits = limits(1000, 1e9, 100_000, 590);
        assert_eq!((limits[0], limits.last()), (20, Some(&1000)));
    }

    #[test]
    fn few_calls_leave_the_limit_alone() {
        assert!(limits(1000, 1e9, 5, 2000).iter().all(|limit| *limit == 20));
    }

    /// A dependency has become slower for good. The next measurement finds that.
    #[test]
    fn slower_service_recovers_its_limit() {
        let mut gradient = Gradient::new(200);
        let mut run = |windows: u32, average: f64| (0..windows).map(|_| gradient.update(average, 10_000)).max();
        assert_eq!(run(500, 5e6), Some(200));
        run(80, 5e7);
        assert!(run(5, 5e7) < Some(60));
        assert_eq!(run(1300, 5e7), Some(200));
    }

    #[test]
    fn window_ends_with_enough_handlers() {
        let start = Instant::now();
        let limit = AdaptiveLimit::new(100, start);
        assert_eq!(limit.limit(), 4);
        let at = |millis| start + Duration::from_millis(millis);
        assert!((0..20).all(|_| !limit.record(start, 4, at(5))), "the window has not ended");
        assert!(limit.record(at(100), 4, at(105)));
        assert_eq!(limit.limit(), 20);
        assert!((0..9).all(|_| !limit.record(at(300), 20, at(305))), "too few handlers");
        assert!(limit.record(at(300), 20, at(305)));
    }

    proptest! {
        #[test]
        fn limit_stays_within_its_bounds(
            max in 1_usize..5000,
            windows in prop::collection::vec((0.0_f64..1e12, 0_usize..10_000), 1..800),
        ) {
            let mut gradient = Gradient::new(max);
            for (average, running) in windows {
                let limit = gradient.update(average, running);
                prop_assert!(limit >= (MIN_LIMIT as usize).min(max) && limit <= max, "{limit}");
            }
        }
    }
}
