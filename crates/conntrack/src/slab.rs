//! Where connections live: a slab in segments, and the index by key.
//!
//! Neither moves what it holds once it is larger than one segment, so growth costs one small step
//! per insert and no packet waits for a rehash: the slab grows by segments, the index by linear hashing (Litwin 1980),
//! which splits no more than one bucket per insert. A bucket is a cache line with the hashes and slots of its
//! entries, so a search that comes to the slab has found, and a split needs nothing else. Entries that
//! have no place in their bucket are in an intrusive chain.

use crate::tuple::Key;
use alloc::vec::Vec;
use base::prefetch;

const SEGMENT_BITS: u32 = 12;
const SEGMENT: usize = 1 << SEGMENT_BITS;
const FIRST_BUCKETS: u32 = 8;
/// Entries there are for each bucket, at most: one in a hundred has no place in its bucket then.
const LOAD: u32 = 3;

/// "No slot" in the links.
pub(crate) const NIL: u32 = u32::MAX;

/// What an entry has of its own for the slab and the index.
pub(crate) trait Entry {
    fn key(&self) -> &Key;
    fn hash(&self) -> u32;
    /// Next in the index chain, or in the free list.
    fn next(&self) -> u32;
    fn set_next(&mut self, slot: u32);
    /// How often the slot was given up, from 1 on.
    fn generation(&self) -> u32;
    fn set_generation(&mut self, n: u32);
    fn is_alive(&self) -> bool;
    fn set_alive(&mut self, alive: bool);
    /// Asks for all of it.
    fn prefetch(&self);
}

/// Makes a type with fields of these names an [`Entry`]. Further fields are those with which cache lines
/// after the first begin.
macro_rules! entry {
    ($ty:ty $(, $line:ident)*) => {
        impl $crate::slab::Entry for $ty {
            #[inline]
            fn key(&self) -> &Key {
                &self.key
            }

            fn hash(&self) -> u32 {
                self.hash
            }

            #[inline]
            fn next(&self) -> u32 {
                self.next
            }

            fn set_next(&mut self, slot: u32) {
                self.next = slot;
            }

            fn generation(&self) -> u32 {
                self.generation
            }

            fn set_generation(&mut self, n: u32) {
                self.generation = n;
            }

            fn is_alive(&self) -> bool {
                self.alive
            }

            fn set_alive(&mut self, alive: bool) {
                self.alive = alive;
            }

            fn prefetch(&self) {
                base::prefetch(self);
                $(base::prefetch(&self.$line);)*
            }
        }
    };
}
pub(crate) use entry;

/// Connections (or what else is found by a key) by slot number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    segments: Vec<Vec<T>>,
    free: Option<u32>,
    used: u32,
    live: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { segments: Vec::new(), free: None, used: 0, live: 0 }
    }
}

impl<T: Entry> Slab<T> {
    /// Connections alive.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// One more than the highest slot ever used.
    pub fn slots(&self) -> u32 {
        self.used
    }

    #[inline]
    pub fn get(&self, slot: u32) -> &T {
        &self.segments[(slot >> SEGMENT_BITS) as usize][slot as usize & (SEGMENT - 1)]
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> &mut T {
        &mut self.segments[(slot >> SEGMENT_BITS) as usize][slot as usize & (SEGMENT - 1)]
    }

    /// What is in `slot`, dead or alive, if it was ever used.
    #[inline]
    pub fn place(&self, slot: u32) -> Option<&T> {
        self.segments.get((slot >> SEGMENT_BITS) as usize)?.get(slot as usize & (SEGMENT - 1))
    }

    /// The connection in `slot` if one is alive there.
    #[inline]
    pub fn live(&self, slot: u32) -> Option<&T> {
        if slot >= self.used {
            return None;
        }
        Some(self.get(slot)).filter(|c| c.is_alive())
    }

    /// The same, if it is still the one of this generation.
    #[inline]
    pub fn same(&self, slot: u32, generation: u32) -> Option<&T> {
        self.live(slot).filter(|c| c.generation() == generation)
    }

    /// Stores a connection; its generation follows on that of the slot's last one.
    #[inline]
    pub fn insert(&mut self, entry: T) -> u32 {
        self.live += 1;
        if let Some(slot) = self.free {
            let place = self.get_mut(slot);
            let (next_free, generation) = (place.next(), place.generation());
            *place = entry;
            place.set_alive(true);
            place.set_generation(generation);
            self.free = (next_free != NIL).then_some(next_free);
            if let Some(next) = self.free {
                self.get(next).prefetch();
            }
            return slot;
        }
        let slot = self.used;
        if slot as usize & (SEGMENT - 1) == 0 {
            // A small table takes what it needs, a large one whole segments.
            self.segments.push(Vec::with_capacity(if slot == 0 { 64 } else { SEGMENT }));
        }
        if let Some(last) = self.segments.last_mut() {
            last.push(entry);
        }
        self.get_mut(slot).set_alive(true);
        self.used += 1;
        slot
    }

    /// Frees a slot. The connection must be alive and out of index and wheel.
    pub fn remove(&mut self, slot: u32) {
        let next = self.free.unwrap_or(NIL);
        let c = self.get_mut(slot);
        c.set_alive(false);
        c.set_generation(c.generation().wrapping_add(1));
        c.set_next(next);
        self.free = Some(slot);
        self.live -= 1;
    }
}

/// Entries of a bucket.
const WIDTH: usize = 7;

/// Where entries are whose hashes have the same low bits: a cache line. Places in use come first.
#[derive(Copy, Clone, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// The last is how many there are: eight are compared as fast as seven.
    hashes: [u32; WIDTH + 1],
    /// The last is the first of those that have no place: they are linked by [`Entry::next`].
    slots: [u32; WIDTH + 1],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const EMPTY: Bucket = Bucket { hashes: [0; WIDTH + 1], slots: [NIL; WIDTH + 1] };

    #[inline]
    fn len(&self) -> usize {
        self.hashes[WIDTH] as usize
    }

    #[inline]
    fn more(&self) -> u32 {
        self.slots[WIDTH]
    }

    fn set_more(&mut self, slot: u32) {
        self.slots[WIDTH] = slot;
    }

    /// The places of a hash, one bit each.
    #[inline]
    fn places(&self, hash: u32) -> u32 {
        let same = self.hashes.map(|h| u32::from(h == hash));
        let places = same.iter().enumerate().fold(0, |set, (i, same)| set | same << i);
        places & ((1 << self.len()) - 1)
    }

    /// Whether there was a place.
    fn put(&mut self, hash: u32, slot: u32) -> bool {
        let i = self.len();
        let fits = i < WIDTH;
        if fits {
            (self.hashes[i], self.slots[i]) = (hash, slot);
            self.hashes[WIDTH] += 1;
        }
        fits
    }

    /// Takes out what stands in a place.
    fn take(&mut self, i: usize) {
        let last = self.len() - 1;
        (self.hashes[i], self.slots[i]) = (self.hashes[last], self.slots[last]);
        self.slots[last] = NIL;
        self.hashes[WIDTH] -= 1;
    }
}

/// Slots by key.
#[derive(Debug)]
pub(crate) struct Index {
    segments: Vec<Vec<Bucket>>,
    buckets: u32,
    /// Smallest `2^n - 1` that is at least `buckets - 1`.
    mask: u32,
    entries: u32,
}

impl Default for Index {
    fn default() -> Self {
        let first = alloc::vec![Bucket::EMPTY; FIRST_BUCKETS as usize];
        Index {
            segments: alloc::vec![first],
            buckets: FIRST_BUCKETS,
            mask: FIRST_BUCKETS - 1,
            entries: 0,
        }
    }
}

impl Index {
    #[inline]
    fn number(&self, hash: u32) -> u32 {
        let b = hash & self.mask;
        if b < self.buckets { b } else { b & (self.mask >> 1) }
    }

    #[inline]
    fn bucket(&self, number: u32) -> &Bucket {
        &self.segments[(number >> SEGMENT_BITS) as usize][number as usize & (SEGMENT - 1)]
    }

    fn bucket_mut(&mut self, number: u32) -> &mut Bucket {
        &mut self.segments[(number >> SEGMENT_BITS) as usize][number as usize & (SEGMENT - 1)]
    }

    /// It is one segment.
    #[inline]
    pub fn is_small(&self) -> bool {
        self.segments.len() == 1
    }

    /// Asks for the place where a search for `hash` begins.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        prefetch(self.bucket(self.number(hash)));
    }

    /// The slot that a search for `hash` looks at first: nearly always the one it is for, if there
    /// is one.
    #[inline]
    pub fn first(&self, hash: u32) -> Option<u32> {
        let bucket = self.bucket(self.number(hash));
        match bucket.places(hash) {
            0 => Some(bucket.more()).filter(|slot| *slot != NIL),
            places => Some(bucket.slots[places.trailing_zeros() as usize % bucket.slots.len()]),
        }
    }

    /// The slot of the connection with `key`.
    #[inline]
    pub fn find<T: Entry>(&self, slab: &Slab<T>, hash: u32, key: &Key) -> Option<u32> {
        let bucket = self.bucket(self.number(hash));
        let mut places = bucket.places(hash);
        while places != 0 {
            let slot = bucket.slots[places.trailing_zeros() as usize % bucket.slots.len()];
            if slab.get(slot).key().is(key) {
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
    pub fn insert<T: Entry>(&mut self, slab: &mut Slab<T>, slot: u32) {
        let hash = slab.get(slot).hash();
        self.put(slab, self.number(hash), hash, slot);
        self.entries += 1;
        if self.entries > self.buckets * LOAD && self.buckets < 1 << 29 {
            self.split(slab);
        }
    }

    fn put<T: Entry>(&mut self, slab: &mut Slab<T>, number: u32, hash: u32, slot: u32) {
        let bucket = self.bucket_mut(number);
        if !bucket.put(hash, slot) {
            slab.get_mut(slot).set_next(bucket.more());
            bucket.set_more(slot);
        }
    }

    /// Takes a connection out.
    pub fn remove<T: Entry>(&mut self, slab: &mut Slab<T>, slot: u32) {
        let (hash, after) = {
            let c = slab.get(slot);
            (c.hash(), c.next())
        };
        self.entries -= 1;
        let bucket = self.bucket_mut(self.number(hash));
        match bucket.slots[..WIDTH].iter().position(|s| *s == slot) {
            Some(place) => {
                bucket.take(place);
                // Whoever waits for a place gets it.
                let first = bucket.more();
                if first != NIL {
                    let c = slab.get(first);
                    bucket.set_more(c.next());
                    bucket.put(c.hash(), first);
                }
            }
            None if bucket.more() == slot => bucket.set_more(after),
            None => {
                let mut at = bucket.more();
                while slab.get(at).next() != slot {
                    at = slab.get(at).next();
                }
                slab.get_mut(at).set_next(after);
            }
        }
    }

    /// One more bucket, filled from the one that held its hashes so far.
    fn split<T: Entry>(&mut self, slab: &mut Slab<T>) {
        let new = self.buckets;
        if new > self.mask {
            self.mask = self.mask << 1 | 1;
        }
        let old = new & (self.mask >> 1);
        if new as usize & (SEGMENT - 1) == 0 {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        if let Some(last) = self.segments.last_mut() {
            last.push(Bucket::EMPTY);
        }
        self.buckets += 1;
        let was = core::mem::replace(self.bucket_mut(old), Bucket::EMPTY);
        for i in 0..was.len() {
            let (hash, slot) = (was.hashes[i], was.slots[i]);
            self.put(slab, self.number(hash), hash, slot);
        }
        let mut at = was.more();
        while at != NIL {
            let c = slab.get(at);
            let (hash, next) = (c.hash(), c.next());
            self.put(slab, self.number(hash), hash, at);
            at = next;
        }
    }
}

/// The connection with `key` among those that have no place in their bucket.
#[cold]
fn find_in_chain<T: Entry>(slab: &Slab<T>, first: u32, key: &Key) -> Option<u32> {
    let mut at = first;
    while at != NIL {
        let c = slab.get(at);
        if c.key().is(key) {
            return Some(at);
        }
        at = c.next();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
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

    entry!(Thing);

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
