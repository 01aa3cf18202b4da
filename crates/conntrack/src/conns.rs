//! Where connections live: segments that stay where they are, so that threads may look at a connection that have not
//! the shard. Who has the shard puts connections in and takes them out.

use crate::conn::Conn;
use crate::index::Entries;
use crate::open::Rules;
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

/// Places of so many connections.
#[derive(Debug)]
pub struct Segment([Conn; SEGMENT]);

impl Default for Segment {
    fn default() -> Segment {
        Segment([const { Conn::blank() }; SEGMENT])
    }
}

/// Where a tracker has its connections, if not on the heap: in memory that it shares with programs of the kernel
/// ([`crate::layout`]). What it gives is nobody else's.
pub trait Memory: core::fmt::Debug + Send + Sync {
    /// A new segment; none if there is no more room.
    fn segment(&self) -> Option<&'static Segment>;

    /// New rules.
    fn rules(&self) -> Option<&'static Rules>;
}

#[derive(Debug)]
enum Held {
    Own(Box<[Conn; SEGMENT]>),
    Lent(&'static Segment),
}

type Part = [OnceBox<Held>; PART];

/// All places of connections; those that were never needed take no room.
#[derive(Debug)]
pub(crate) struct Places {
    parts: [OnceBox<Part>; PARTS],
    memory: Option<Arc<dyn Memory>>,
}

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
        let part = self.parts.get((segment >> PART_BITS) as usize)?.get()?;
        let conns = match part[segment as usize & (PART - 1)].get()? {
            Held::Own(conns) => conns,
            Held::Lent(Segment(conns)) => conns,
        };
        Some(&conns[slot as usize & (SEGMENT - 1)])
    }

    /// The connection in `slot` if it is alive and still the one of this generation.
    #[inline]
    pub fn same(&self, slot: u32, generation: u32) -> Option<&Conn> {
        self.get(slot).filter(|c| c.is_alive() && c.generation.get() == generation)
    }

    /// What is or was in a slot, if it lies in memory of somebody else.
    pub fn lent(&self, slot: u32) -> Option<&'static Conn> {
        let segment = slot >> SEGMENT_BITS;
        let part = self.parts.get((segment >> PART_BITS) as usize)?.get()?;
        match part[segment as usize & (PART - 1)].get()? {
            Held::Own(_) => None,
            Held::Lent(Segment(conns)) => Some(&conns[slot as usize & (SEGMENT - 1)]),
        }
    }

    /// Makes room for a slot.
    fn make(&self, slot: u32) {
        let segment = slot >> SEGMENT_BITS;
        let part = self.parts[(segment >> PART_BITS) as usize].get_or_init(|| boxed(OnceBox::new));
        part[segment as usize & (PART - 1)].get_or_init(|| {
            let lent = self.memory.as_ref().and_then(|m| m.segment());
            Box::new(lent.map_or_else(|| Held::Own(boxed(Conn::blank)), Held::Lent))
        });
    }
}

/// Free slots are kept in so many lists, by number: each thread has one that it takes from first, so that slots return
/// to the thread that had them, and neighbours in memory have the same.
const LANES: usize = 4;
const LANE_SHIFT: u32 = 6;

/// The connections of a shard by slot number.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Conns {
    free: [u32; LANES],
    used: u32,
    live: u32,
    places: Arc<Places>,
}

impl Conns {
    /// No connections yet.
    pub fn new(memory: Option<Arc<dyn Memory>>) -> Self {
        let parts = [const { OnceBox::new() }; PARTS];
        let places = Arc::new(Places { parts, memory });
        Conns { free: [NIL; LANES], used: 0, live: 0, places }
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
        self.places.same(slot, generation)
    }

    /// A slot for a connection, which is alive and has nothing yet. Its generation follows on that of the slot's last
    /// one. `lane` is the number of the thread.
    #[inline]
    pub fn insert(&mut self, lane: usize) -> u32 {
        self.live += 1;
        // Own slots first, those of the next thread last.
        let lists = [0, 2, 1, 3].map(|other| (lane ^ other) % LANES);
        if let Some(list) = lists.into_iter().find(|list| self.free[*list] != NIL) {
            let slot = self.free[list];
            let place = self.get(slot);
            let next = place.next.get();
            place.clear();
            place.set_alive(true);
            self.free[list] = next;
            // The next one was asked for the last time.
            if let Some(next) = self.places.get(next)
                && let Some(after) = self.places.get(next.next.get())
            {
                after.prefetch_to_write();
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
        let list = (slot >> LANE_SHIFT) as usize % LANES;
        c.next.set(self.free[list]);
        self.free[list] = slot;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The list a slot returns to.
    fn list(slot: u32) -> usize {
        (slot >> LANE_SHIFT) as usize % LANES
    }

    #[test]
    fn a_thread_gets_its_own_slots_first_and_then_those_of_others() {
        const N: u32 = 1000;
        let mut conns = Conns::new(None);
        assert!((0..N).all(|slot| conns.insert(slot as usize) == slot));
        (0..N).for_each(|slot| conns.remove(slot));
        assert_eq!(conns.len(), 0);
        for lane in 0..LANES {
            let first: Vec<u32> = (0..50).map(|_| conns.insert(lane)).collect();
            assert!(first.iter().all(|slot| list(*slot) == lane), "{lane}: {first:?}");
            first.into_iter().for_each(|slot| conns.remove(slot));
        }
        // One thread alone gets them all before there are more.
        let all: BTreeSet<u32> = (0..N).map(|_| conns.insert(1)).collect();
        assert!(all.into_iter().eq(0..N));
        assert_eq!(conns.insert(1), N);
        assert_eq!((conns.len(), conns.slots()), (N as usize + 1, N + 1));
    }
}
