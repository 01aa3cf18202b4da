//! A match without its zero words.

use alloc::boxed::Box;
use alloc::sync::Arc;
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

/// The words of a mask that have bits.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct MiniMask {
    map: u128,
    words: Box<[u64]>,
}

impl From<&FlowKey> for MiniMask {
    fn from(mask: &FlowKey) -> MiniMask {
        let map = mask.map();
        MiniMask { map, words: ones(map).map(|i| mask.words()[i]).collect() }
    }
}

/// A [`Match`] that stores only the words in which the mask has bits. Several may share their mask:
/// see [`Classifier::share_mask`](crate::Classifier::share_mask).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MiniMatch {
    mask: Arc<MiniMask>,
    /// The key's words, as many as the mask has.
    key: Box<[u64]>,
}

impl MiniMatch {
    /// Position, mask and key of each word.
    fn words(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let words = self.mask.words.iter().zip(&self.key);
        ones(self.mask.map).zip(words).map(|(i, (&mask, &key))| (i, mask, key))
    }

    /// The whole match.
    pub fn expand(&self) -> Match {
        let (mut key, mut mask) = ([0; FLOW_WORDS], [0; FLOW_WORDS]);
        self.words().for_each(|(i, m, k)| (mask[i], key[i]) = (m, k));
        Match { key: FlowKey::from_words(key), mask: FlowKey::from_words(mask) }
    }

    /// Whether `key` agrees with the match.
    pub fn matches(&self, key: &FlowKey) -> bool {
        let words = key.words();
        self.words().all(|(i, m, k)| words[i] & m == k)
    }

    /// Whether some packet agrees with both matches.
    pub fn overlaps(&self, other: &Match) -> bool {
        let (key, mask) = (other.key.words(), other.mask.words());
        self.words().all(|(i, m, k)| (k ^ key[i]) & m & mask[i] == 0)
    }

    /// Whether the mask has no bit: every packet matches.
    pub fn is_catch_all(&self) -> bool {
        self.mask.map == 0
    }

    /// Keeps the mask of `other`, if it is the same, in the place of its own.
    pub fn share_mask(&mut self, other: &MiniMatch) {
        self.share(&other.mask);
    }

    pub(crate) fn share(&mut self, mask: &Arc<MiniMask>) {
        if self.mask == *mask {
            self.mask = Arc::clone(mask);
        }
    }
}

impl From<&Match> for MiniMatch {
    fn from(m: &Match) -> MiniMatch {
        let (key, mask) = (m.key.words(), m.mask.words());
        let words = ones(m.mask.map()).map(|i| key[i] & mask[i]).collect();
        MiniMatch { mask: Arc::new(MiniMask::from(&m.mask)), key: words }
    }
}

impl fmt::Debug for MiniMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expand().fmt(f)
    }
}
