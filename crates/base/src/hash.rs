//! A keyed hash over 64-bit words for tables that strangers' packets fill.
//!
//! The key is drawn once per process by the daemon, so nobody outside can choose packets that
//! collide. Two rounds of multiply-and-fold per word pair (the construction of wyhash): good
//! enough to spread, cheap enough for a per-packet path. Not a message authenticator.

/// A secret hash key.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HashKey(pub [u64; 2]);

const M0: u64 = 0xa076_1d64_78bd_642f;
const M1: u64 = 0xe703_7ed1_a0b4_28db;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let p = u128::from(a) * u128::from(b);
    (p as u64) ^ ((p >> 64) as u64)
}

impl HashKey {
    /// Starts a hash of `n` words.
    #[inline]
    pub fn start(self, n: usize) -> u64 {
        self.0[0] ^ (n as u64).wrapping_mul(M1)
    }

    /// Mixes one word into the running state `h`.
    #[inline]
    pub fn mix(self, h: u64, word: u64) -> u64 {
        fold(h ^ word ^ M0, self.0[1] ^ word.rotate_left(32) ^ M1)
    }

    /// Ends a hash.
    #[inline]
    pub fn finish(self, h: u64) -> u64 {
        fold(h ^ M1, self.0[0] ^ M0)
    }
}

/// Hash of a slice of words under `key`.
#[inline]
pub fn hash_words(key: HashKey, words: &[u64]) -> u64 {
    let mut h = key.start(words.len());
    for &w in words {
        h = key.mix(h, w);
    }
    key.finish(h)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_changes_about_half_of_the_hash() {
        let key = HashKey([0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]);
        let base = hash_words(key, &[1, 2, 3]);
        let mut total = 0;
        for word in 0..3 {
            for bit in 0..64 {
                let mut w = [1, 2, 3];
                w[word] ^= 1u64 << bit;
                let flips = (hash_words(key, &w) ^ base).count_ones();
                assert!(flips >= 10, "word {word} bit {bit}: {flips}");
                total += flips;
            }
        }
        assert!((28..=36).contains(&(total / 192)), "mean {}", total / 192);
    }

    #[test]
    fn length_and_key_matter() {
        let (a, b) = (HashKey([1, 2]), HashKey([1, 3]));
        assert_ne!(hash_words(a, &[0]), hash_words(a, &[0, 0]));
        assert_ne!(hash_words(a, &[7]), hash_words(b, &[7]));
    }
}
