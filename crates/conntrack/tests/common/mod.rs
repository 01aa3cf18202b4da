//! A tracker in shards behind locks, as a switch has it, for tests and the benchmark.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use base::HashKey;
use conntrack::{Ceiling, Conntrack, CtConfig, Shards};
use std::sync::{Arc, Mutex};

pub const SECRET: HashKey = HashKey([8, 9]);

/// The shards.
pub struct Table(pub Vec<Mutex<Conntrack>>);

impl Shards for Table {
    fn n(&self) -> usize {
        self.0.len()
    }

    fn secret(&self) -> HashKey {
        SECRET
    }

    fn with<R>(&self, shard: usize, f: impl FnOnce(&mut Conntrack) -> R) -> R {
        f(&mut self.0[shard].lock().unwrap())
    }

    fn try_with<R>(
        &self,
        shard: usize,
        wait: bool,
        f: impl FnOnce(&mut Conntrack) -> R,
    ) -> Option<R> {
        let shard = &self.0[shard];
        let mut shard = if wait { shard.lock().unwrap() } else { shard.try_lock().ok()? };
        Some(f(&mut shard))
    }
}

impl Table {
    /// `n` shards that may have `max_conns` connections together.
    pub fn new(n: u16, max_conns: usize) -> Table {
        let config = CtConfig { max_conns, ..CtConfig::default() };
        let ceiling = Arc::new(Ceiling::new(max_conns));
        let shard = |i| Mutex::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        Table((0..n).map(shard).collect())
    }
}
