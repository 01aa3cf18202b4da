//! A match without its zero words.

use alloc::boxed::Box;
use core::fmt;

use flow::{FLOW_WORDS, FlowKey, Match};

/// Iterates over the positions of the 1-bits of a map.
pub(crate) fn ones(mut map: u128) -> impl Iterator<Item = usize> + Clone {
    core::iter::from_fn(move || {
        let i = map.trailing_zeros() as usize;
        map &= map.wrapping_sub(1);
        (i < 128).then_some(i)
    })
}

/// A [`Match`] that stores only the words in which the mask has bits: first those of the mask,
/// then those of the key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MiniMatch {
    map: u128,
    words: Box<[u64]>,
}

impl MiniMatch {
    /// The whole match.
    pub fn expand(&self) -> Match {
        let (mut key, mut mask) = ([0; FLOW_WORDS], [0; FLOW_WORDS]);
        let n = self.words.len() / 2;
        for (j, i) in ones(self.map).enumerate() {
            mask[i] = self.words[j];
            key[i] = self.words[n + j];
        }
        Match { key: FlowKey::from_words(key), mask: FlowKey::from_words(mask) }
    }

    /// Whether `key` agrees with the match.
    pub fn matches(&self, key: &FlowKey) -> bool {
        let (n, words) = (self.words.len() / 2, key.words());
        ones(self.map).enumerate().all(|(j, i)| words[i] & self.words[j] == self.words[n + j])
    }

    /// Whether some packet agrees with both matches.
    pub fn overlaps(&self, other: &Match) -> bool {
        let n = self.words.len() / 2;
        let (key, mask) = (other.key.words(), other.mask.words());
        ones(self.map)
            .enumerate()
            .all(|(j, i)| (self.words[n + j] ^ key[i]) & self.words[j] & mask[i] == 0)
    }

    /// Whether the mask has no bit: every packet matches.
    pub fn is_catch_all(&self) -> bool {
        self.map == 0
    }
}

impl From<&Match> for MiniMatch {
    fn from(m: &Match) -> MiniMatch {
        let map = m.mask.map();
        let (key, mask) = (m.key.words(), m.mask.words());
        let words = ones(map).map(|i| mask[i]).chain(ones(map).map(|i| key[i] & mask[i])).collect();
        MiniMatch { map, words }
    }
}

impl fmt::Debug for MiniMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expand().fmt(f)
    }
}
