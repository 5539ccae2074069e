//! [`Comparison`]: the failures of the providers of a service over the same time.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::detectors::IntervalStats;
use crate::{
    connection::{in_flight::CallCounts, latency::LogSum},
    endpoint::Endpoint,
};

/// The window in which the failures of a service's providers are compared: their counts when it began.
///
/// One window for all providers makes their shares comparable. It begins with a failure, so that the calls before a
/// fault of all providers do not hide it.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    began: Option<Instant>,
    before: HashMap<SocketAddr, Counts>,
    /// The counts at the beginning of the present interval of the detectors.
    interval: HashMap<SocketAddr, Counts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    calls: CallCounts,
    failures: u64,
    latencies: LogSum,
}

/// A provider's calls in the window, and the failed part of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FailureShare {
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) failures: u64,
}

impl Comparison {
    /// Begins another window if the present one is over. Called before a failure is counted.
    ///
    /// A window with few calls lasts longer.
    pub(super) fn update(&mut self, endpoints: &[Arc<Endpoint>], now: Instant) {
        let is_old = self.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW);
        let calls = || endpoints.iter().map(|endpoint| self.share(endpoint).calls).sum::<u64>();
        if is_old && (self.began.is_none() || calls() >= MIN_CALLS_IN_WINDOW) {
            self.before = endpoints.iter().map(|endpoint| (endpoint.address(), Counts::of(endpoint))).collect();
            self.began = Some(now);
        }
    }

    /// Returns the calls and the failures of an endpoint in the window.
    pub(super) fn share(&self, endpoint: &Endpoint) -> FailureShare {
        let before = self.before.get(&endpoint.address()).copied().unwrap_or_default();
        let Counts { calls, failures, .. } = Counts::of(endpoint);
        // A new connection counts its calls from 0, so the window may have more failures than calls.
        FailureShare {
            calls: calls.started.saturating_sub(before.calls.started),
            answered: calls.answered.saturating_sub(before.calls.answered),
            failures: failures.saturating_sub(before.failures),
        }
    }

    /// Returns the calls of each endpoint since the last time, and begins the next interval.
    pub(super) fn take_interval(&mut self, endpoints: &[Arc<Endpoint>]) -> Vec<IntervalStats> {
        let now: HashMap<_, _> = endpoints.iter().map(|endpoint| (endpoint.address(), Counts::of(endpoint))).collect();
        let stats = endpoints.iter().map(|endpoint| {
            let Some(before) = self.interval.get(&endpoint.address()) else { return IntervalStats::default() };
            let counts = now[&endpoint.address()];
            IntervalStats {
                answered: counts.calls.answered.saturating_sub(before.calls.answered),
                failures: counts.failures.saturating_sub(before.failures),
                latencies: counts.latencies - before.latencies,
            }
        });
        let stats = stats.collect();
        self.interval = now;
        stats
    }

    /// Forgets the calls of an endpoint until now.
    pub(super) fn forget(&mut self, endpoint: &Endpoint) {
        self.before.insert(endpoint.address(), Counts::of(endpoint));
    }
}

impl Counts {
    fn of(endpoint: &Endpoint) -> Self {
        let failures = endpoint.ejection().failures();
        Self { calls: endpoint.call_counts(), failures, latencies: endpoint.latencies() }
    }
}

impl FailureShare {
    /// Returns the failed part, from 0 to 1.
    pub(super) fn ratio(self) -> f64 {
        if self.failures == 0 { 0.0 } else { (self.failures as f64 / self.calls.max(1) as f64).min(1.0) }
    }
}

/// The time over which failures are compared with those of other providers, at least.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The calls of all providers without which a window does not end.
const MIN_CALLS_IN_WINDOW: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_part_never_exceeds_one() {
        let share = |calls, failures| FailureShare { calls, answered: calls, failures }.ratio();
        assert_eq!([share(0, 0), share(400, 2), share(4, 5), share(0, 1)], [0.0, 0.005, 1.0, 1.0]);
    }
}
