//! [`RateTable`]: the rate limits of many subjects, such as addresses or users.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Token buckets by subject. The caller passes the time.
///
/// The table keeps at most [`MAX_SUBJECTS`] buckets. It removes full ones, which it creates again on demand; subjects
/// above the limit share one bucket.
#[derive(Debug)]
pub(crate) struct RateTable<K> {
    capacity: f64,
    per_second: f64,
    buckets: Mutex<Buckets<K>>,
}

#[derive(Debug)]
struct Buckets<K> {
    known: HashMap<K, Bucket>,
    /// Shared by all subjects that are not in `known`.
    others: Bucket,
    /// When full buckets were last removed.
    swept: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl<K: Hash + Eq> RateTable<K> {
    /// Creates a table whose buckets hold up to `capacity` tokens and gain `per_second` tokens each second.
    pub(crate) fn new(capacity: f64, per_second: f64) -> Self {
        let now = Instant::now();
        let others = Bucket { tokens: capacity, at: now };
        Self { capacity, per_second, buckets: Mutex::new(Buckets { known: HashMap::new(), others, swept: now }) }
    }

    /// Takes `count` tokens of a subject, or none.
    ///
    /// # Errors
    ///
    /// The time until the tokens are available, if there are too few.
    pub(crate) fn take(&self, subject: K, count: f64, now: Instant) -> Result<(), Duration> {
        self.with_bucket(subject, now, |bucket| {
            if bucket.tokens >= count {
                bucket.tokens -= count;
                return Ok(());
            }
            // A rate of 0 gives no finite time.
            let wait = (count - bucket.tokens) / self.per_second;
            Err(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
        })
    }

    /// Returns tokens that a subject has taken, up to the capacity.
    pub(crate) fn give_back(&self, subject: K, count: f64, now: Instant) {
        self.with_bucket(subject, now, |bucket| bucket.tokens = (bucket.tokens + count).min(self.capacity));
    }

    fn with_bucket<R>(&self, subject: K, now: Instant, change: impl FnOnce(&mut Bucket) -> R) -> R {
        let mut buckets = self.lock();
        let Buckets { known, others, swept } = &mut *buckets;
        if known.len() >= MAX_SUBJECTS && now.saturating_duration_since(*swept) >= SWEEP_INTERVAL {
            *swept = now;
            known.retain(|_, bucket| self.refilled(*bucket, now).tokens < self.capacity);
        }
        let is_full = known.len() >= MAX_SUBJECTS;
        let new = Bucket { tokens: self.capacity, at: now };
        let bucket = match known.get_mut(&subject) {
            Some(bucket) => bucket,
            None if is_full => others,
            None => known.entry(subject).or_insert(new),
        };
        *bucket = self.refilled(*bucket, now);
        change(bucket)
    }

    fn refilled(&self, bucket: Bucket, now: Instant) -> Bucket {
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        Bucket { tokens: (bucket.tokens + gained).min(self.capacity), at: now.max(bucket.at) }
    }

    fn lock(&self) -> MutexGuard<'_, Buckets<K>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of buckets of one table.
const MAX_SUBJECTS: usize = 65_536;
/// The minimum time between two removals of full buckets.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_separate_buckets() {
        let (table, start) = (RateTable::new(10.0, 2.0), Instant::now());
        assert_eq!(table.take("ann", 10.0, start), Ok(()));
        assert_eq!(table.take("ann", 3.0, start), Err(Duration::from_millis(1500)));
        assert_eq!(table.take("bo", 10.0, start), Ok(()));
        assert_eq!(table.take("ann", 2.0, start + Duration::from_secs(1)), Ok(()));
        table.give_back("ann", 20.0, start + Duration::from_secs(1));
        assert_eq!(table.take("ann", 10.0, start + Duration::from_secs(1)), Ok(()), "no more than the capacity");
        assert!(table.take("ann", 1.0, start).is_err(), "a clock that goes back adds no tokens");
    }

    #[test]
    fn subjects_above_the_limit_share_a_bucket() {
        let (table, start) = (RateTable::new(1.0, 1.0), Instant::now());
        for subject in 0..MAX_SUBJECTS {
            assert_eq!(table.take(subject, 1.0, start), Ok(()));
        }
        assert_eq!(table.take(MAX_SUBJECTS, 1.0, start), Ok(()));
        assert!(table.take(MAX_SUBJECTS + 1, 1.0, start).is_err());
        let later = start + SWEEP_INTERVAL;
        assert_eq!(table.take(MAX_SUBJECTS + 1, 1.0, later), Ok(()), "full buckets are removed");
        assert_eq!(table.lock().known.len(), 1);
    }
}
