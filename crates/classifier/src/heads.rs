//! The hash table of a subtable: from the hash of a key to the slot of its first rule.
//!
//! Buckets of seven places, each with 15 bits of the hash (a *tag*) and a slot. A key that finds its bucket full
//! goes into the next one that is not, and is counted in those that it passed. (The construction is that of
//! Folly's F14.)
//!
//! What matters here is that a packet with a rule and one without can take the same way through a look-up:
//! where which of the two comes next cannot be guessed, a processor that guesses wrong throws away its work on
//! the packets behind. So no rule is a slot as well, [`NO_RULE`].

use alloc::boxed::Box;
use alloc::vec;

use crate::two::Two;

/// The slot that never has a rule.
pub(crate) const NO_RULE: u32 = 0;

/// Places in a bucket.
const WIDTH: usize = 7;

/// Set in the tag of a place with a slot.
const TAGGED: u16 = 1 << 15;

/// Most slots that a table has for each bucket. In fuller ones too many buckets are full.
const MAX_LOAD: usize = 5;

/// Most keys that are counted as having found a bucket full. With so many, look-ups go on to the next for ever.
const MAX_PASSED: u16 = TAGGED - 1;

/// Seven places, after a first one that is none.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bucket {
    /// Of each place; in front of them, the number of keys that found the bucket full.
    tags: [u16; WIDTH + 1],
    /// Of each place, [`NO_RULE`] if it is free.
    slots: [u32; WIDTH + 1],
}

impl Bucket {
    const FREE: Bucket = Bucket { tags: [0; WIDTH + 1], slots: [NO_RULE; WIDTH + 1] };

    /// The places with the tag of `hash`, two bits each.
    #[inline(always)]
    pub fn tagged(&self, hash: u64) -> u32 {
        Two::from_u16(self.tags).same_u16(Two::splat_u16(tag(hash)))
    }

    /// The first slot in these places; [`NO_RULE`] if there is none.
    #[inline(always)]
    pub fn first(&self, tagged: u32) -> u32 {
        // None of them: then the one in front.
        let i = (tagged | 1 << (2 * (WIDTH + 1))).trailing_zeros() as usize / 2;
        self.slots[i % (WIDTH + 1)]
    }

    /// Whether keys went past it.
    #[inline(always)]
    pub fn overflows(&self) -> bool {
        self.tags[0] != 0
    }

    /// Where `slot` is.
    fn position(&self, slot: u32) -> Option<usize> {
        self.slots.iter().position(|&s| s == slot)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    /// A power of two of them.
    buckets: Box<[Bucket]>,
    len: usize,
}

/// The upper bits of a hash; the lower ones choose the bucket.
#[inline(always)]
fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16 | TAGGED
}

impl Default for Heads {
    fn default() -> Self {
        Heads::with_buckets(1)
    }
}

impl Heads {
    fn with_buckets(n: usize) -> Heads {
        Heads { buckets: vec![Bucket::FREE; n].into(), len: 0 }
    }

    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    fn after(&self, b: usize) -> usize {
        (b + 1) & (self.buckets.len() - 1)
    }

    /// The bucket in which a key with this hash is, if it [does not overflow](Bucket::overflows).
    #[inline(always)]
    pub fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[self.home(hash)]
    }

    /// The slot with this hash for which `is` is true, else [`NO_RULE`], wherever it is.
    pub fn search(&self, hash: u64, is: impl Fn(u32) -> bool) -> u32 {
        let mut b = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[b];
            let fits = |&i: &usize| bucket.tags[i] == tag(hash) && is(bucket.slots[i]);
            if let Some(i) = (1..=WIDTH).find(fits) {
                return bucket.slots[i];
            }
            if !bucket.overflows() {
                break;
            }
            b = self.after(b);
        }
        NO_RULE
    }

    /// Puts `slot` in, whose hash is `hash`; no slot with the same key may be in. `hash_of` tells the hashes of all.
    pub fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        if self.len == self.buckets.len() * MAX_LOAD {
            let larger = Heads::with_buckets(self.buckets.len() * 2);
            let mut old = core::mem::replace(self, larger);
            old.iter_mut().for_each(|&mut s| self.put(hash_of(s), s));
        }
        self.put(hash, slot);
    }

    fn put(&mut self, hash: u64, slot: u32) {
        self.len += 1;
        let mut b = self.home(hash);
        loop {
            let bucket = &mut self.buckets[b];
            if let Some(i) = (1..=WIDTH).find(|&i| bucket.tags[i] == 0) {
                (bucket.tags[i], bucket.slots[i]) = (tag(hash), slot);
                return;
            }
            bucket.tags[0] = (bucket.tags[0] + 1).min(MAX_PASSED);
            b = self.after(b);
        }
    }

    /// Puts `new` in the place of `old`, whose key is the same.
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let mut b = self.home(hash);
        for _ in 0..self.buckets.len() {
            if let Some(i) = self.buckets[b].position(old) {
                self.buckets[b].slots[i] = new;
                return;
            }
            b = self.after(b);
        }
    }

    /// Takes `slot` out, which must be in.
    pub fn remove(&mut self, hash: u64, slot: u32) {
        let mut b = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[b];
            if let Some(i) = bucket.position(slot) {
                (bucket.tags[i], bucket.slots[i]) = (0, NO_RULE);
                self.len -= 1;
                return;
            }
            if bucket.tags[0] < MAX_PASSED {
                bucket.tags[0] = bucket.tags[0].saturating_sub(1);
            }
            b = self.after(b);
        }
    }

    /// All slots, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut u32> {
        self.buckets.iter_mut().flat_map(|b| &mut b.slots).filter(|s| **s != NO_RULE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Hashes that share buckets and tags, and that spread.
    fn hash_of(slot: u32) -> u64 {
        let slot = u64::from(slot);
        match slot % 3 {
            0 => slot.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            _ => ((slot % 7) << 48) | (slot % 2),
        }
    }

    /// What the first bucket says, where it can.
    fn lookup(t: &Heads, slot: u32) -> u32 {
        let bucket = t.bucket(hash_of(slot));
        let tagged = bucket.tagged(hash_of(slot));
        let first = bucket.first(tagged);
        assert_eq!(first == NO_RULE, tagged == 0);
        if first == slot || first == NO_RULE && !bucket.overflows() {
            return first;
        }
        t.search(hash_of(slot), |s| s == slot)
    }

    proptest! {
        /// Against a list, through growth, full buckets and deletion.
        #[test]
        fn agrees_with_a_list(ops in prop::collection::vec((0u8..5, 1u32..100), 0..300)) {
            let mut t = Heads::default();
            let mut list: Vec<u32> = Vec::new();
            for (op, slot) in ops {
                let at = list.iter().position(|&s| s == slot);
                match (op, at) {
                    (0..=2, None) => {
                        t.insert(hash_of(slot), slot, hash_of);
                        list.push(slot);
                    }
                    (3, Some(i)) => {
                        t.remove(hash_of(slot), slot);
                        list.swap_remove(i);
                    }
                    (4, Some(_)) => {
                        t.replace(hash_of(slot), slot, 1000);
                        prop_assert_eq!(t.search(hash_of(slot), |s| s == 1000), 1000);
                        t.replace(hash_of(slot), 1000, slot);
                    }
                    _ => {}
                }
                let want = if list.contains(&slot) { slot } else { NO_RULE };
                prop_assert_eq!(lookup(&t, slot), want);
            }
            for slot in 1..100 {
                let want = if list.contains(&slot) { slot } else { NO_RULE };
                prop_assert_eq!(lookup(&t, slot), want);
            }
            let mut all: Vec<u32> = t.iter_mut().map(|s| *s).collect();
            all.sort_unstable();
            list.sort_unstable();
            prop_assert_eq!(&all, &list);
            // Nothing is left of those that passed full buckets.
            all.iter().for_each(|&s| t.remove(hash_of(s), s));
            prop_assert!(t.buckets.iter().all(|b| b.tags == [0; WIDTH + 1]));
        }
    }
}
