//! [`Rule`]: the policies of the calls of one method or several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use rpc_core::{CallOptions, Code, Error, Hedging, Phase, ServiceId, stable_hash};

use super::entry::{HedgeTime, RuleEntry, TagEntry};
use crate::{discovery::balance::Balance, rng::RngSource};

/// The policies of the calls of one method or several.
#[derive(Debug)]
pub(crate) struct Rule {
    entry: RuleEntry,
    name: String,
    /// The service whose document has the rule, if it is not a rule of the program.
    scope: Option<Arc<str>>,
    /// The calls in progress, if the rule limits them.
    running: Arc<AtomicU32>,
    /// The latencies of the calls, if the rule hedges after a percentile of them.
    latencies: Option<Arc<Latencies>>,
}

/// A call that counts against the limit of a rule until this is dropped.
#[derive(Debug)]
pub(crate) struct RunningCall(Arc<AtomicU32>);

impl Rule {
    pub(super) fn new(entry: RuleEntry, number: usize) -> Self {
        let name = entry.name.clone().unwrap_or_else(|| format!("rule {number}"));
        let latencies = matches!(entry.hedge, Some(HedgeTime::Percentile(_))).then(Arc::default);
        Self { entry, name, scope: None, running: Arc::default(), latencies }
    }

    /// Restricts the rule to a service.
    pub(super) fn restrict(&mut self, service: &Arc<str>) {
        self.scope = Some(Arc::clone(service));
    }

    /// Returns whether this rule replaces `earlier`: it has its name and is for the same methods.
    pub(super) fn replaces(&self, earlier: &Self) -> bool {
        self.name == earlier.name
            && self.scope == earlier.scope
            && self.entry.service == earlier.entry.service
            && self.entry.method == earlier.entry.method
    }

    /// Continues the counts of a rule that this one replaces.
    pub(super) fn inherit(&mut self, earlier: &Self) {
        self.running = Arc::clone(&earlier.running);
        if let (Some(own), Some(latencies)) = (&mut self.latencies, &earlier.latencies) {
            *own = Arc::clone(latencies);
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn balance(&self) -> Option<Balance> {
        self.entry.balance.map(|balance| balance.0)
    }

    /// Returns whether the rule is for this method, or for any method of the service.
    pub(super) fn matches(&self, service: &ServiceId, method: Option<&str>) -> bool {
        let RuleEntry { service: own_service, method: own_method, .. } = &self.entry;
        self.scope.as_deref().is_none_or(|scope| scope == service.name())
            && own_service.as_ref().is_none_or(|own| own.matches(service))
            && (method.is_none() || own_method.as_deref().is_none_or(|own| Some(own) == method))
    }

    /// Sets the options that the call does not set itself.
    pub(crate) fn apply(&self, options: &mut CallOptions, rng: &RngSource) {
        options.timeout = options.timeout.or(self.entry.timeout.map(|time| time.0));
        options.retries = options.retries.or(self.entry.retries.map(|retries| retries.0));
        options.hedging = options.hedging.or_else(|| self.hedging());
        if options.tag.is_none()
            && let Some(TagEntry { tag, force, .. }) = self.entry.tags.iter().find(|entry| entry.applies(options, rng))
        {
            options.set_tag(tag);
            options.forces_tag = *force;
        }
    }

    /// Counts a call, unless the limit is reached.
    ///
    /// # Errors
    ///
    /// `ResourceExhausted`; the call was not sent.
    pub(crate) fn enter(&self) -> Result<Option<RunningCall>, Error> {
        let Some(limit) = self.entry.max_concurrent.map(std::num::NonZeroU32::get) else { return Ok(None) };
        let entered = self.running.fetch_update(Relaxed, Relaxed, |running| (running < limit).then_some(running + 1));
        match entered {
            Ok(_) => Ok(Some(RunningCall(Arc::clone(&self.running)))),
            Err(_) => {
                let message =
                    format!("{limit} calls are in progress, limit is {limit} (max_concurrent of {})", self.name);
                Err(Error::not_executed(Code::ResourceExhausted, message).with_phase(Phase::Send))
            }
        }
    }

    /// Returns whether the rule needs the latencies of its calls.
    pub(crate) fn measures_latency(&self) -> bool {
        self.latencies.is_some()
    }

    /// Records the latency of an answered call.
    pub(crate) fn record(&self, latency: Duration) {
        if let Some(latencies) = &self.latencies {
            latencies.record(latency);
        }
    }

    fn hedging(&self) -> Option<Hedging> {
        Some(match self.entry.hedge? {
            HedgeTime::Never => Hedging::Never,
            HedgeTime::After(delay) => Hedging::After(delay),
            HedgeTime::Percentile(percent) => Hedging::After(self.latencies.as_ref()?.percentile(percent)?),
        })
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl TagEntry {
    fn applies(&self, options: &CallOptions, rng: &RngSource) -> bool {
        let matches = match (&self.metadata, &self.value) {
            (Some(key), Some(value)) => options.metadata.get(key) == Some(value),
            (Some(key), None) => options.metadata.get_bytes(key).is_some(),
            (None, _) => true,
        };
        let fraction = || match self.sticky.as_ref().and_then(|key| options.metadata.get_bytes(key)) {
            Some(value) => hashed_fraction(value),
            None => rng.fraction(),
        };
        matches && (self.percent.0 >= 100.0 || fraction() * 100.0 < self.percent.0)
    }
}

/// Returns a number from 0 to below 1 that depends on `value` only, in clients of all versions.
fn hashed_fraction(value: &[u8]) -> f64 {
    // The hash of a short value has few random bits. The mix is the finalizer of SplitMix64 (Steele and others, 2014).
    let mut hash = stable_hash(value);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// A histogram of latencies, with buckets of an eighth of a power of two.
///
/// Older latencies lose their weight: when the histogram has [`HALVED_AT`] of them, all counts are halved.
#[derive(Debug)]
struct Latencies {
    buckets: Box<[AtomicU32]>,
    count: AtomicU32,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(), count: AtomicU32::new(0) }
    }
}

impl Latencies {
    fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        self.buckets[bucket(micros)].fetch_add(1, Relaxed);
        if self.count.fetch_add(1, Relaxed) + 1 >= HALVED_AT {
            let halve = |bucket: &AtomicU32| {
                let half = bucket.load(Relaxed) / 2;
                bucket.store(half, Relaxed);
                half
            };
            self.count.store(self.buckets.iter().map(halve).sum(), Relaxed);
        }
    }

    /// Returns the upper limit of the bucket with a percentile, from 0 to 100; `None` with too few latencies.
    fn percentile(&self, percent: f64) -> Option<Duration> {
        let count = self.count.load(Relaxed);
        if count < MIN_LATENCIES {
            return None;
        }
        let wanted = f64::from(count) * percent / 100.0;
        let mut seen = 0.0;
        let index = self.buckets.iter().position(|bucket| {
            seen += f64::from(bucket.load(Relaxed));
            seen >= wanted
        });
        Some(Duration::from_micros(limit(index.unwrap_or(BUCKETS - 1))))
    }
}

/// Returns the bucket of a latency in microseconds above 0.
fn bucket(micros: u64) -> usize {
    let whole = micros.ilog2() as usize;
    let eighths = if whole >= 3 { (micros >> (whole - 3)) & 7 } else { (micros << (3 - whole)) & 7 };
    (whole * 8 + eighths as usize).min(BUCKETS - 1)
}

/// Returns the upper limit of a bucket in microseconds.
fn limit(bucket: usize) -> u64 {
    let (whole, eighths) = (bucket / 8, (bucket % 8) as u64);
    ((8 + eighths + 1) << whole).div_ceil(8)
}

/// The buckets of a histogram, up to 2^26 microseconds.
const BUCKETS: usize = 26 * 8;
/// The latencies without which there is no percentile.
const MIN_LATENCIES: u32 = 100;
/// The number of latencies at which all counts are halved.
const HALVED_AT: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_within_an_eighth() {
        let latencies = Latencies::default();
        (1..=99_u64).for_each(|millis| latencies.record(Duration::from_millis(millis)));
        assert_eq!(latencies.percentile(95.0), None, "too few latencies");
        latencies.record(Duration::from_millis(100));
        let delay = latencies.percentile(95.0).unwrap();
        assert!(delay >= Duration::from_millis(95) && delay <= Duration::from_millis(108), "{delay:?}");
        for _ in 0..3 * HALVED_AT {
            latencies.record(Duration::from_millis(1));
        }
        let delay = latencies.percentile(95.0).unwrap();
        assert!(delay < Duration::from_millis(2), "{delay:?}: recent latencies count more");
    }

    #[test]
    fn buckets_cover_all_latencies() {
        for micros in [1, 2, 3, 7, 8, 9, 1000, 123_456, 1 << 25, u64::MAX] {
            let bucket = bucket(micros);
            assert!(
                bucket == BUCKETS - 1 || limit(bucket) >= micros && limit(bucket) <= micros + micros / 4 + 2,
                "{micros}"
            );
        }
    }

    #[test]
    fn hashed_fractions_are_uniform() {
        let below = |percent: f64| {
            (0..20_000).filter(move |n| hashed_fraction(format!("user {n}").as_bytes()) * 100.0 < percent)
        };
        for percent in [1.0, 5.0, 50.0, 99.0] {
            let part = below(percent).count() as f64 / 200.0;
            assert!((part - percent).abs() < 1.0, "{part} % instead of {percent} %");
        }
    }
}
