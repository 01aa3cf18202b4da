//! Nanoseconds per packet of the tracker on one core.
//!
//! `cargo run --release --example conntrack_bench -p sekisho-conntrack`. Each figure is the best of five
//! runs in CPU time, so that other work on the machine disturbs little. "table" is `process_parsed`; "packet" adds reading the frame (checksum trusted).

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use base::{Duration, HashKey, Instant, Zone};
use conntrack::{
    Ceiling, ConnFilter, Conntrack, CtConfig, CtRequest, Cursor, PacketView, Parse, Parsed, Shards,
    Tracked, parse,
};
use std::hint::black_box;
use std::sync::{Arc, Mutex};

const LOOK: CtRequest = CtRequest {
    zone: Zone(0),
    commit: false,
    force: false,
    mark: None,
    label: None,
    timeout_policy: None,
    nat: None,
    helper: None,
    prior: None,
};
const COMMIT: CtRequest = CtRequest { commit: true, ..LOOK };
const T0: Instant = Instant::from_secs(1000);

/// A TCP segment of connection `n`.
fn frame(n: u32, up: bool, flags: u8, seq: u32, ack: u32) -> [u8; 54] {
    let mut f = [0u8; 54];
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

fn parsed(f: &[u8]) -> Parsed {
    match parse(&view(f), Zone(0)) {
        Parse::Packet(p) => p,
        other => panic!("{other:?}"),
    }
}

const SECRET: HashKey = HashKey([77, 88]);

fn fresh() -> Conntrack {
    Conntrack::new(SECRET, CtConfig::default())
}

fn established(n: u32) -> Conntrack {
    let mut ct = fresh();
    for i in 0..n {
        ct.process(T0, &view(&frame(i, true, 2, 100, 0)), &COMMIT, &mut None);
        ct.process(T0, &view(&frame(i, false, 18, 500, 101)), &COMMIT, &mut None);
        ct.process(T0, &view(&frame(i, true, 16, 101, 501)), &COMMIT, &mut None);
    }
    assert_eq!(ct.len(), n as usize);
    ct
}

fn best(mut run: impl FnMut() -> (u64, u64)) -> f64 {
    let ns = |(ns, n)| ns as f64 / n as f64;
    (0..5).map(|_| ns(run())).fold(f64::MAX, f64::min)
}

/// A datagram of connection `n`, without a checksum of its own as `ovstest` sends them.
fn datagram(n: u32) -> [u8; 54] {
    let mut f = frame(n, true, 0, 0, 0);
    f[16..18].copy_from_slice(&28_u16.to_be_bytes());
    (f[23], f[24], f[25]) = (17, 0, 0);
    let sum = packet::checksum::checksum(&f[14..34]);
    f[24..26].copy_from_slice(&sum.to_be_bytes());
    f[38..42].copy_from_slice(&[0, 8, 0, 0]);
    f
}

/// Packets of connections that are there, in an order that no prefetcher guesses: by the table
/// alone, with reading the frame, and in batches of 32 with reading.
fn known(name: &str, ct: &mut Conntrack, n: u32, make: impl Fn(u32) -> [u8; 54]) {
    let order = (0..n).map(|i| (u64::from(i) * 2_654_435_761 % u64::from(n)) as u32);
    let mut packets: Vec<[u8; 54]> = order.map(make).collect();
    while packets.len() < 32 {
        packets.push(packets[0]);
    }
    let keys: Vec<Parsed> = packets.iter().map(|f| parsed(f)).collect();
    let rounds = (2_000_000 / packets.len()).max(1);
    let total = (rounds * packets.len()) as u64;
    let table = best(|| {
        let start = cpu_ns();
        for _ in 0..rounds {
            for k in &keys {
                black_box(ct.process_parsed(T0, k, &LOOK));
            }
        }
        (cpu_ns() - start, total)
    });
    let packet = best(|| {
        let start = cpu_ns();
        for _ in 0..rounds {
            for f in &packets {
                black_box(ct.process(T0, &view(f), &LOOK, &mut None));
            }
        }
        (cpu_ns() - start, total)
    });
    let mut room = Vec::new();
    let batch = best(|| {
        let start = cpu_ns();
        for _ in 0..rounds {
            for part in packets.chunks(32) {
                in_batch(ct, &mut room, part, &LOOK);
            }
        }
        (cpu_ns() - start, total)
    });
    let name = format!("{name}, {n} established, ns/packet");
    println!("{name:<38} {table:>9.1} {packet:>9.1} {batch:>9.1}");
}

/// Reads and tracks up to 32 packets.
fn in_batch(ct: &mut Conntrack, batch: &mut Vec<Tracked>, part: &[[u8; 54]], req: &CtRequest) {
    batch.clear();
    for f in part {
        batch.push(Tracked::NOTHING);
        if let Some(t) = batch.last_mut() {
            t.read(&view(f), Zone(0), SECRET).unwrap();
        }
    }
    ct.process_batch(T0, batch, req, |_, info| {
        black_box(info);
    });
}

/// A tracker in shards behind locks, as a switch has it.
struct Table(Vec<Mutex<Conntrack>>);

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
}

impl Table {
    fn new() -> Table {
        let config = CtConfig::default();
        let ceiling = Arc::new(Ceiling::new(config.max_conns));
        let shard = |i| Mutex::new(Conntrack::shard(SECRET, config, i, ceiling.clone()));
        Table((0..16).map(shard).collect())
    }

    /// Sends a thread's packets in batches, `rounds` times.
    fn send(&self, packets: &[[u8; 54]], rounds: usize, req: &CtRequest) {
        let mut batch = Vec::new();
        for _ in 0..rounds {
            for part in packets.chunks(32) {
                batch.clear();
                for f in part {
                    batch.push(Tracked::NOTHING);
                    if let Some(t) = batch.last_mut() {
                        t.read(&view(f), Zone(0), SECRET).unwrap();
                    }
                }
                conntrack::process_batch(
                    self,
                    T0,
                    &batch,
                    req,
                    |_| &[],
                    |_, info, _| {
                        black_box(info);
                    },
                );
            }
        }
    }
}

/// Millions of packets a second of one and of two threads with connections of their own, the best
/// of five runs each, by the clock on the wall: it takes two processors that nobody else wants.
fn threads() {
    const EACH: u32 = 50_000;
    let packets: Vec<Vec<[u8; 54]>> =
        (0..2).map(|t| (0..EACH).map(|i| datagram(t * EACH + i)).collect()).collect();
    let rate = |n: usize, rounds: usize, table: &Table, req: &CtRequest| {
        let start = std::time::Instant::now();
        std::thread::scope(|scope| {
            for p in &packets[..n] {
                scope.spawn(|| table.send(p, rounds, req));
            }
        });
        (n * rounds * EACH as usize) as f64 / start.elapsed().as_secs_f64() / 1e6
    };
    println!("\n{:<38} {:>9} {:>9}", "Mpps, 16 shards, batches", "1 thread", "2 threads");
    let known = Table::new();
    packets.iter().for_each(|p| known.send(p, 1, &COMMIT));
    let best = |n, f: &dyn Fn(usize) -> f64| (0..5).map(|_| f(n)).fold(0.0, f64::max);
    let update = |n| rate(n, 40, &known, &LOOK);
    let insert = |n| rate(n, 1, &Table::new(), &COMMIT);
    for (name, f) in [("known", &update as &dyn Fn(usize) -> f64), ("commit of new ones", &insert)]
    {
        println!("{name:<38} {:>9.2} {:>9.2}", best(1, f), best(2, f));
    }
}

fn main() {
    let before = resident();
    let ct = established(1_000_000);
    println!("{:<38} {:>9}", "bytes a connection at 1,000,000", (resident() - before) / ct.len());
    drop(ct);
    println!("{:<38} {:>9} {:>9} {:>9}", "", "table", "packet", "batch");
    for n in [1, 10_000, 100_000, 1_000_000] {
        known("TCP", &mut established(n), n, |i| frame(i, true, 16, 101, 501));
    }
    for n in [1, 10_000, 100_000, 1_000_000] {
        let mut ct = fresh();
        (0..n).for_each(|i| {
            ct.process(T0, &view(&datagram(i)), &COMMIT, &mut None);
        });
        known("UDP", &mut ct, n, datagram);
    }
    const N: u32 = 500_000;
    let syns: Vec<[u8; 54]> = (0..N).map(|i| frame(i, true, 2, 100, 0)).collect();
    let keys: Vec<Parsed> = syns.iter().map(|f| parsed(f)).collect();
    let table = best(|| {
        let mut ct = fresh();
        let start = cpu_ns();
        for k in &keys {
            black_box(ct.process_parsed(T0, k, &COMMIT));
        }
        (cpu_ns() - start, u64::from(N))
    });
    let packet = best(|| {
        let mut ct = fresh();
        let start = cpu_ns();
        for f in &syns {
            black_box(ct.process(T0, &view(f), &COMMIT, &mut None));
        }
        (cpu_ns() - start, u64::from(N))
    });
    let batch = best(|| {
        let (mut ct, mut room) = (fresh(), Vec::new());
        let start = cpu_ns();
        for part in syns.chunks(32) {
            in_batch(&mut ct, &mut room, part, &COMMIT);
        }
        (cpu_ns() - start, u64::from(N))
    });
    println!("{:<38} {table:>9.1} {packet:>9.1} {batch:>9.1}", "commit of a new one, ns");
    let flush = best(|| {
        let mut ct = established(N);
        let start = cpu_ns();
        let mut cursor = Cursor::default();
        while !cursor.is_done() {
            ct.delete(T0, &mut cursor, &ConnFilter::zone(Zone(0)), 64);
        }
        (cpu_ns() - start, u64::from(N))
    });
    println!("{:<38} {flush:>9.1}", "zone flush, ns a connection");
    let expire = best(|| {
        let mut ct = established(N);
        let start = cpu_ns();
        while ct.expire(T0 + Duration::from_secs(100_000), 64).more {}
        assert!(ct.is_empty());
        (cpu_ns() - start, u64::from(N))
    });
    println!("{:<38} {expire:>9.1}", "expiry, ns a connection");
    threads();
}

/// Nanoseconds this thread was on a CPU.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split_whitespace().next().unwrap().parse().unwrap()
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
