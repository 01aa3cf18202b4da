//! A tracker in shards behind locks, as a switch has it, for tests and the benchmark.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use base::{Apart, HashKey, Tally, prefetch_to_write};
use conntrack::{Ceiling, Conntrack, Counters, CtConfig, Lookahead, PacketView, Shards};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;

thread_local! {
    /// The number of the thread.
    pub static LANE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub const SECRET: HashKey = HashKey([8, 9]);

/// The shards, and how many packets needed none.
pub struct Table(pub Vec<Shard>, pub Tally);

/// One of them.
pub struct Shard {
    locked: Apart<Mutex<Conntrack>>,
    ahead: Apart<Lookahead>,
}

impl Shard {
    fn new(t: Conntrack) -> Shard {
        Shard { ahead: Apart(t.lookahead()), locked: Apart(Mutex::new(t)) }
    }

    pub fn lock(&self) -> MutexGuard<'_, Conntrack> {
        self.locked.0.lock()
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
        let mut shard = if wait { shard.lock() } else { shard.locked.0.try_lock()? };
        Some(f(&mut shard))
    }

    fn count_found(&self, n: u64) {
        self.1.add(n);
    }

    fn lane(&self) -> usize {
        LANE.get()
    }

    fn prepare(&self, shard: usize) {
        prefetch_to_write(&self.0[shard].locked);
    }

    fn lookahead(&self, shard: usize) -> Option<&Lookahead> {
        Some(&self.0[shard].ahead.0)
    }
}

impl Table {
    /// `n` shards that may have `max_conns` connections together.
    pub fn new(n: u16, max_conns: usize) -> Table {
        let config = CtConfig { max_conns, ..CtConfig::default() };
        let ceiling = Arc::new(Ceiling::new(max_conns));
        let shard = |i| Shard::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        Table((0..n).map(shard).collect(), Tally::default())
    }

    /// Of all shards.
    #[allow(dead_code, reason = "not all count")]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        sum.found = self.1.get();
        self.0.iter().for_each(|s| sum.add(s.lock().counters()));
        sum
    }
}

/// An IP packet between client `n` and the server: TCP with these flags, or UDP.
#[allow(dead_code, reason = "not all send these")]
pub fn frame(n: u8, up: bool, tcp: Option<u8>) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, n], [192, 0, 2, 1]);
    let (src, dst) = if up { (client, server) } else { (server, client) };
    let ports: [u16; 2] = if up { [1000, 80] } else { [80, 1000] };
    let mut body = ports.map(u16::to_be_bytes).concat();
    match tcp {
        Some(flags) => body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 255, 255, 0, 0, 0, 0]),
        None => body.extend([0, 8, 0, 0]),
    }
    let mut ip = vec![0x45, 0, 0, 20 + body.len() as u8, 0, 0, 0, 0, 64];
    ip.extend([if tcp.is_some() { 6 } else { 17 }, 0, 0]);
    ip.extend(src);
    ip.extend(dst);
    let sum = packet::checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(body);
    ip
}

#[allow(dead_code, reason = "not all send these")]
pub fn view(frame: &[u8]) -> PacketView<'_> {
    PacketView { frame, l3: 0, eth_type: 0x800, csum_trusted: true }
}
