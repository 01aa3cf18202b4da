//! Where connections live: a slab in segments, and the index by key.
//!
//! Neither moves what it holds once it is larger than one segment, so growth costs one small step
//! per insert and no packet waits for a rehash: the slab grows by segments, the index by linear hashing (Litwin 1980),
//! which splits one bucket per insert. Chains are intrusive: a connection holds its hash and the
//! link to the next.

use crate::tuple::Key;
use alloc::vec::Vec;
use base::{HashKey, prefetch};

const SEGMENT_BITS: u32 = 12;
const SEGMENT: usize = 1 << SEGMENT_BITS;
const FIRST_BUCKETS: u32 = 64;

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
}

/// Makes a type with fields of these names an [`Entry`].
macro_rules! entry {
    ($ty:ty) => {
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
    pub fn insert(&mut self, mut entry: T) -> u32 {
        entry.set_alive(true);
        self.live += 1;
        if let Some(slot) = self.free {
            let place = self.get_mut(slot);
            let next_free = place.next();
            entry.set_generation(place.generation());
            *place = entry;
            self.free = (next_free != NIL).then_some(next_free);
            if let Some(next) = self.free {
                prefetch(self.get(next));
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

/// Slots by key.
#[derive(Debug)]
pub(crate) struct Index {
    heads: Vec<Vec<u32>>,
    buckets: u32,
    /// Smallest `2^n - 1` that is at least `buckets - 1`.
    mask: u32,
    entries: u32,
    secret: HashKey,
}

impl Index {
    /// An empty index of entries that are hashed with this secret.
    pub fn new(secret: HashKey) -> Index {
        let mut first = Vec::with_capacity(FIRST_BUCKETS as usize);
        first.resize(FIRST_BUCKETS as usize, NIL);
        Index {
            heads: alloc::vec![first],
            buckets: FIRST_BUCKETS,
            mask: FIRST_BUCKETS - 1,
            entries: 0,
            secret,
        }
    }

    #[inline]
    fn bucket(&self, hash: u32) -> u32 {
        let b = hash & self.mask;
        if b < self.buckets { b } else { b & (self.mask >> 1) }
    }

    #[inline]
    fn head(&self, bucket: u32) -> u32 {
        self.heads[(bucket >> SEGMENT_BITS) as usize][bucket as usize & (SEGMENT - 1)]
    }

    fn set_head(&mut self, bucket: u32, slot: u32) {
        self.heads[(bucket >> SEGMENT_BITS) as usize][bucket as usize & (SEGMENT - 1)] = slot;
    }

    /// Asks for the place where a search for `hash` begins.
    #[inline]
    pub fn prefetch(&self, hash: u32) {
        let bucket = self.bucket(hash);
        prefetch(&self.heads[(bucket >> SEGMENT_BITS) as usize][bucket as usize & (SEGMENT - 1)]);
    }

    /// The slot that a search for `hash` looks at first.
    #[inline]
    pub fn first(&self, hash: u32) -> Option<u32> {
        Some(self.head(self.bucket(hash))).filter(|slot| *slot != NIL)
    }

    /// The slot of the connection with `key`.
    #[inline]
    pub fn find<T: Entry>(&self, slab: &Slab<T>, hash: u32, key: &Key) -> Option<u32> {
        let mut at = self.head(self.bucket(hash));
        while at != NIL {
            let c = slab.get(at);
            if c.key().is(key) {
                return Some(at);
            }
            at = c.next();
        }
        None
    }

    /// Adds a connection that is in the slab and not in the index.
    pub fn insert<T: Entry>(&mut self, slab: &mut Slab<T>, slot: u32) {
        let bucket = self.bucket(slab.get(slot).hash());
        let head = self.head(bucket);
        slab.get_mut(slot).set_next(head);
        self.set_head(bucket, slot);
        self.entries += 1;
        // Twice as many buckets as entries: most chains are one long.
        for _ in 0..2 {
            if self.entries > self.buckets / 2 && self.buckets < 1 << 31 {
                self.split(slab);
            }
        }
        if let Some(slot) = self.first_to_move() {
            prefetch(slab.get(slot));
        }
    }

    /// The bucket that the next split divides.
    fn next_to_split(&self) -> u32 {
        let mask = if self.buckets > self.mask { self.mask } else { self.mask >> 1 };
        self.buckets & mask
    }

    fn first_to_move(&self) -> Option<u32> {
        Some(self.head(self.next_to_split())).filter(|slot| *slot != NIL)
    }

    /// Takes a connection out.
    pub fn remove<T: Entry>(&mut self, slab: &mut Slab<T>, slot: u32) {
        let (hash, after) = {
            let c = slab.get(slot);
            (c.hash(), c.next())
        };
        let bucket = self.bucket(hash);
        let mut at = self.head(bucket);
        if at == slot {
            self.set_head(bucket, after);
        } else {
            while slab.get(at).next() != slot {
                at = slab.get(at).next();
            }
            slab.get_mut(at).set_next(after);
        }
        self.entries -= 1;
    }

    /// One more bucket, filled from the one that held its hashes so far.
    fn split<T: Entry>(&mut self, slab: &mut Slab<T>) {
        let (old, new) = (self.next_to_split(), self.buckets);
        if new > self.mask {
            self.mask = self.mask << 1 | 1;
        }
        if new as usize & (SEGMENT - 1) == 0 {
            self.heads.push(Vec::with_capacity(SEGMENT));
        }
        if let Some(last) = self.heads.last_mut() {
            last.push(NIL);
        }
        self.buckets += 1;
        let mut at = self.head(old);
        self.set_head(old, NIL);
        while at != NIL {
            let next = slab.get(at).next();
            // The key is beside the link; the hash is not.
            let to = self.bucket(slab.get(at).key().hash(self.secret));
            let head = self.head(to);
            slab.get_mut(at).set_next(head);
            self.set_head(to, at);
            at = next;
        }
    }
}
