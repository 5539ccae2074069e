//! [`RngSource`]: the source of a client's random numbers.

use std::{
    cell::Cell,
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use rand::{Rng, RngExt, SeedableRng, TryRng, rngs::SmallRng};

/// The source of a client's random numbers: the system's generator, or a seed for repeatable runs.
#[derive(Debug)]
pub(crate) enum RngSource {
    System,
    Seeded(Mutex<SmallRng>),
}

/// A random number generator that draws from an [`RngSource`].
#[derive(Debug)]
pub(crate) struct SourceRng<'a>(&'a RngSource);

/// The generator SplitMix64 (Steele, Lea and Flood, 2014): a few instructions for each number.
#[derive(Debug)]
pub(crate) struct SplitMix<'a> {
    source: &'a RngSource,
    /// The state of the generator, if the source has a seed and the first number is drawn; otherwise that of the thread.
    state: Option<u64>,
}

impl RngSource {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        seed.map_or(Self::System, |seed| Self::Seeded(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    pub(crate) fn rng(&self) -> SourceRng<'_> {
        SourceRng(self)
    }

    /// Returns a generator for the draws of one pick.
    ///
    /// It takes a single number from a seed, at the first draw. Without a seed, the generator of the thread continues: its
    /// numbers cost a tenth of those of the system's generator, and others can predict them.
    pub(crate) fn split(&self) -> SplitMix<'_> {
        SplitMix { source: self, state: None }
    }

    /// Returns a number from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        self.rng().random()
    }

    /// Returns a number of 64 random bits.
    pub(crate) fn number(&self) -> u64 {
        self.rng().random()
    }

    /// Returns a number below `count`, which is above 0.
    pub(crate) fn index(&self, count: usize) -> usize {
        self.rng().random_range(0..count)
    }

    /// Returns a new idempotency key.
    pub(crate) fn idempotency_key(&self) -> [u8; 16] {
        self.rng().random()
    }

    fn with<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        match self {
            Self::System => draw(&mut rand::rng()),
            Self::Seeded(rng) => draw(&mut *rng.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl TryRng for SplitMix<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let state = match self.source {
            RngSource::System => next_state_of_thread(),
            RngSource::Seeded(_) => self.state.unwrap_or_else(|| self.source.number()).wrapping_add(STEP),
        };
        self.state = Some(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(mixed ^ (mixed >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = self.try_next_u64()?.to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryRng for SourceRng<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.with(|rng| rng.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.with(|rng| rng.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.with(|rng| rng.fill_bytes(bytes));
        Ok(())
    }
}

thread_local! {
    /// The state of this thread's SplitMix64; 0 until its first use.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// Advances the generator of this thread.
fn next_state_of_thread() -> u64 {
    STATE.with(|cell| {
        let state = match cell.get() {
            0 => rand::rng().random(),
            state => state,
        };
        let next = state.wrapping_add(STEP);
        cell.set(next);
        next
    })
}

/// The difference of two states of SplitMix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the reference implementation by Vigna, from the seed 0.
    #[test]
    fn split_mix_matches_its_reference() {
        let source = RngSource::new(Some(0));
        let mut random = SplitMix { source: &source, state: Some(0) };
        let numbers = [(); 3].map(|()| random.next_u64());
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    /// The states of a thread are a sequence, whose start is random.
    #[test]
    fn numbers_of_picks_differ() {
        let numbers = || {
            let source = RngSource::new(None);
            [(); 1000].map(|()| source.split().next_u64())
        };
        let other = std::thread::spawn(numbers).join().unwrap();
        let mut all = [numbers(), numbers(), other].concat();
        let ones: u32 = all.iter().map(|number| number.count_ones()).sum();
        assert!(ones.abs_diff(96_000) < 2000, "{ones} of 192000 bits");
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3000);
    }

    #[test]
    fn seed_repeats_its_numbers_and_the_system_does_not() {
        let keys = |seed| {
            let source = RngSource::new(seed);
            (source.idempotency_key(), source.idempotency_key())
        };
        assert_eq!(keys(Some(7)), keys(Some(7)));
        assert_ne!(keys(Some(7)), keys(Some(8)));
        assert_ne!(keys(None), keys(None));
        assert_ne!(keys(Some(7)).0, keys(Some(7)).1);
    }
}
