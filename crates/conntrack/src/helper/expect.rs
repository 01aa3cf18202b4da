//! Connections that are expected because a control connection announced them.
//!
//! An expectation is found by where its packets come from and go to, whatever their source port. It is
//! in the shard of that key, which is seldom the one of the packet's; so that new connections need not
//! ask there in vain, all shards of a tracker share a [`Filter`].

use alloc::boxed::Box;
use alloc::sync::Arc;
use base::{Duration, Instant, Zone};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{LIFETIME, MAX_EXPECTED};
use crate::Ceiling;
use crate::index::Index;
use crate::slab::{NIL, Slab};
use crate::tracker::Passage;
use crate::tuple::Key;
use crate::{ConnId, Conntrack, Cursor, InvalidReason, NatRequest, Tuple};

/// An expectation for as long as it lives.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectId {
    pub shard: u16,
    slot: u32,
    generation: u32,
}

/// What is known of an expectation for a packet of no known connection.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Sought<'a> {
    /// Nobody has asked.
    NotYet,
    /// Nobody expects it.
    Nothing,
    Found(&'a Related),
}

/// What packets of an expected connection get from the control connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Related {
    pub expected: ExpectId,
    /// Tuple of the control connection.
    pub parent: Tuple,
    pub nat: NatRequest,
    pub mark: u32,
    pub label: u128,
}

/// One expected connection.
#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    key: Key,
    hash: u32,
    /// Next in the index chain, or in the free list.
    next: u32,
    generation: u32,
    alive: bool,
    /// A connection that fits was committed.
    fulfilled: bool,
    /// Neighbours in the order of use.
    older: u32,
    newer: u32,
    expires: Instant,
    /// The control connection.
    owner: ConnId,
    parent: Tuple,
    nat: NatRequest,
    mark: u32,
    label: u128,
}

crate::slab::entry!(Expectation);

impl Expectation {
    /// Of connections from `src` to `port` of `dst`, because of a control connection.
    pub fn new(
        key: Key,
        hash: u32,
        (owner, parent): (ConnId, Tuple),
        nat: NatRequest,
        (mark, label): (u32, u128),
    ) -> Expectation {
        Expectation {
            key,
            hash,
            next: NIL,
            generation: 1,
            alive: true,
            fulfilled: false,
            older: NIL,
            newer: NIL,
            expires: Instant::ZERO,
            owner,
            parent,
            nat,
            mark,
            label,
        }
    }
}

impl Expectation {
    pub fn hash(&self) -> u32 {
        self.hash
    }
}

/// An expectation as it was at one moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ExpectSnapshot {
    /// Its zone.
    pub zone: Zone,
    /// Tuple that the first packet will carry; its source port, which is not known, is 0.
    pub orig: Tuple,
    /// Tuple of the control connection.
    pub parent: Tuple,
    /// `ct_mark` of the packets.
    pub mark: u32,
    /// `ct_label` of the packets.
    pub label: u128,
    /// Until it goes if no packet fits.
    pub timeout: Duration,
}

/// How many expectations there are in all shards, and of which keys there is none.
#[derive(Debug)]
pub(crate) struct Filter {
    total: AtomicU32,
    /// By hash, how many keys.
    counts: Box<[AtomicU32; CELLS]>,
}

const CELLS: usize = 1024;

impl Filter {
    pub fn new() -> Filter {
        Filter { total: AtomicU32::new(0), counts: Box::new([const { AtomicU32::new(0) }; CELLS]) }
    }

    fn cell(&self, hash: u32) -> &AtomicU32 {
        // Low bits choose the bucket of an index, high bits the shard.
        &self.counts[(hash >> 8) as usize % CELLS]
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.total.load(Relaxed) == 0
    }

    fn may_have(&self, hash: u32) -> bool {
        self.cell(hash).load(Relaxed) > 0
    }

    /// Counts one more, unless there are too many.
    fn add(&self, hash: u32) -> bool {
        if self.total.fetch_add(1, Relaxed) >= MAX_EXPECTED {
            self.total.fetch_sub(1, Relaxed);
            return false;
        }
        self.cell(hash).fetch_add(1, Relaxed);
        true
    }

    fn remove(&self, hash: u32) {
        self.total.fetch_sub(1, Relaxed);
        self.cell(hash).fetch_sub(1, Relaxed);
    }
}

/// A shard's expectations.
#[derive(Debug)]
pub(crate) struct Expected {
    slab: Slab<Expectation>,
    index: Index,
    oldest: u32,
    newest: u32,
    ceiling: Arc<Ceiling>,
}

impl Expected {
    pub fn new(ceiling: Arc<Ceiling>) -> Expected {
        Expected {
            slab: Slab::default(),
            index: Index::default(),
            oldest: NIL,
            newest: NIL,
            ceiling,
        }
    }

    /// When the first expires.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.slab.live(self.oldest).map(|e| e.expires)
    }

    fn unlink(&mut self, slot: u32) {
        let (older, newer) = {
            let e = self.slab.get(slot);
            (e.older, e.newer)
        };
        match older {
            NIL => self.oldest = newer,
            o => self.slab.get_mut(o).newer = newer,
        }
        match newer {
            NIL => self.newest = older,
            n => self.slab.get_mut(n).older = older,
        }
    }

    fn link(&mut self, slot: u32, now: Instant) {
        let last = core::mem::replace(&mut self.newest, slot);
        match last {
            NIL => self.oldest = slot,
            n => self.slab.get_mut(n).newer = slot,
        }
        let e = self.slab.get_mut(slot);
        (e.older, e.newer, e.expires) = (last, NIL, now + LIFETIME);
    }

    /// It lives its whole time again.
    fn touch(&mut self, slot: u32, now: Instant) {
        self.unlink(slot);
        self.link(slot, now);
    }

    fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        self.index.remove(&mut self.slab, slot);
        self.ceiling.expected.remove(self.slab.get(slot).hash);
        self.slab.remove(slot);
    }

    /// Removes up to `budget` whose time ran out; how many.
    pub fn remove_expired(&mut self, now: Instant, budget: usize) -> usize {
        let mut n = 0;
        while n < budget && self.next_timeout().is_some_and(|t| t <= now) {
            self.remove(self.oldest);
            n += 1;
        }
        n
    }

    fn find(&mut self, now: Instant, key: &Key, hash: u32) -> Option<u32> {
        let slot = self.index.find(&self.slab, hash, key)?;
        if self.slab.get(slot).expires <= now {
            self.remove(slot);
            return None;
        }
        Some(slot)
    }

    fn related(&self, shard: u16, slot: u32) -> Related {
        let e = self.slab.get(slot);
        let expected = ExpectId { shard, slot, generation: e.generation };
        Related { expected, parent: e.parent, nat: e.nat, mark: e.mark, label: e.label }
    }
}

impl Conntrack {
    /// The key by which a new connection's packet may be expected, with its hash; `None` if it is not.
    #[inline]
    pub(crate) fn may_be_expected(&self, x: &Passage<'_>) -> Option<(Key, u32)> {
        if self.expected.ceiling.expected.is_empty() {
            return None;
        }
        let key = x.p.key.towards(x.p.swapped);
        let hash = key.hash(self.secret);
        self.expected.ceiling.expected.may_have(hash).then_some((key, hash))
    }

    /// The expectation that a packet fits.
    pub(crate) fn seek(&mut self, now: Instant, key: &Key, hash: u32) -> Option<Related> {
        let slot = self.expected.find(now, key, hash)?;
        self.expected.touch(slot, now);
        Some(self.expected.related(self.number, slot))
    }

    /// The same, changing nothing.
    pub(crate) fn seek_copy(&self, now: Instant, key: &Key, hash: u32) -> Option<Related> {
        let slot = self.expected.index.find(&self.expected.slab, hash, key)?;
        (self.expected.slab.get(slot).expires > now)
            .then(|| self.expected.related(self.number, slot))
    }

    /// Expects a connection, for its owner's whole life or until nothing has come for [`LIFETIME`]; or
    /// says who expects the same with another outcome.
    pub(crate) fn expect(
        &mut self,
        now: Instant,
        e: Expectation,
    ) -> Result<ExpectId, Result<ConnId, InvalidReason>> {
        let t = &mut self.expected;
        let slot = match t.find(now, &e.key, e.hash) {
            Some(slot) => {
                let old = t.slab.get_mut(slot);
                // What was fulfilled is nobody's any more.
                if old.owner != e.owner && old.nat != e.nat && !old.fulfilled {
                    return Err(Ok(old.owner));
                }
                (old.owner, old.parent, old.nat) = (e.owner, e.parent, e.nat);
                (old.mark, old.label, old.fulfilled) = (e.mark, e.label, false);
                t.touch(slot, now);
                slot
            }
            None => {
                let hash = e.hash;
                if !t.ceiling.expected.add(hash) {
                    t.remove_expired(now, usize::MAX);
                    if !t.ceiling.expected.add(hash) {
                        return Err(Err(InvalidReason::AlgFull));
                    }
                }
                let slot = t.slab.insert(e);
                t.index.insert(&mut t.slab, slot);
                t.link(slot, now);
                self.counters.expect += 1;
                slot
            }
        };
        let generation = self.expected.slab.get(slot).generation;
        Ok(ExpectId { shard: self.number, slot, generation })
    }

    /// Notes that an expected connection was committed.
    pub(crate) fn fulfil(&mut self, id: ExpectId) {
        if self.expected.slab.same(id.slot, id.generation).is_some() {
            self.expected.slab.get_mut(id.slot).fulfilled = true;
        }
    }

    /// Takes an expectation back, if it is still its owner's.
    pub(crate) fn forget(&mut self, id: ExpectId, owner: ConnId) {
        let slab = &self.expected.slab;
        if slab.same(id.slot, id.generation).is_some_and(|e| e.owner == owner) {
            self.expected.remove(id.slot);
        }
    }

    /// Calls `visit` for expectations, of one zone or all, looking at no more than `budget` slots.
    pub fn dump_expected(
        &self,
        now: Instant,
        cursor: &mut Cursor,
        zone: Option<Zone>,
        budget: usize,
        mut visit: impl FnMut(&ExpectSnapshot),
    ) {
        let t = &self.expected;
        for slot in cursor.step(t.slab.slots(), budget) {
            let Some(e) = t.slab.live(slot).filter(|e| e.expires > now) else { continue };
            let at = e.key.zone();
            if zone.is_none_or(|z| z == at) {
                visit(&ExpectSnapshot {
                    zone: at,
                    orig: e.key.tuple(false),
                    parent: e.parent,
                    mark: e.mark,
                    label: e.label,
                    timeout: e.expires.since(now),
                });
            }
        }
    }
}
