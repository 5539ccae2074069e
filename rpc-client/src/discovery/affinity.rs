//! Affinity: the provider that owns a key, by weighted rendezvous hashing.
//!
//! All clients of a service must agree on the owner, whatever their version, build and processor are. Therefore every
//! step is fixed, and the vectors in the tests must never change:
//!
//! 1. the hash of the key is `stable_hash` (FNV-1a) of its bincode encoding;
//! 2. the hash of a provider is `stable_hash` of its address as text, `127.0.0.1:7788` or `[::1]:7788`;
//! 3. the score of a provider is `mix(key ^ mix(provider))`;
//! 4. the owner has the lowest cost, `-log2(score / 2^64) / weight`, with the logarithm in integers.

use std::net::SocketAddr;

use rpc_core::stable_hash;

use super::weights::Weights;

/// The hashes of a provider list's addresses.
#[derive(Debug, Default)]
pub(crate) struct AddressHashes(Vec<u64>);

impl AddressHashes {
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self(addresses.into_iter().map(|address| mix(stable_hash(address.to_string().as_bytes()))).collect())
    }

    /// Returns the score of a provider for a key.
    pub(crate) fn score(&self, index: usize, key: u64) -> u64 {
        mix(key ^ self.0[index])
    }
}

impl Weights {
    /// Returns the owner of a key: the usable provider of weight above 0 with the lowest cost.
    ///
    /// A heavier provider owns more keys. The keys of an unusable provider are spread over the others.
    pub(crate) fn rendezvous(&self, score: impl Fn(usize) -> u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let cost = |index: usize| match self.are_equal() {
            // The order is the same without the logarithm.
            true => (u64::MAX - score(index)) as f64,
            false => negative_log2(score(index)) as f64 / self.of(index),
        };
        let weighted = || (0..self.len()).filter(|index| self.of(*index) > 0.0);
        let cheapest = |one: &usize, other: &usize| cost(*one).total_cmp(&cost(*other));
        let owner = weighted().min_by(cheapest)?;
        // The owner is usable in most calls, and to check all providers costs more than to compare them.
        if usable(owner) { Some(owner) } else { weighted().filter(|index| usable(*index)).min_by(cheapest) }
    }
}

/// The finalizer of MurmurHash3 by Austin Appleby, which spreads every bit of its input over its output.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Returns `-log2(score / 2^64)` in units of 2^-32.
///
/// In integers, because `f64::ln` differs between systems. The table has 256 steps; between them it is linear, with an
/// error below 3 in a million.
fn negative_log2(score: u64) -> u64 {
    let score = score.max(1);
    let zeros = score.leading_zeros();
    // The bits after the leading one: 8 for the step, the next 32 for the position within it.
    let fraction = (score << zeros) << 1;
    let (step, within) = ((fraction >> 56) as usize, (fraction << 8) >> 32);
    let (from, to) = (LOG2[step], LOG2[step + 1]);
    let log2 = from + (((to - from) * within) >> 32);
    ((u64::from(zeros) + 1) << 32) - log2
}

/// `log2(1 + n / 256)` in units of 2^-32.
static LOG2: [u64; 257] = {
    let mut table = [0; 257];
    let mut step = 0;
    while step < 256 {
        table[step] = log2_fraction(256 + step as u64);
        step += 1;
    }
    table[256] = 1 << 32;
    table
};

/// Returns `log2(number / 256)` in units of 2^-32, for a number from 256 to 511: each squaring yields one bit.
const fn log2_fraction(number: u64) -> u64 {
    let (mut square, mut log2, mut bit) = ((number as u128) << 24, 0, 0);
    while bit < 32 {
        square = (square * square) >> 32;
        log2 <<= 1;
        if square >= 2 << 32 {
            square >>= 1;
            log2 |= 1;
        }
        bit += 1;
    }
    log2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> AddressHashes {
        AddressHashes::new((0..count).map(|number| SocketAddr::from(([10, 0, 0, 1], 7000 + number))))
    }

    fn owner(hashes: &AddressHashes, weights: &Weights, key: u64, gone: Option<usize>) -> usize {
        weights.rendezvous(|index| hashes.score(index, key), |index| Some(index) != gone).unwrap()
    }

    /// Clients of other versions and builds have the same owners: these numbers must never change.
    #[test]
    fn owners_match_vectors() {
        let hashes = AddressHashes::new(["127.0.0.1:7788", "[::1]:7788"].map(|text| text.parse().unwrap()));
        assert_eq!(hashes.0, [mix(stable_hash(b"127.0.0.1:7788")), mix(stable_hash(b"[::1]:7788"))]);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(mix(u64::MAX), 0x64b5_720b_4b82_5f21);
        let hashes = addresses(5);
        let owners = |weights: &[f64]| {
            let weights = Weights::new(weights.to_vec());
            (0..16).map(|key| owner(&hashes, &weights, stable_hash(&[key]), None)).collect::<Vec<_>>()
        };
        assert_eq!(owners(&[1.0; 5]), [2, 4, 4, 4, 4, 4, 1, 0, 0, 3, 0, 4, 4, 0, 4, 4]);
        assert_eq!(owners(&[1.0, 0.5, 3.0, 0.0, 10.0]), [2, 4, 4, 4, 4, 4, 2, 2, 0, 4, 0, 4, 4, 4, 4, 4]);
    }

    #[test]
    fn integer_logarithm_is_close_to_the_real_one() {
        for score in [1, 2, 3, 1 << 20, (1 << 40) + 12345, u64::MAX / 3, u64::MAX / 2 + 1, u64::MAX - (1 << 40)] {
            let real = -(score as f64 / (1_u128 << 64) as f64).log2();
            let integer = negative_log2(score) as f64 / (1_u64 << 32) as f64;
            assert!((real - integer).abs() < 4e-6, "{score}: {real} {integer}");
        }
        let scores = (0..10_000_u64).map(|number| number << 50).chain([u64::MAX]);
        assert!(scores.map(negative_log2).is_sorted_by(|one, other| one >= other));
    }

    #[test]
    fn key_moves_only_when_its_provider_leaves() {
        let (hashes, weights) = (addresses(4), Weights::new(vec![1.0, 1.0, 2.0, 1.0]));
        let mut counts = [0_u32; 4];
        let mut moved = [0_u32; 4];
        for key in 0..20_000_u64 {
            let key = stable_hash(&key.to_le_bytes());
            let before = owner(&hashes, &weights, key, None);
            counts[before] += 1;
            let after = owner(&hashes, &weights, key, Some(1));
            assert!(after == before || before == 1);
            if before == 1 {
                moved[after] += 1;
            }
        }
        assert!(counts[2].abs_diff(8_000) < 400 && counts[0].abs_diff(4_000) < 300, "{counts:?}");
        assert!(moved[2].abs_diff(2_000) < 200 && moved[0].abs_diff(1_000) < 150, "{moved:?}");
    }

    #[test]
    fn equal_weights_give_equal_shares_of_keys() {
        let (hashes, mut counts) = (addresses(7), [0_u32; 7]);
        for weight in [1.0, 2.5] {
            let weights = Weights::new(vec![weight; 7]);
            (0..14_000_u32)
                .for_each(|key| counts[owner(&hashes, &weights, stable_hash(&key.to_le_bytes()), None)] += 1);
        }
        assert!(counts.iter().all(|count| count.abs_diff(4_000) < 300), "{counts:?}");
    }
}
