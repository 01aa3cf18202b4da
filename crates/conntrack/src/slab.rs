//! Where that lives which only who has the shard looks at: a slab that grows by segments and moves nothing once it
//! is larger than one.

use crate::index::Entries;
use crate::tuple::Key;
use alloc::vec::Vec;

pub(crate) const SEGMENT_BITS: u32 = 12;
pub(crate) const SEGMENT: usize = 1 << SEGMENT_BITS;

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

/// What is found by a key, by slot number.
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

impl<T: Entry> Entries for Slab<T> {
    #[inline]
    fn has_key(&self, slot: u32, key: &Key) -> bool {
        self.get(slot).key().is(key)
    }

    fn hash(&self, slot: u32) -> u32 {
        self.get(slot).hash()
    }

    fn next(&self, slot: u32) -> u32 {
        self.get(slot).next()
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.get_mut(slot).set_next(next);
    }
}
