//! Room in a table: for one more connection, by another's going if need be, and what zones hold.

use alloc::sync::Arc;
use base::{Instant, Zone};

use crate::zone::ZoneLimits;
use crate::{Conntrack, CtInfo, Cursor, Outcome};

impl Conntrack {
    /// Counts a commit that there is no room for.
    #[cold]
    pub(crate) fn refuse_commit(&mut self, outcome: Outcome, out: &mut CtInfo) {
        self.counters.insert_failed += 1;
        match outcome {
            Outcome::ZoneFull => self.counters.zone_full += 1,
            _ => self.counters.drop += 1,
        }
        out.outcome = outcome;
    }

    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        self.quota.has_room(&self.ceiling, self.slab.len())
    }

    /// Takes a connection out that can be spared; whether there was one.
    #[cold]
    pub(crate) fn make_room(&mut self, now: Instant) -> bool {
        let (spare, hand) = self.spare(now);
        self.hand = hand;
        if let Some(slot) = spare
            && !self.reap(now, slot)
        {
            self.counters.early_drop += 1;
            self.remove(now, slot);
        }
        spare.is_some()
    }

    /// A connection that can be spared, if there is one among the few after the hand, and where the
    /// hand is then. Unanswered ones are taken first, those that are assured never.
    fn spare(&self, now: Instant) -> (Option<u32>, u32) {
        const LOOK: u32 = 64;
        let (mut hand, mut answered) = (self.hand, None);
        for _ in 0..LOOK.min(self.slab.slots()) {
            hand = if hand + 1 < self.slab.slots() { hand + 1 } else { 0 };
            match self.slab.live(hand) {
                Some(c) if c.expired(now) || !(c.assured() || c.seen_reply()) => {
                    return (Some(hand), hand);
                }
                Some(c) if !c.assured() => answered = answered.or(Some(hand)),
                _ => {}
            }
        }
        (answered, hand)
    }

    /// Why a commit into a zone would be refused.
    pub(crate) fn refusal(&self, now: Instant, zone: Zone) -> Option<Outcome> {
        if self.limits.as_ref().is_some_and(|l| !l.has_room(zone)) {
            return Some(Outcome::ZoneFull);
        }
        let full = !self.quota.could_have_room(&self.ceiling, self.slab.len());
        (full && self.spare(now).0.is_none()).then_some(Outcome::TableFull)
    }

    /// Removes connections of a zone, no more than `budget`, the oldest first. What comes in
    /// meanwhile stays.
    pub(crate) fn empty_zone(
        &mut self,
        now: Instant,
        cursor: &mut Cursor,
        zone: Zone,
        budget: usize,
    ) -> usize {
        let left = *cursor.left.get_or_insert(self.zones.len(zone)) as usize;
        let mut n = 0;
        while n < left.min(budget)
            && let Some(slot) = self.zones.oldest(zone)
        {
            self.counters.delete += 1;
            self.remove(now, slot);
            n += 1;
        }
        let left = if n < budget { 0 } else { left - n };
        (cursor.left, cursor.done) = (Some(left as u32), left == 0);
        n
    }

    /// Sets the limits that zones have, or frees them of all. What is there stays, and counts.
    pub fn set_limits(&mut self, limits: Option<Arc<ZoneLimits>>) {
        let old = core::mem::replace(&mut self.limits, limits);
        for (zone, n) in self.zones.iter() {
            if let Some(old) = &old {
                old.count_out(zone, n);
            }
            if let Some(new) = &self.limits {
                new.count_in(zone, n);
            }
        }
    }

    /// Connections of a zone.
    pub fn zone_len(&self, zone: Zone) -> usize {
        self.zones.len(zone) as usize
    }

    /// Zones that have connections, and how many.
    pub fn zones(&self) -> impl Iterator<Item = (Zone, usize)> {
        self.zones.iter().map(|(zone, n)| (zone, n as usize))
    }
}
