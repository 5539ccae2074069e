//! [`Apart`]: something on cache lines of its own; and [`Tally`], a number that many threads add to.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// Something on cache lines of its own: who writes to it does not slow down those who read its neighbours. Processors fetch lines of
/// 64 bytes in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// A number that many threads add to, each in a place that it shares with few others.
#[derive(Debug, Default)]
pub(crate) struct Tally([Apart<AtomicU64>; PLACES]);

impl Tally {
    /// Adds one.
    pub(crate) fn add(&self) {
        PLACE.with(|place| self.0[place.get()].0.fetch_add(1, Ordering::Relaxed));
    }

    /// The sum.
    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|place| place.0.load(Ordering::Relaxed)).sum()
    }
}

const PLACES: usize = 8;

static NEXT_PLACE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static PLACE: Cell<usize> = Cell::new(NEXT_PLACE.fetch_add(1, Ordering::Relaxed) % PLACES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_threads_add_is_in_the_sum() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * PLACES {
                scope.spawn(|| (0..1000).for_each(|_| tally.add()));
            }
        });
        assert_eq!(tally.sum(), 2 * PLACES as u64 * 1000);
    }
}
