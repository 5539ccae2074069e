//! [`Measured`]: a service whose calls are counted by method, for `msnb.Admin`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_core::{
    BoxFuture, Code, Context, MethodInfo, Payload, Responder, Service, ServiceId,
    admin::{LatencyCount, MethodCounters},
    descriptor::Contract,
};
use tokio::time::Instant;

use super::guarded::Guarded;

/// A service that counts its calls.
pub(crate) struct Measured {
    service: Arc<dyn Service>,
    counts: Arc<[MethodCounts]>,
}

/// The counts of one method.
pub(crate) struct MethodCounts {
    route: String,
    errors: AtomicU64,
    failed: AtomicU64,
    running: AtomicU64,
    latencies: [AtomicU64; RANGES],
}

impl Measured {
    /// Counts the calls of a service.
    pub(crate) fn around(service: Arc<dyn Service>) -> Self {
        let counts = service.methods().iter().map(|method| MethodCounts::new(method.route())).collect();
        Self { service, counts }
    }

    /// Returns the counts of the methods.
    pub(crate) fn counts(&self) -> Arc<[MethodCounts]> {
        Arc::clone(&self.counts)
    }
}

impl Service for Measured {
    fn id(&self) -> &ServiceId {
        self.service.id()
    }

    fn methods(&self) -> &[MethodInfo] {
        self.service.methods()
    }

    fn contract(&self) -> Option<&Contract> {
        self.service.contract()
    }

    fn call(&self, method: usize, arguments: Payload, responder: Responder) -> BoxFuture<'static, ()> {
        let context = responder.context().clone();
        self.counts[method].running.fetch_add(1, Relaxed);
        let running = Running { counts: Arc::clone(&self.counts), method, context, begun: Instant::now() };
        Box::pin(Guarded::new(self.service.call(method, arguments, responder), running))
    }
}

/// A handler that is counted when it has ended or is dropped.
struct Running {
    counts: Arc<[MethodCounts]>,
    method: usize,
    context: Context,
    begun: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        let counts = &self.counts[self.method];
        match self.context.outcome() {
            Some(Code::Ok) => {}
            Some(Code::Application) => _ = counts.errors.fetch_add(1, Relaxed),
            _ => _ = counts.failed.fetch_add(1, Relaxed),
        }
        counts.latencies[range(self.begun.elapsed())].fetch_add(1, Relaxed);
        counts.running.fetch_sub(1, Relaxed);
    }
}

impl MethodCounts {
    fn new(route: &str) -> Self {
        Self {
            route: route.to_owned(),
            errors: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            running: AtomicU64::new(0),
            latencies: [const { AtomicU64::new(0) }; RANGES],
        }
    }

    /// Returns the counters. Calls that end meanwhile may be in a part of them.
    pub(crate) fn read(&self) -> MethodCounters {
        let counted = self.latencies.iter().enumerate().map(|(range, calls)| (range, calls.load(Relaxed)));
        let counted = counted.filter(|(_, calls)| *calls > 0);
        let mut counters = MethodCounters::new(self.route.clone());
        counters.latencies = counted.map(|(range, calls)| LatencyCount::new(upper_bound(range), calls)).collect();
        counters.calls = counters.latencies.iter().map(|count| count.calls).sum();
        counters.errors = self.errors.load(Relaxed);
        counters.failed = self.failed.load(Relaxed);
        counters.running = self.running.load(Relaxed);
        counters
    }
}

/// Returns the range of a duration: one for each microsecond up to 3, and four for each power of two above.
fn range(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros < 4 {
        return micros as usize;
    }
    let power = micros.ilog2();
    let quarter = (micros >> (power - 2)) & 3;
    ((power as usize - 1) * 4 + quarter as usize).min(RANGES - 1)
}

/// Returns the longest duration of a range, in microseconds.
fn upper_bound(range: usize) -> u64 {
    if range < 4 {
        return range as u64;
    }
    let (power, quarter) = (range / 4 + 1, range as u64 % 4);
    ((4 + quarter + 1) << (power - 2)) - 1
}

/// The number of ranges: up to 2^27 µs, which is more than two minutes. Longer calls count as such.
const RANGES: usize = 26 * 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_the_range_below_its_bound() {
        for micros in (0..10_000).chain([1 << 20, (1 << 26) - 1, 1 << 26, (1 << 27) - 1]) {
            let range = range(Duration::from_micros(micros));
            assert!(micros <= upper_bound(range), "{micros} in {range}");
            assert!(range == 0 || micros > upper_bound(range - 1), "{micros} in {range}");
            assert!(micros < 4 || upper_bound(range) - upper_bound(range - 1) <= micros / 4 + 1, "{micros}");
        }
        assert_eq!(range(Duration::MAX), RANGES - 1);
    }
}
