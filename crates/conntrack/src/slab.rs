//! Where connections live: a slab that grows by segments and moves nothing once it is larger than one.
//!
//! Where its segments are, [`Places`] tells those who have not the shard, for them to ask for memory.

use crate::tuple::Key;
use alloc::sync::Arc;
use alloc::vec::Vec;
use base::prefetch_address;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub(crate) const SEGMENT_BITS: u32 = 12;
pub(crate) const SEGMENT: usize = 1 << SEGMENT_BITS;

/// Segments that [`Places`] knows, of eight million entries together. Those of further ones are not asked for
/// beforehand.
const KNOWN_SEGMENTS: usize = 2048;

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

/// Where the segments of a slab begin; 0 for those that are not there. Who reads it knows where an entry is, or
/// was a moment ago: good enough to ask for its memory.
#[derive(Debug)]
pub(crate) struct Places([AtomicUsize; KNOWN_SEGMENTS]);

impl Places {
    /// Asks for the cache lines at these offsets in an entry of type `T`.
    #[inline]
    pub fn prefetch<T>(&self, slot: u32, offsets: &[usize]) {
        let Some(segment) = self.0.get((slot >> SEGMENT_BITS) as usize) else { return };
        let entry = slot as usize & (SEGMENT - 1);
        let address = segment.load(Relaxed).wrapping_add(entry * size_of::<T>());
        offsets.iter().for_each(|o| prefetch_address(address.wrapping_add(*o)));
    }
}

/// Connections (or what else is found by a key) by slot number.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    segments: Vec<Vec<T>>,
    places: Arc<Places>,
    free: Option<u32>,
    used: u32,
    live: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        let places = Arc::new(Places([const { AtomicUsize::new(0) }; KNOWN_SEGMENTS]));
        Slab { segments: Vec::new(), places, free: None, used: 0, live: 0 }
    }
}

impl<T: Entry> Slab<T> {
    /// Connections alive.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// Where its entries are.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
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
        let number = self.segments.len() - 1;
        let last = &mut self.segments[number];
        last.push(entry);
        if let Some(place) = self.places.0.get(number) {
            place.store(last.as_ptr().addr(), Relaxed);
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
