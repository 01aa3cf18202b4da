//! Where connections live: segments that stay where they are, so that threads may look at a connection that have not
//! the shard. Who has the shard puts connections in and takes them out.

use crate::conn::Conn;
use crate::index::Entries;
use crate::slab::NIL;
use crate::tuple::Key;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use once_cell::race::OnceBox;

/// Connections of a segment, segments of a part, and parts that there may be: a thousand million connections.
const SEGMENT_BITS: u32 = 10;
const SEGMENT: usize = 1 << SEGMENT_BITS;
const PART_BITS: u32 = 10;
const PART: usize = 1 << PART_BITS;
const PARTS: usize = 1 << 10;

type Segment = [Conn; SEGMENT];
type Part = [OnceBox<Segment>; PART];

/// All places of connections; those that were never needed take no room.
#[derive(Debug)]
pub(crate) struct Places([OnceBox<Part>; PARTS]);

/// Something that is too large for the stack.
fn boxed<T, const N: usize>(make: impl Fn() -> T) -> Box<[T; N]> {
    let mut all = Vec::with_capacity(N);
    all.resize_with(N, make);
    Box::try_from(all.into_boxed_slice()).unwrap_or_else(|_| unreachable!())
}

impl Places {
    /// What is in a slot, or was; `None` if the slot was never used.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&Conn> {
        let segment = slot >> SEGMENT_BITS;
        let part = self.0.get((segment >> PART_BITS) as usize)?.get()?;
        let segment = part[segment as usize & (PART - 1)].get()?;
        Some(&segment[slot as usize & (SEGMENT - 1)])
    }

    /// Makes room for a slot.
    fn make(&self, slot: u32) {
        let segment = slot >> SEGMENT_BITS;
        let part = self.0[(segment >> PART_BITS) as usize].get_or_init(|| boxed(OnceBox::new));
        part[segment as usize & (PART - 1)].get_or_init(|| boxed(Conn::blank));
    }
}

/// The connections of a shard by slot number.
#[derive(Debug)]
pub(crate) struct Conns {
    places: Arc<Places>,
    free: u32,
    used: u32,
    live: u32,
}

impl Default for Conns {
    fn default() -> Self {
        let places = Arc::new(Places([const { OnceBox::new() }; PARTS]));
        Conns { places, free: NIL, used: 0, live: 0 }
    }
}

impl Conns {
    /// Connections alive.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    /// For those who have not the shard.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// One more than the highest slot ever used.
    pub fn slots(&self) -> u32 {
        self.used
    }

    /// What is in a slot that was used.
    #[inline]
    pub fn get(&self, slot: u32) -> &Conn {
        match self.places.get(slot) {
            Some(c) => c,
            None => unreachable!("slot {slot} was never used"),
        }
    }

    /// The connection in `slot` if one is alive there.
    #[inline]
    pub fn live(&self, slot: u32) -> Option<&Conn> {
        self.places.get(slot).filter(|c| c.is_alive())
    }

    /// The same, if it is still the one of this generation.
    #[inline]
    pub fn same(&self, slot: u32, generation: u32) -> Option<&Conn> {
        self.live(slot).filter(|c| c.generation.get() == generation)
    }

    /// A slot for a connection, which is alive and has nothing yet. Its generation follows on that of the slot's last
    /// one.
    #[inline]
    pub fn insert(&mut self) -> u32 {
        self.live += 1;
        if self.free != NIL {
            let slot = self.free;
            let place = self.get(slot);
            let next = place.next.get();
            place.clear();
            place.set_alive(true);
            self.free = next;
            if let Some(next) = self.places.get(next) {
                next.prefetch();
            }
            return slot;
        }
        let slot = self.used;
        self.used += 1;
        self.places.make(slot);
        self.get(slot).set_alive(true);
        slot
    }

    /// Frees a slot. The connection must be alive, closed, and out of index and wheel.
    pub fn remove(&mut self, slot: u32) {
        let c = self.get(slot);
        c.set_alive(false);
        c.generation.set(c.generation.get().wrapping_add(1));
        c.next.set(self.free);
        self.free = slot;
        self.live -= 1;
    }
}

impl Entries for Conns {
    #[inline]
    fn has_key(&self, slot: u32, key: &Key) -> bool {
        self.get(slot).has_key(key)
    }

    fn hash(&self, slot: u32) -> u32 {
        self.get(slot).hash.get()
    }

    fn next(&self, slot: u32) -> u32 {
        self.get(slot).next.get()
    }

    fn set_next(&mut self, slot: u32, next: u32) {
        self.get(slot).next.set(next);
    }
}
