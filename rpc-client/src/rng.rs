//! [`Chance`]: where a client's random numbers come from.

use std::{
    convert::Infallible,
    sync::{Mutex, PoisonError},
};

use rand::{Rng, RngExt, SeedableRng, TryRng, rngs::SmallRng};

/// Where a client's random numbers come from: the system, or a seed where a run must be repeatable.
#[derive(Debug)]
pub(crate) enum Chance {
    System,
    Seeded(Mutex<SmallRng>),
}

/// A generator of random numbers that draws on a client's [`Chance`].
#[derive(Debug)]
pub(crate) struct Draws<'a>(&'a Chance);

impl Chance {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        seed.map_or(Self::System, |seed| Self::Seeded(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    pub(crate) fn draws(&self) -> Draws<'_> {
        Draws(self)
    }

    /// A number from 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        self.draws().random()
    }

    /// A key that no other call has.
    pub(crate) fn key(&self) -> [u8; 16] {
        self.draws().random()
    }

    fn with<T>(&self, draw: impl FnOnce(&mut dyn Rng) -> T) -> T {
        match self {
            Self::System => draw(&mut rand::rng()),
            Self::Seeded(rng) => draw(&mut *rng.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl TryRng for Draws<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_the_system_does_not() {
        let keys = |seed| {
            let chance = Chance::new(seed);
            (chance.key(), chance.key())
        };
        assert_eq!(keys(Some(7)), keys(Some(7)));
        assert_ne!(keys(Some(7)), keys(Some(8)));
        assert_ne!(keys(None), keys(None));
        assert_ne!(keys(Some(7)).0, keys(Some(7)).1);
    }
}
