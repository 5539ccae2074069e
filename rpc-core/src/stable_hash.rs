//! [`stable_hash`]: a hash that is the same in every build.

/// Returns the 64-bit FNV-1a hash of `bytes`, by Fowler, Noll and Vo.
///
/// Processes of different versions compare these hashes, so the algorithm must not change.
pub const fn stable_hash(bytes: &[u8]) -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published vectors.
    #[test]
    fn hash_matches_published_vectors() {
        assert_eq!(stable_hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(stable_hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(stable_hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
