//! Nanoseconds per packet of the tracker on one core, and what a second core adds.
//!
//! `cargo run --release -p sekisho-conntrack --example conntrack_bench [-- WORD...]` runs the cases whose
//! names have one of the words in them, by default all. One line for each: `case: ns`.
//!
//! The tracker is as a switch has it, in shards behind locks, and a packet is read (checksum trusted,
//! or absent as in `ovstest test-conntrack`) and tracked in batches of 32. The cases:
//!
//! - `udp one`: `ovstest test-conntrack benchmark 1 N 32 0`, packets of one connection, with `commit`;
//! - `udp 10000 in order`: what `benchmark-zones 10000 2 N` calls "no commit", the connections one after
//!   the other as they were committed; `mixed` has them in an order that no prefetcher guesses, and `tcp`
//!   connections have a state machine;
//! - `commit again`: what `benchmark-zones` calls "commit", connections in a zone that was flushed;
//!   `commit growing` begins with an empty table;
//! - `flush`: its "flush full zone"; `expiry`: as much by time;
//! - `two threads known`, `two threads commit`: the rate of two threads, each with one half of the connections, new
//!   ones in a table that was flushed, as a multiple of that of one thread with all of them; `as many each`, of one
//!   thread with one half.
//!
//! A figure is the mean over short slices of work, of each the fastest of several rounds, so that other work on the machine disturbs
//! little; the threads need two processors that nobody else wants.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use base::{Apart, Duration, Instant, Zone};
use common::{SECRET, Table};
use conntrack::{
    ConnFilter, Conntrack, CtConfig, CtRequest, Cursor, PacketView, Shards, Tracked, process_batch,
    visit,
};
use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const LOOK: CtRequest = CtRequest::LOOK;
const COMMIT: CtRequest = CtRequest { commit: true, ..LOOK };
const T0: Instant = Instant::from_secs(1000);

type Frame = [u8; 54];

/// A TCP segment of connection `n`.
fn frame(n: u32, up: bool, flags: u8, seq: u32, ack: u32) -> Frame {
    let mut f = [0; 54];
    f[12] = 8;
    f[14..18].copy_from_slice(&[0x45, 0, 0, 40]);
    (f[22], f[23]) = (64, 6);
    let client = (0x0a00_0000 + n / 50_000).to_be_bytes();
    let server = [192, 168, 0, 1];
    let (sport, dport) = ((1024 + n % 50_000) as u16, 80u16);
    let (src, dst, sp, dp) =
        if up { (client, server, sport, dport) } else { (server, client, dport, sport) };
    f[26..30].copy_from_slice(&src);
    f[30..34].copy_from_slice(&dst);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[34..36].copy_from_slice(&sp.to_be_bytes());
    f[36..38].copy_from_slice(&dp.to_be_bytes());
    f[38..42].copy_from_slice(&seq.to_be_bytes());
    f[42..46].copy_from_slice(&ack.to_be_bytes());
    (f[46], f[47]) = (0x50, flags);
    f[48..50].copy_from_slice(&[0xff, 0xff]);
    f
}

fn view(f: &[u8]) -> PacketView<'_> {
    PacketView { frame: f, l3: 14, eth_type: 0x0800, csum_trusted: true }
}

/// A datagram of connection `n`, without a checksum of its own as `ovstest` sends them.
fn datagram(n: u32) -> Frame {
    let mut f = frame(n, true, 0, 0, 0);
    f[16..18].copy_from_slice(&28_u16.to_be_bytes());
    (f[23], f[24], f[25]) = (17, 0, 0);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[38..42].copy_from_slice(&[0, 8, 0, 0]);
    f
}

impl Table {
    fn len(&self) -> usize {
        self.0.iter().map(|s| s.lock().len()).sum()
    }

    /// Reads packets and tracks them in batches.
    fn send(&self, batch: &mut Vec<Tracked>, packets: &[Frame], req: &CtRequest) {
        for part in packets.chunks(BATCH) {
            batch.clear();
            for f in part {
                batch.push(Tracked::NOTHING);
                if let Some(t) = batch.last_mut() {
                    t.read(&view(f), Zone(0), SECRET).unwrap();
                }
            }
            process_batch(
                self,
                T0,
                batch,
                req,
                |_| &[],
                |_, info, _| {
                    black_box(info);
                },
            );
        }
    }
}

/// Slices of some thousand packets are timed one by one, round after round; the fastest of each slice
/// counts.
struct Slices {
    best: Vec<f64>,
}

impl Slices {
    fn new() -> Slices {
        Slices { best: Vec::new() }
    }

    /// Times slice `i` of a round: `f` says how much it did.
    fn time(&mut self, i: usize, f: impl FnOnce() -> usize) {
        let start = std::time::Instant::now();
        let n = f();
        let ns = start.elapsed().as_nanos() as f64 / n as f64;
        match self.best.get_mut(i) {
            Some(best) => *best = best.min(ns),
            None => self.best.push(ns),
        }
    }

    /// Nanoseconds for one.
    fn mean(&self) -> f64 {
        self.best.iter().sum::<f64>() / self.best.len() as f64
    }
}

/// As many as a switch with one thread has, and with two.
const SHARDS: u16 = 4;
const SHARDS_FOR_TWO: u16 = 4;
const BATCH: usize = 32;
/// Packets of a slice.
const SLICE: usize = 2048;

/// `n` connections' packets, in an order that no prefetcher guesses if they are mixed.
fn frames(n: u32, mixed: bool, make: impl Fn(u32) -> Frame) -> Vec<Frame> {
    let at = |i: u32| match mixed {
        true => (u64::from(i) * 2_654_435_761 % u64::from(n)) as u32,
        false => i,
    };
    (0..n.max(BATCH as u32)).map(|i| make(at(i % n))).collect()
}

/// The mean of tracking these packets again and again.
fn track(table: &Table, packets: &[Frame], req: &CtRequest) -> f64 {
    let (mut slices, mut batch) = (Slices::new(), Vec::new());
    let rounds = (10_000_000 / packets.len()).clamp(10, 300);
    for _ in 0..rounds {
        for (i, part) in packets.chunks(SLICE).enumerate() {
            let again = SLICE / part.len();
            slices.time(i, || {
                (0..again).for_each(|_| table.send(&mut batch, part, req));
                again * part.len()
            });
        }
    }
    slices.mean()
}

/// A table with the connections of these packets.
fn filled(packets: &[Frame]) -> Table {
    let table = Table::new(SHARDS, CtConfig::default().max_conns);
    table.send(&mut Vec::new(), packets, &COMMIT);
    table
}

/// A table with established TCP connections.
fn established(n: u32) -> Table {
    let table = filled(&frames(n, false, |i| frame(i, true, 2, 100, 0)));
    table.send(&mut Vec::new(), &frames(n, false, |i| frame(i, false, 18, 500, 101)), &LOOK);
    table.send(&mut Vec::new(), &frames(n, false, ack), &LOOK);
    table
}

fn ack(n: u32) -> Frame {
    frame(n, true, 16, 101, 501)
}

/// The mean of committing these packets' connections, and of what `clear` then does with them.
fn commit(packets: &[Frame], grow: bool, clear: impl Fn(&Table, &mut Slices)) -> [f64; 2] {
    let (mut commits, mut clears, mut batch) = (Slices::new(), Slices::new(), Vec::new());
    let mut table = filled(packets);
    clear(&table, &mut Slices::new());
    for _ in 0..(3_000_000 / packets.len()).max(5) {
        if grow {
            table = Table::new(SHARDS, CtConfig::default().max_conns);
        }
        for (i, part) in packets.chunks(SLICE).enumerate() {
            commits.time(i, || {
                table.send(&mut batch, part, &COMMIT);
                part.len()
            });
        }
        assert_eq!(table.len(), packets.len());
        clear(&table, &mut clears);
        assert_eq!(table.len(), 0);
    }
    [commits.mean(), clears.mean()]
}

/// Goes on with something in slices, shard by shard; `step` says how much it did.
fn in_slices(
    table: &Table,
    slices: &mut Slices,
    mut step: impl FnMut(&mut Conntrack, &mut Cursor) -> usize,
) {
    let mut n = 0;
    for i in 0..table.n() {
        let mut cursor = Cursor::default();
        while table.with(i, |t| !t.is_empty()) {
            slices.time(n, || visit(table, i, |t| step(t, &mut cursor)));
            n += 1;
        }
    }
}

fn flush(table: &Table, slices: &mut Slices) {
    let all = ConnFilter::zone(Zone(0));
    in_slices(table, slices, |t, cursor| t.delete(T0, cursor, &all, SLICE));
}

fn expire(table: &Table, slices: &mut Slices) {
    let late = T0 + Duration::from_secs(100_000);
    in_slices(table, slices, |t, _| t.expire(late, SLICE).removed);
}

/// Packets of a slice when two threads run: a slice during which one of them has to wait for a processor does
/// not count, and they are seldom both on one for long on a machine that others use.
const SHORT: usize = 512;

/// How much more two threads do than one, with connections of their own: twice the time of a slice of one
/// thread through that of a slice during which the other did as much. The one thread does the work of `both`, or
/// half of it.
fn threads(req: &CtRequest, both: bool) -> f64 {
    const EACH: u32 = 50_000;
    let packets: Vec<Vec<Frame>> =
        (0..2).map(|t| (0..EACH).map(|i| datagram(t * EACH + i)).collect()).collect();
    let times = |n: usize, best: &mut Vec<f64>| {
        let table = Table::new(SHARDS_FOR_TWO, CtConfig::default().max_conns);
        // New connections come into zones that were flushed: how fast the system gives memory is another question.
        packets.iter().for_each(|p| table.send(&mut Vec::new(), p, &COMMIT));
        let rounds = if req.commit { 4 } else { 10 };
        // Packets of each so far.
        let progress: [Apart<AtomicUsize>; 2] = Default::default();
        let ready = Barrier::new(n);
        let one = |me: usize| {
            common::LANE.set(me);
            let mine = if n == 1 && both { packets.concat() } else { packets[me].clone() };
            let (mut batch, mut found) = (Vec::new(), vec![f64::MAX; mine.len() / SHORT]);
            let other = || progress[1 - me].0.load(Relaxed);
            for _ in 0..rounds {
                if req.commit && me == 0 {
                    flush(&table, &mut Slices::new());
                }
                ready.wait();
                for (slice, best) in mine.chunks_exact(SHORT).zip(&mut found) {
                    let (start, theirs) = (std::time::Instant::now(), other());
                    for part in slice.chunks(BATCH) {
                        table.send(&mut batch, part, req);
                        progress[me].0.fetch_add(part.len(), Relaxed);
                    }
                    let ns = start.elapsed().as_nanos() as f64 / SHORT as f64;
                    if n == 1 || other() - theirs >= SHORT * 9 / 10 {
                        *best = best.min(ns);
                    }
                }
                ready.wait();
            }
            found
        };
        let found: Vec<Vec<f64>> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..n)
                .map(|me| {
                    scope.spawn({
                        let one = &one;
                        move || one(me)
                    })
                })
                .collect();
            started.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let found = found.concat();
        best.resize(found.len(), f64::MAX);
        best.iter_mut().zip(found).for_each(|(best, ns)| *best = best.min(ns));
    };
    // One and two by turns, as the machine's speed changes.
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        times(1, &mut alone);
        times(2, &mut together);
    }
    // A slice without a time is one during which the other thread never did as much.
    let mean = |best: &[f64]| {
        let known: Vec<f64> = best.iter().copied().filter(|ns| *ns < f64::MAX).collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    2.0 * mean(&alone) / mean(&together)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |case: &str| words.is_empty() || words.iter().any(|w| case.contains(w.as_str()));
    let case = |name: &str, f: &dyn Fn() -> f64| {
        if wanted(name) {
            println!("{name}: {:.2}", f());
        }
    };
    case("bytes a connection at 1000000", &|| {
        let before = resident();
        let table = established(1_000_000);
        (resident() - before) as f64 / table.len() as f64
    });
    let one = frames(1, false, datagram);
    case("udp one", &|| track(&filled(&one), &one, &COMMIT));
    case("tcp one", &|| track(&established(1), &frames(1, false, ack), &LOOK));
    for n in [10_000, 100_000, 1_000_000] {
        for (order, mixed) in [("in order", false), ("mixed", true)] {
            case(&format!("udp {n} {order}"), &|| {
                track(&filled(&frames(n, false, datagram)), &frames(n, mixed, datagram), &LOOK)
            });
            case(&format!("tcp {n} {order}"), &|| {
                track(&established(n), &frames(n, mixed, ack), &LOOK)
            });
        }
    }
    for n in [10_000, 100_000, 500_000] {
        let packets = LazyCell::new(|| frames(n, false, datagram));
        case(&format!("commit growing to {n}"), &|| commit(&packets, true, flush)[0]);
        case(&format!("commit again {n}"), &|| commit(&packets, false, flush)[0]);
        case(&format!("flush {n}"), &|| commit(&packets, false, flush)[1]);
        case(&format!("expiry {n}"), &|| commit(&packets, true, expire)[1]);
    }
    case("two threads known, times one", &|| threads(&LOOK, true));
    case("two threads known as many each, times one", &|| threads(&LOOK, false));
    case("two threads commit, times one", &|| threads(&COMMIT, true));
    case("two threads commit as many each, times one", &|| threads(&COMMIT, false));
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
