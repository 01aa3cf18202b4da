//! A tracker in shards behind locks, as a switch has it, for tests and the benchmark.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use base::{HashKey, prefetch_to_write};
use conntrack::{Ceiling, Conntrack, CtConfig, Lookahead, Shards};
use std::sync::{Arc, Mutex, MutexGuard};

pub const SECRET: HashKey = HashKey([8, 9]);

/// The shards.
pub struct Table(pub Vec<Shard>);

/// One of them.
#[repr(align(128))]
pub struct Shard {
    ahead: Lookahead,
    locked: Mutex<Conntrack>,
}

impl Shard {
    fn new(t: Conntrack) -> Shard {
        Shard { ahead: t.lookahead(), locked: Mutex::new(t) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Conntrack> {
        self.locked.lock().unwrap()
    }
}

impl Shards for Table {
    fn n(&self) -> usize {
        self.0.len()
    }

    fn secret(&self) -> HashKey {
        SECRET
    }

    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        f(&mut self.0[shard].lock())
    }

    fn try_with<R>(
        &self,
        shard: usize,
        wait: bool,
        f: impl FnOnce(&mut Conntrack) -> R,
    ) -> Option<R> {
        let shard = &self.0[shard];
        let mut shard = if wait { shard.lock() } else { shard.locked.try_lock().ok()? };
        Some(f(&mut shard))
    }

    fn prepare(&self, shard: usize) {
        prefetch_to_write(&self.0[shard].locked);
    }

    fn lookahead(&self, shard: usize) -> Option<&Lookahead> {
        Some(&self.0[shard].ahead)
    }
}

impl Table {
    /// `n` shards that may have `max_conns` connections together.
    pub fn new(n: u16, max_conns: usize) -> Table {
        let config = CtConfig { max_conns, ..CtConfig::default() };
        let ceiling = Arc::new(Ceiling::new(max_conns));
        let shard = |i| Shard::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        Table((0..n).map(shard).collect())
    }
}
