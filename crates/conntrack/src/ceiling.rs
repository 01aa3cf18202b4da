//! The most connections of a tracker, shared out among its shards as they need them.
//!
//! A shard takes the right to a few connections at a time, and gives back what it does not use. So
//! the whole never has more than the ceiling, reaches it to within a thousandth however unevenly
//! the shards are filled, and commits seldom meet at one counter.

use crate::conns::Memory;
use crate::helper::Filter;
use crate::open::Rules;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::ops::Deref;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The ceiling, and how much of it the shards have taken. And what else the shards of a tracker have in common.
#[derive(Debug)]
pub struct Ceiling {
    max: AtomicUsize,
    taken: AtomicUsize,
    /// The same of expected connections.
    pub(crate) expected: Filter,
    pub(crate) rules: SharedRules,
    /// Where connections are, if not on the heap.
    pub(crate) memory: Option<Arc<dyn Memory>>,
}

/// Rules, on the heap or in [`Memory`].
#[derive(Debug)]
pub(crate) enum SharedRules {
    Own(Box<Rules>),
    Lent(&'static Rules),
}

impl Deref for SharedRules {
    type Target = Rules;

    #[inline(always)]
    fn deref(&self) -> &Rules {
        match self {
            SharedRules::Own(rules) => rules,
            SharedRules::Lent(rules) => rules,
        }
    }
}

/// The part that a shard has.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Quota(usize);

impl Ceiling {
    /// A ceiling of `max` connections, of which nothing is taken.
    pub fn new(max: usize) -> Ceiling {
        Ceiling::with_memory(max, None)
    }

    /// The same, with connections and rules in somebody's memory as far as that goes.
    pub fn with_memory(max: usize, memory: Option<Arc<dyn Memory>>) -> Ceiling {
        let rules = memory.as_ref().and_then(|m| m.rules());
        let rules = rules.map_or_else(|| SharedRules::Own(Box::default()), SharedRules::Lent);
        Ceiling {
            rules,
            memory,
            max: AtomicUsize::new(max),
            taken: AtomicUsize::new(0),
            expected: Filter::new(),
        }
    }

    /// The most connections.
    pub fn max(&self) -> usize {
        self.max.load(Relaxed)
    }

    /// Sets it. Shards then have to [return](Quota::give_back) what they do not use.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Relaxed);
    }

    /// How much is taken at a time.
    fn portion(&self) -> usize {
        (self.max() / 16384).clamp(1, 64)
    }
}

impl Quota {
    /// Whether a shard with `n` connections may have one more.
    #[inline]
    pub fn has_room(&mut self, ceiling: &Ceiling, n: usize) -> bool {
        n < self.0 || self.take(ceiling)
    }

    /// The same, if it is asked for in earnest.
    pub fn could_have_room(self, ceiling: &Ceiling, n: usize) -> bool {
        n < self.0 || ceiling.taken.load(Relaxed) < ceiling.max()
    }

    #[cold]
    fn take(&mut self, ceiling: &Ceiling) -> bool {
        let (max, portion) = (ceiling.max(), ceiling.portion());
        let more = |taken| (taken < max).then(|| max.min(taken + portion));
        let Ok(before) = ceiling.taken.fetch_update(Relaxed, Relaxed, more) else { return false };
        self.0 += max.min(before + portion) - before;
        true
    }

    /// Gives back what a shard with `n` connections is not going to need soon.
    #[inline]
    pub fn trim(&mut self, ceiling: &Ceiling, n: usize) {
        let portion = ceiling.portion();
        // A small ceiling is given back to the last one.
        if self.0 > n + 2 * (portion - 1) {
            ceiling.taken.fetch_sub(portion, Relaxed);
            self.0 -= portion;
        }
    }

    /// Gives back all that a shard with `n` connections does not use.
    pub fn give_back(&mut self, ceiling: &Ceiling, n: usize) {
        ceiling.taken.fetch_sub(self.0.saturating_sub(n), Relaxed);
        self.0 = self.0.min(n);
    }
}
