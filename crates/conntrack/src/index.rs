//! The index: from the hash of a key to the slots of the entries that have it.
//!
//! It moves nothing but what one bucket has, so no packet waits for a rehash: it grows by linear hashing (Litwin
//! 1980), which splits no more than one bucket per insert. A bucket is a cache line with the hashes and slots of its
//! entries, so a search that comes to the slab has found, and a split needs nothing else. Entries that
//! have no place in their bucket are in an intrusive chain.
//!
//! Whoever has not the shard may look into the buckets as well ([`Buckets`]) to learn what to ask for: what he
//! sees may be changing under his eyes, so it is a guess.

use crate::slab::{NIL, SEGMENT, SEGMENT_BITS};
use crate::tuple::Key;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use once_cell::race::OnceBox;

const FIRST_BUCKETS: u32 = 8;

/// Entries there are for each bucket, at most: one in a hundred has no place in its bucket then.
const LOAD: u32 = 3;

/// Segments that there may be. With more than 25 million entries there are more for each bucket.
const MAX_SEGMENTS: usize = 2048;

/// Entries of a bucket.
const WIDTH: usize = 7;

/// Where entries are whose hashes have the same low bits: a cache line. Places in use come first. Only who has
/// the shard writes.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Bucket {
    /// The last is how many there are: eight are compared as fast as seven.
    hashes: [AtomicU32; WIDTH + 1],
    /// The last is the first of those that have no place: they are linked by [`Entries::next`].
    slots: [AtomicU32; WIDTH + 1],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    fn new() -> Bucket {
        Bucket {
            hashes: [const { AtomicU32::new(0) }; WIDTH + 1],
            slots: [const { AtomicU32::new(NIL) }; WIDTH + 1],
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.hashes[WIDTH].load(Relaxed) as usize
    }

    fn set_len(&self, n: usize) {
        self.hashes[WIDTH].store(n as u32, Relaxed);
    }

    #[inline]
    fn slot(&self, i: usize) -> u32 {
        self.slots[i % self.slots.len()].load(Relaxed)
    }

    fn entry(&self, i: usize) -> (u32, u32) {
        (self.hashes[i].load(Relaxed), self.slots[i].load(Relaxed))
    }

    fn set_entry(&self, i: usize, (hash, slot): (u32, u32)) {
        self.hashes[i].store(hash, Relaxed);
        self.slots[i].store(slot, Relaxed);
    }

    #[inline]
    fn more(&self) -> u32 {
        self.slots[WIDTH].load(Relaxed)
    }

    fn set_more(&self, slot: u32) {
        self.slots[WIDTH].store(slot, Relaxed);
    }

    /// The places of a hash, one bit each.
    #[inline]
    fn places(&self, hash: u32) -> u32 {
        let hashes = self.hashes.each_ref().map(|h| h.load(Relaxed));
        let same = hashes.map(|h| u32::from(h == hash));
        let places = same.iter().enumerate().fold(0, |set, (i, same)| set | same << i);
        places & ((1 << (self.len() & WIDTH)) - 1)
    }

    /// The slot that a search for `hash` looks at first: nearly always the one it is for, if there
    /// is one.
    #[inline]
    pub fn first(&self, hash: u32) -> Option<u32> {
        match self.places(hash) {
            0 => Some(self.more()).filter(|slot| *slot != NIL),
            places => Some(self.slot(places.trailing_zeros() as usize)),
        }
    }

    /// Whether there was a place.
    fn put(&self, hash: u32, slot: u32) -> bool {
        let i = self.len();
        let fits = i < WIDTH;
        if fits {
            self.set_entry(i, (hash, slot));
            self.set_len(i + 1);
        }
        fits
    }

    /// Takes out what stands in a place.
    fn take(&self, i: usize) {
        let last = self.len() - 1;
        self.set_entry(i, self.entry(last));
        self.slots[last].store(NIL, Relaxed);
        self.set_len(last);
    }
}

/// All buckets of an index.
#[derive(Debug)]
pub(crate) struct Buckets {
    n: AtomicU32,
    /// Those that were needed so far, from the first on.
    segments: [OnceBox<[Bucket; SEGMENT]>; MAX_SEGMENTS],
}

impl Buckets {
    /// How many there are.
    #[inline]
    fn n(&self) -> u32 {
        self.n.load(Relaxed)
    }

    /// The number of the bucket for a hash, of `n`.
    #[inline]
    fn number(hash: u32, n: u32) -> u32 {
        // The smallest 2^k - 1 that is at least n - 1.
        let mask = u32::MAX >> (n - 1).leading_zeros();
        let b = hash & mask;
        if b < n { b } else { b & (mask >> 1) }
    }

    #[inline]
    fn bucket(&self, number: u32) -> Option<&Bucket> {
        let segment = self.segments.get((number >> SEGMENT_BITS) as usize)?.get()?;
        Some(&segment[number as usize & (SEGMENT - 1)])
    }

    /// The bucket for a hash.
    #[inline]
    pub fn of(&self, hash: u32) -> Option<&Bucket> {
        self.bucket(Buckets::number(hash, self.n()))
    }
}

/// What an index finds: entries that are linked if they have no place in their bucket.
pub(crate) trait Entries {
    fn has_key(&self, slot: u32, key: &Key) -> bool;
    fn hash(&self, slot: u32) -> u32;
    fn next(&self, slot: u32) -> u32;
    fn set_next(&mut self, slot: u32, next: u32);
}

/// Slots by key.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Index {
    buckets: Arc<Buckets>,
    entries: u32,
}

impl Default for Index {
    fn default() -> Self {
        let n = AtomicU32::new(FIRST_BUCKETS);
        let segments = [const { OnceBox::new() }; MAX_SEGMENTS];
        Index { buckets: Arc::new(Buckets { n, segments }), entries: 0 }
    }
}

impl Index {
    /// For who has not the shard.
    pub fn buckets(&self) -> &Arc<Buckets> {
        &self.buckets
    }

    /// The slot of the connection with `key`.
    #[inline]
    pub fn find<E: Entries>(&self, slab: &E, hash: u32, key: &Key) -> Option<u32> {
        let bucket = self.buckets.of(hash)?;
        let mut places = bucket.places(hash);
        while places != 0 {
            let slot = bucket.slot(places.trailing_zeros() as usize);
            if slab.has_key(slot, key) {
                return Some(slot);
            }
            places &= places - 1;
        }
        match bucket.more() {
            NIL => None,
            more => find_in_chain(slab, more, key),
        }
    }

    /// Adds a connection that is in the slab and not in the index.
    pub fn insert<E: Entries>(&mut self, slab: &mut E, slot: u32) {
        let (hash, n) = (slab.hash(slot), self.buckets.n());
        self.put(slab, Buckets::number(hash, n), hash, slot);
        self.entries += 1;
        if self.entries > n * LOAD && (n as usize) < MAX_SEGMENTS * SEGMENT {
            self.split(slab);
        }
    }

    /// A bucket to be written; its segment is made if it is not there.
    fn bucket(&self, number: u32) -> &Bucket {
        let make = || {
            let mut buckets = Vec::with_capacity(SEGMENT);
            buckets.resize_with(SEGMENT, Bucket::new);
            Box::try_from(buckets.into_boxed_slice()).unwrap_or_else(|_| unreachable!())
        };
        let segment = &self.buckets.segments[(number >> SEGMENT_BITS) as usize];
        &segment.get_or_init(make)[number as usize & (SEGMENT - 1)]
    }

    fn put<E: Entries>(&self, slab: &mut E, number: u32, hash: u32, slot: u32) {
        let bucket = self.bucket(number);
        if !bucket.put(hash, slot) {
            slab.set_next(slot, bucket.more());
            bucket.set_more(slot);
        }
    }

    /// Takes a connection out.
    pub fn remove<E: Entries>(&mut self, slab: &mut E, slot: u32) {
        let (hash, after) = (slab.hash(slot), slab.next(slot));
        self.entries -= 1;
        let bucket = self.bucket(Buckets::number(hash, self.buckets.n()));
        match (0..bucket.len()).find(|i| bucket.slot(*i) == slot) {
            Some(place) => {
                bucket.take(place);
                // Whoever waits for a place gets it.
                let first = bucket.more();
                if first != NIL {
                    bucket.set_more(slab.next(first));
                    bucket.put(slab.hash(first), first);
                }
            }
            None if bucket.more() == slot => bucket.set_more(after),
            None => {
                let mut at = bucket.more();
                while slab.next(at) != slot {
                    at = slab.next(at);
                }
                slab.set_next(at, after);
            }
        }
    }

    /// One more bucket, filled from the one that held its hashes so far.
    fn split<E: Entries>(&mut self, slab: &mut E) {
        let new = self.buckets.n();
        // Without its highest bit.
        let old = new & (u32::MAX >> new.leading_zeros() >> 1);
        let bucket = self.bucket(old);
        let was: [(u32, u32); WIDTH] = core::array::from_fn(|i| bucket.entry(i));
        let (len, mut at) = (bucket.len(), bucket.more());
        (0..len).rev().for_each(|i| bucket.take(i));
        bucket.set_more(NIL);
        let n = new + 1;
        for (hash, slot) in was.into_iter().take(len) {
            self.put(slab, Buckets::number(hash, n), hash, slot);
        }
        while at != NIL {
            let (hash, next) = (slab.hash(at), slab.next(at));
            self.put(slab, Buckets::number(hash, n), hash, at);
            at = next;
        }
        self.buckets.n.store(n, Relaxed);
    }
}

/// The connection with `key` among those that have no place in their bucket.
#[cold]
fn find_in_chain<E: Entries>(slab: &E, first: u32, key: &Key) -> Option<u32> {
    let mut at = first;
    while at != NIL {
        if slab.has_key(at, key) {
            return Some(at);
        }
        at = slab.next(at);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slab;
    use crate::tuple::Tuple;
    use base::Zone;
    use core::net::{IpAddr, Ipv4Addr};
    use std::collections::BTreeMap;

    #[derive(Debug)]
    struct Thing {
        key: Key,
        hash: u32,
        next: u32,
        generation: u32,
        alive: bool,
    }

    crate::slab::entry!(Thing);

    fn thing(n: u32, hash: u32) -> Thing {
        let (src, dst) = (IpAddr::V4(Ipv4Addr::from(n)), IpAddr::V4(Ipv4Addr::from(1)));
        let key = Tuple::ports(src, dst, 17, 1, 2).key(Zone(0)).0;
        Thing { key, hash, next: NIL, generation: 1, alive: true }
    }

    /// Whatever the hashes are, be they all the same or fill a few buckets only, what was put in is
    /// found and what was taken out is not.
    #[test]
    fn what_is_in_the_index_is_found_whatever_its_hash_is() {
        let spread = |n: u32| n.wrapping_mul(0x9e37_79b9) ^ n >> 3;
        let hashes: [fn(u32) -> u32; 4] = [|_| 77, |n| n % 3, |n| n << 12, |n| n];
        for hash_of in hashes.into_iter().chain([spread as fn(u32) -> u32]) {
            let (mut slab, mut index) = (Slab::default(), Index::default());
            let mut there = BTreeMap::new();
            for step in 0..3000_u32 {
                let n = spread(step) % 700;
                let t = thing(n, hash_of(n));
                if let Some(slot) = there.remove(&n) {
                    assert_eq!(index.find(&slab, t.hash, &t.key), Some(slot));
                    index.remove(&mut slab, slot);
                    slab.remove(slot);
                } else {
                    assert_eq!(index.find(&slab, t.hash, &t.key), None);
                    let slot = slab.insert(t);
                    index.insert(&mut slab, slot);
                    there.insert(n, slot);
                }
                if step % 100 == 0 {
                    for n in 0..700 {
                        let t = thing(n, hash_of(n));
                        assert_eq!(index.find(&slab, t.hash, &t.key), there.get(&n).copied());
                    }
                }
            }
            assert_eq!(slab.len(), there.len());
        }
    }
}
