//! [`Latency`]: how long the answers of one connection take.

use std::{
    ops::{Add, Sub},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::cache_padded::CachePadded;

/// How long the answers of one connection take.
///
/// The driver of the connection writes it, at most once for each delivery of up to 32 answers; callers that pick a provider
/// read it. A write is a plain store because there is one writer.
#[derive(Debug)]
pub(crate) struct Latency {
    epoch: Instant,
    cells: CachePadded<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    /// The peak EWMA in nanoseconds.
    peak: AtomicU64,
    /// A [`Typical`].
    typical: AtomicU64,
    /// The last answer, in nanoseconds since the epoch; 0 before the first one.
    last: AtomicU64,
    /// The last answer or the last time at which the averages were reduced because there was none.
    aged: AtomicU64,
    /// The sum of the logarithms of the latencies, in units of 1/16.
    log2_sum: AtomicU64,
    /// The number of answers in that sum.
    answers: AtomicU64,
}

/// The typical latency of a connection, which one cell stores.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Typical {
    /// The logarithm to the base 2 of the latency in nanoseconds, in units of 1/16; 0 if it is unknown.
    log2: u32,
    /// The reduction of the logarithm since the last answer.
    aged: u32,
}

/// The latencies of the answers of one delivery.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sample {
    /// The longest latency in nanoseconds.
    longest: u64,
    sum: LogSum,
}

/// The sum of the logarithms of some latencies.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSum {
    /// The sum of the logarithms to the base 2 of the latencies in nanoseconds, in units of 1/16.
    pub(crate) log2: u64,
    /// The number of latencies.
    pub(crate) answers: u64,
}

impl LogSum {
    /// Returns the geometric mean of the latencies, as its logarithm to the base 2 in nanoseconds.
    pub(crate) fn log2_mean(self) -> f64 {
        self.log2 as f64 / 16.0 / self.answers.max(1) as f64
    }
}

impl Add for LogSum {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { log2: self.log2.wrapping_add(other.log2), answers: self.answers.wrapping_add(other.answers) }
    }
}

impl Sub for LogSum {
    type Output = Self;

    /// Returns the sum since `earlier`; zero if the sum began anew, as that of a new connection.
    fn sub(self, earlier: Self) -> Self {
        match (self.log2.checked_sub(earlier.log2), self.answers.checked_sub(earlier.answers)) {
            (Some(log2), Some(answers)) => Self { log2, answers },
            _ => Self::default(),
        }
    }
}

impl Sample {
    /// Adds the latency of one answer.
    pub(super) fn add(&mut self, latency: Duration) {
        let nanos = nanos(latency).max(1);
        self.longest = self.longest.max(nanos);
        self.sum = self.sum + LogSum { log2: log2(nanos), answers: 1 };
    }
}

impl Typical {
    fn from_bits(bits: u64) -> Self {
        Self { log2: bits as u32, aged: (bits >> 32) as u32 }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.aged) << 32 | u64::from(self.log2)
    }

    /// Returns the average of the logarithms after an answer with the logarithm `latency`.
    fn after(self, latency: u32, is_rare: bool) -> Self {
        let log2 = if self.log2 == 0 || is_rare {
            latency.max(1)
        } else {
            // Rounded away from the old average, so that it reaches a constant latency.
            let change = self.log2.abs_diff(latency).div_ceil(4);
            if latency > self.log2 { self.log2 + change } else { self.log2 - change }
        };
        Self { log2, aged: 0 }
    }

    /// Returns the logarithm for the pick of a provider with this number of calls in flight.
    ///
    /// A call to a provider that was slow shows whether it still is. Without its answer, the next one must wait for
    /// longer: the time without answers counts half. It counts, because the calls in flight include open streams.
    fn with(self, in_flight: u32) -> u32 {
        let aged = if in_flight == 0 { self.aged } else { self.aged / 2 };
        self.log2.saturating_sub(aged).max(self.log2.min(1))
    }
}

impl Latency {
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: now, cells: CachePadded::default() }
    }

    /// Adds the latencies of answers that arrived at `now`. The caller is the only writer.
    pub(super) fn add(&self, sample: Sample, now: Instant) {
        if sample.longest == 0 {
            return;
        }
        let cells = &self.cells.0;
        let at = self.since_epoch(now).max(1);
        let elapsed = at.saturating_sub(cells.aged.load(Relaxed));
        cells.peak.store(decayed_peak(cells.peak.load(Relaxed), sample.longest, elapsed), Relaxed);
        let mean = sample.sum.log2 / sample.sum.answers.max(1);
        // A connection that breaks after a few fast answers, and is replaced by another one, must not attract calls.
        if at >= nanos(YOUNG) {
            // Few answers are all that is known about the provider.
            let is_rare = at.saturating_sub(cells.last.load(Relaxed)) >= nanos(RARE);
            let typical = Typical::from_bits(cells.typical.load(Relaxed));
            cells.typical.store(typical.after(mean as u32, is_rare).to_bits(), Relaxed);
        }
        let sum = self.log_sum() + sample.sum;
        cells.log2_sum.store(sum.log2, Relaxed);
        cells.answers.store(sum.answers, Relaxed);
        cells.last.store(at, Relaxed);
        cells.aged.store(at, Relaxed);
    }

    /// Reduces the averages of a connection without answers at `now`, so that its provider receives a call again.
    ///
    /// The driver calls it in each turn, and a driver without calls has a turn for each of its pings.
    pub(super) fn age(&self, now: Instant) {
        let cells = &self.cells.0;
        let at = self.since_epoch(now);
        let idle = at.saturating_sub(cells.aged.load(Relaxed));
        if idle < nanos(AGED_AFTER) || cells.last.load(Relaxed) == 0 {
            return;
        }
        cells.aged.store(at, Relaxed);
        let octaves = idle as f64 / IDLE_HALF_LIFE;
        cells.peak.store((cells.peak.load(Relaxed) as f64 * (-octaves).exp2()) as u64, Relaxed);
        let typical = Typical::from_bits(cells.typical.load(Relaxed));
        let aged = typical.aged.saturating_add((octaves * 16.0) as u32);
        cells.typical.store(Typical { aged, ..typical }.to_bits(), Relaxed);
    }

    /// Returns the peak EWMA in nanoseconds; 0 before the first answer.
    pub(super) fn peak(&self) -> u64 {
        self.cells.0.peak.load(Relaxed)
    }

    /// Returns the logarithm to the base 2 of the typical latency in nanoseconds, in units of 1/16; 0 if it is unknown.
    ///
    /// A few slow answers hardly change it, and a slow provider does within some answers. It is unknown until the first
    /// answer after the first second of the connection.
    pub(crate) fn typical(&self, in_flight: u32) -> u32 {
        Typical::from_bits(self.cells.0.typical.load(Relaxed)).with(in_flight)
    }

    /// Returns when the last answer arrived.
    pub(super) fn last_answer(&self) -> Option<Instant> {
        let last = self.cells.0.last.load(Relaxed);
        (last > 0).then(|| self.epoch + Duration::from_nanos(last))
    }

    /// Returns the sum of the logarithms of all latencies.
    pub(super) fn log_sum(&self) -> LogSum {
        LogSum { log2: self.cells.0.log2_sum.load(Relaxed), answers: self.cells.0.answers.load(Relaxed) }
    }

    fn since_epoch(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns the peak EWMA `peak` after an answer that took `latency`, `elapsed` after the one before; all in nanoseconds.
///
/// A slower answer replaces the average at once. A faster one counts more the later it comes: the old average keeps the
/// part 1 / (1 + elapsed / [`DECAY`]), which is close to an exponential for short times.
fn decayed_peak(peak: u64, latency: u64, elapsed: u64) -> u64 {
    if latency >= peak {
        return latency;
    }
    let kept = 1.0 / (1.0 + elapsed as f64 / DECAY);
    (peak as f64 * kept + latency as f64 * (1.0 - kept)) as u64
}

/// Returns the logarithm to the base 2 of a number above 0, in units of 1/16, linear between powers of two.
fn log2(number: u64) -> u64 {
    let whole = u64::from(number.ilog2());
    let fraction = (number << (63 - whole) << 1) >> 60;
    whole * 16 + fraction
}

/// The time after which half of the old average is replaced, in nanoseconds: 10 s, as in Finagle.
const DECAY: f64 = 10e9;
/// The time without an answer in which the averages halve, in nanoseconds: 5 s.
const IDLE_HALF_LIFE: f64 = 5e9;
/// The time without an answer after which the averages are reduced.
const AGED_AFTER: Duration = Duration::from_secs(1);
/// The time after the start of a connection from which its answers count for the typical latency.
const YOUNG: Duration = Duration::from_secs(1);
/// The time between two answers from which the last one alone determines the typical latency.
const RARE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn sample(millis: &[u64]) -> Sample {
        let mut sample = Sample::default();
        millis.iter().for_each(|millis| sample.add(Duration::from_millis(*millis)));
        sample
    }

    #[test]
    fn slower_answer_raises_the_average_and_time_lowers_it() {
        let start = Instant::now();
        let latency = Latency::new(start);
        assert_eq!((latency.peak(), latency.last_answer()), (0, None));
        let at = |seconds| start + Duration::from_secs(seconds);
        latency.add(sample(&[1, 3, 2]), at(1));
        assert_eq!((latency.peak(), latency.last_answer()), (3 * MS, Some(at(1))));
        latency.add(sample(&[100]), at(2));
        assert_eq!(latency.peak(), 100 * MS);
        latency.add(sample(&[1]), at(2));
        assert_eq!(latency.peak(), 100 * MS, "no time has passed");
        latency.add(sample(&[2]), at(12));
        assert_eq!(latency.peak(), 51 * MS);
        latency.add(Sample::default(), at(13));
        assert_eq!((latency.peak(), latency.last_answer()), (51 * MS, Some(at(12))), "no answer");
    }

    /// One slow answer is no reason to avoid a provider, and three are.
    #[test]
    fn typical_latency_follows_several_answers() {
        let start = Instant::now();
        let (latency, factor) = (Latency::new(start), |typical: u32| (f64::from(typical) / 16.0).exp2() / MS as f64);
        let at = |millis| start + Duration::from_millis(millis);
        latency.add(sample(&[5]), at(990));
        latency.add(sample(&[5]), at(1010));
        assert!((4.5..5.5).contains(&factor(latency.typical(0))));
        latency.add(sample(&[50]), at(1020));
        assert!(factor(latency.typical(0)) < 10.0, "{}", factor(latency.typical(0)));
        latency.add(sample(&[50]), at(1030));
        latency.add(sample(&[50]), at(1040));
        assert!(factor(latency.typical(0)) > 15.0, "{}", factor(latency.typical(0)));
        (1050..1080).for_each(|millis| latency.add(sample(&[5]), at(millis)));
        assert!((4.5..5.5).contains(&factor(latency.typical(0))));
        latency.add(sample(&[50]), at(2200));
        assert!(factor(latency.typical(0)) > 45.0, "the only answer of a second");
    }

    /// A provider whose connection is cut after each answer has fast answers only.
    #[test]
    fn young_connection_has_no_typical_latency() {
        let start = Instant::now();
        let latency = Latency::new(start);
        latency.add(sample(&[1, 2, 3]), start + Duration::from_millis(999));
        assert_eq!((latency.peak(), latency.typical(0)), (3 * MS, 0));
        latency.add(sample(&[1]), start + Duration::from_millis(1000));
        assert_ne!(latency.typical(0), 0);
    }

    #[test]
    fn averages_halve_without_answers() {
        let start = Instant::now();
        let latency = Latency::new(start);
        let at = |millis| start + Duration::from_millis(millis);
        latency.age(at(5000));
        assert_eq!((latency.peak(), latency.typical(0)), (0, 0), "no answer yet");
        latency.add(sample(&[64]), at(6000));
        let typical = latency.typical(0);
        latency.age(at(6900));
        assert_eq!((latency.peak(), latency.typical(0)), (64 * MS, typical), "less than a second");
        latency.age(at(11_000));
        assert_eq!((latency.peak(), latency.typical(0)), (32 * MS, typical - 16));
        latency.age(at(16_000));
        assert_eq!((latency.peak(), latency.typical(0)), (16 * MS, typical - 32));
        assert_eq!(latency.typical(1), typical - 16, "another call waits for longer");
        latency.add(sample(&[64]), at(16_010));
        assert_eq!((latency.peak(), latency.typical(0)), (64 * MS, typical));
        latency.age(at(3_600_000));
        assert_eq!(latency.typical(0), 1, "known after an hour");
    }

    #[test]
    fn logarithms_are_in_sixteenths() {
        assert_eq!([1, 2, 3, 1024, 1536].map(log2), [0, 16, 24, 160, 168]);
        assert_eq!(log2(u64::MAX), 63 * 16 + 15);
        for number in [5_u64, 77, 1_000, 123_456_789, u64::MAX / 3] {
            assert!((log2(number) as f64 / 16.0 - (number as f64).log2()).abs() < 0.15, "{number}");
        }
    }
}
