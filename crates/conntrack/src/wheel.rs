//! When to look at a connection again: a timer wheel with lazy deadlines.
//!
//! A packet only writes the connection's `expires`. The wheel holds each connection at a time
//! not later than that; when the time comes, a connection that was used meanwhile is put in
//! again. Four levels of 64 slots of 134 ms, 8.6 s, 550 s and 9.8 h; longer waits sit in the last
//! slot and go round. Work is counted per connection looked at, so a caller bounds it exactly.

use crate::conns::Conns;
use crate::slab::NIL;
use alloc::boxed::Box;
use base::Instant;

/// Of a time in nanoseconds, the bits below a tick.
pub(crate) const TICK_BITS: u32 = 27;
const LEVELS: usize = 4;
/// Of a number of ticks, the bits that a level counts.
pub(crate) const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;

/// Whether what sits in this place of a wheel is looked at by that time: then it may end so soon without the wheel being
/// told. Who asks must hold the connection, which is moved from place to place only while it is held.
#[inline]
pub(crate) fn is_looked_at(at: u8, now: Instant, by: Instant) -> bool {
    let level = u32::from(at) >> LEVEL_BITS;
    let shift = TICK_BITS + LEVEL_BITS * level;
    let round = now.as_nanos() >> shift;
    // The next slot of this number that has not begun. If this one has it may have been missed, and is a round off.
    let ahead = (u64::from(at).wrapping_sub(round + 1) & (SLOTS as u64 - 1)) + 1;
    (round + ahead) << shift <= by.as_nanos()
}

/// The timer wheel. Connections link themselves into it by their slot numbers.
///
/// What new connections write comes first and is small: the slot of the wheel that the last one was put into, for the
/// next one's is mostly the same.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Wheel {
    /// The place in `heads` whose head is not there but in `recent`.
    recent_at: u32,
    recent: u32,
    /// All slots that begin at or before this tick are empty, but for those at it.
    tick: u64,
    slots: Box<Slots>,
}

/// The places that the wheel goes round.
#[derive(Debug)]
struct Slots {
    /// First connection of each.
    heads: [u32; LEVELS * SLOTS],
    /// Which have connections.
    occupied: [u64; LEVELS],
}

impl Wheel {
    pub fn new() -> Wheel {
        Wheel {
            recent_at: 0,
            recent: NIL,
            tick: 0,
            slots: Box::new(Slots { heads: [NIL; LEVELS * SLOTS], occupied: [0; LEVELS] }),
        }
    }

    /// The first connection of a place.
    fn head(&self, at: usize) -> u32 {
        if at == self.recent_at as usize { self.recent } else { self.slots.heads[at] }
    }

    /// The same, to be changed.
    fn head_mut(&mut self, at: usize) -> &mut u32 {
        if at == self.recent_at as usize { &mut self.recent } else { &mut self.slots.heads[at] }
    }

    /// Puts a connection in for its `expires`.
    pub fn insert(&mut self, slab: &Conns, slot: u32) {
        let due = (slab.get(slot).expires.get().as_nanos() >> TICK_BITS) + 1;
        let due = due.max(self.tick + 1);
        let mut place = None;
        for level in 0..LEVELS {
            let shift = LEVEL_BITS * level as u32;
            let ahead = (due >> shift) - (self.tick >> shift);
            if ahead < SLOTS as u64 {
                place = Some((level, due >> shift));
                break;
            }
        }
        let last = LEVEL_BITS * (LEVELS as u32 - 1);
        let (level, n) = place.unwrap_or((LEVELS - 1, (self.tick >> last) + SLOTS as u64 - 1));
        let at = level * SLOTS + (n as usize & (SLOTS - 1));
        if at != self.recent_at as usize {
            self.slots.heads[self.recent_at as usize] = self.recent;
            (self.recent_at, self.recent) = (at as u32, self.slots.heads[at]);
        }
        let head = self.recent;
        let c = slab.get(slot);
        c.timer_slot.set(at as u8);
        c.timer_prev.set(NIL);
        c.timer_next.set(head);
        self.recent = slot;
        if head != NIL {
            slab.get(head).timer_prev.set(slot);
        } else {
            self.slots.occupied[level] |= 1 << (at & (SLOTS - 1));
        }
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slab: &Conns, slot: u32) {
        let c = slab.get(slot);
        let (at, prev, next) =
            (usize::from(c.timer_slot.get()), c.timer_prev.get(), c.timer_next.get());
        if next != NIL {
            slab.get(next).timer_prev.set(prev);
        }
        if prev != NIL {
            slab.get(prev).timer_next.set(next);
            return;
        }
        *self.head_mut(at) = next;
        if next == NIL {
            self.slots.occupied[at / SLOTS] &= !(1 << (at & (SLOTS - 1)));
        }
    }

    /// The next connection to look at, taken out; moves the wheel on to at most `now`.
    pub fn pop_due(&mut self, slab: &Conns, now: Instant) -> Option<u32> {
        let now = now.as_nanos() >> TICK_BITS;
        loop {
            for level in 0..LEVELS {
                let shift = LEVEL_BITS * level as u32;
                if self.tick & ((1 << shift) - 1) != 0 {
                    break;
                }
                let head = self.head(level * SLOTS + ((self.tick >> shift) as usize & (SLOTS - 1)));
                if head != NIL {
                    self.remove(slab, head);
                    return Some(head);
                }
            }
            match self.next_tick() {
                Some(t) if t <= now => self.tick = t,
                _ => {
                    self.tick = self.tick.max(now);
                    return None;
                }
            }
        }
    }

    /// First tick after the present one at which a slot begins that is not empty.
    fn next_tick(&self) -> Option<u64> {
        (0..LEVELS)
            .filter(|&l| self.slots.occupied[l] != 0)
            .map(|level| {
                let shift = LEVEL_BITS * level as u32;
                let n = self.tick >> shift;
                let from_next = self.slots.occupied[level].rotate_right((n as u32 + 1) & 63);
                (n + 1 + u64::from(from_next.trailing_zeros())) << shift
            })
            .min()
    }

    /// When [`Wheel::pop_due`] may have work next; never later than the first expiry but for one
    /// tick.
    pub fn next_time(&self) -> Option<Instant> {
        self.next_tick().map(|t| Instant::from_nanos(t << TICK_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Duration;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is said to be looked at by some time is, and what has its time by then is said to be.
        #[test]
        fn what_is_looked_at_in_time_comes_out_in_time(
            start in 0..1u64 << 50,
            wait in 0..1u64 << 48,
            later in 0..1u64 << 40,
            by in 0..1u64 << 49,
        ) {
            let at = |n| Instant::from_nanos(start + n);
            let (mut slab, mut wheel) = (Conns::new(None), Wheel::new());
            wheel.pop_due(&slab, at(0));
            let slot = slab.insert(0);
            let conn = slab.get(slot);
            conn.expires.set(at(wait));
            wheel.insert(&slab, slot);
            let now = later.min(wait);
            while let Some(slot) = wheel.pop_due(&slab, at(now)) {
                wheel.insert(&slab, slot);
            }
            let place = slab.get(slot).timer_slot.get();
            // A thread may be a little behind.
            let behind = at(now.saturating_sub(1_000_000));
            if is_looked_at(place, behind, at(by)) {
                prop_assert_eq!(wheel.pop_due(&slab, at(by)), Some(slot));
            } else {
                let tick = Duration::from_nanos(1 << TICK_BITS).as_nanos() as u64;
                prop_assert!(by < wait + tick);
            }
        }
    }
}
