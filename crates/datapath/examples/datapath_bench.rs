//! Cost of a packet in memory: ports that make frames out of nothing and throw them away, so
//! what is measured is extraction, look-up, conntrack and actions, with one copy in as a device
//! would make it.
//!
//! `cargo run --release -p sekisho-datapath --example datapath_bench [SECONDS [WORD OF A NAME]]`

use std::hint::black_box;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant as Wall};

use base::{DpPort, HashKey, Instant, RecircId};
use conntrack::CtRequest;
use datapath::{Config, Datapath};
use dpif::{DpAction, MegaflowSpec, Revalidation, SlowPath, Upcall, UserspaceCookie};
use flow::{PacketKey, ct_state};
use netdev::{BATCH, PortState, Received, RxQueue, TxQueue};
use packet::PacketBuf;
use packet::checksum::{add, checksum, finish, pseudo_v4};

type Policy = fn(&PacketKey) -> (PacketKey, Vec<DpAction>);

#[derive(Debug)]
struct Slow(Policy);

impl Slow {
    fn spec(&self, key: &PacketKey) -> MegaflowSpec {
        let (mask, actions) = (self.0)(key);
        MegaflowSpec { mask, actions: actions.into(), credit: None, generation: 1 }
    }
}

impl SlowPath for Slow {
    fn generation(&self) -> u64 {
        1
    }

    fn upcall(&self, _: Instant, _: &PacketBuf, key: &PacketKey) -> Upcall {
        Upcall { flow: Some(self.spec(key)), execute: None }
    }

    fn revalidate(&self, _: Instant, key: &PacketKey) -> Revalidation {
        Revalidation::Flow(self.spec(key))
    }

    fn userspace(
        &self,
        _: Instant,
        _: &PacketBuf,
        _: &PacketKey,
        _: &UserspaceCookie,
    ) -> Option<Arc<[DpAction]>> {
        None
    }
}

/// Receives its frames again and again, and takes everything.
#[derive(Debug)]
struct Memory {
    /// Of a port: until its queue is taken.
    frames: Option<Arc<[PacketBuf]>>,
    next: usize,
    state: Arc<PortState>,
}

impl RxQueue for Memory {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn recv(&mut self, bufs: &mut [PacketBuf]) -> Received {
        let Some(frames) = self.frames.as_deref().filter(|f| !f.is_empty()) else {
            return Received::default();
        };
        for b in bufs.iter_mut() {
            b.copy_from(&frames[self.next]);
            self.next = if self.next + 1 == frames.len() { 0 } else { self.next + 1 };
        }
        Received { n: bufs.len(), more: true, gone: false }
    }
}

#[derive(Debug)]
struct Void;

impl TxQueue for Void {
    fn send(&mut self, pkts: &[&PacketBuf]) -> usize {
        black_box(pkts).len()
    }
}

impl netdev::Port for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn ifindex(&self) -> Option<u32> {
        None
    }

    fn state(&self) -> &Arc<PortState> {
        &self.state
    }

    fn take_rx(&mut self) -> Option<Box<dyn RxQueue>> {
        // One queue.
        let frames = self.frames.take()?;
        Some(Box::new(Memory { frames: Some(frames), next: 0, state: Arc::clone(&self.state) }))
    }

    fn open_tx(&self) -> Result<Box<dyn TxQueue>, netdev::Error> {
        Ok(Box::new(Void))
    }
}

fn frame(host: u32, udp: bool, reply: bool, flags: u8) -> PacketBuf {
    let (mut src, mut dst) = (0x0a00_0000 | host, 0x0a80_0001u32);
    let (mut sport, mut dport) = (1024 + (host % 50_000) as u16, 80u16);
    if reply {
        (src, dst, sport, dport) = (dst, src, dport, sport);
    }
    let mut l4 = Vec::new();
    l4.extend(sport.to_be_bytes());
    l4.extend(dport.to_be_bytes());
    if udp {
        l4.extend([0, 26, 0, 0]);
        l4.resize(26, 0);
    } else {
        // Right in either direction whatever is acknowledged: within the offered window.
        l4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
        l4.resize(26, 0);
    }
    let proto = if udp { 17 } else { 6 };
    let sum = finish(add(pseudo_v4(src, dst, proto, 26), &l4));
    let at = if udp { 6 } else { 16 };
    l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 1, 0x40, 0, 64];
    f.extend([proto, 0, 0]);
    f.extend(src.to_be_bytes());
    f.extend(dst.to_be_bytes());
    let c = checksum(&f[14..34]);
    f[24..26].copy_from_slice(&c.to_be_bytes());
    f.extend(l4);
    PacketBuf::from_frame(&f)
}

fn forward(_: &PacketKey) -> (PacketKey, Vec<DpAction>) {
    (PacketKey::ZERO, vec![DpAction::Output(DpPort(2))])
}

fn exact(_: &PacketKey) -> (PacketKey, Vec<DpAction>) {
    let mut m = PacketKey::ZERO;
    (m.nw_src, m.nw_dst, m.nw_proto, m.tp_src, m.tp_dst) = (!0, !0, !0, !0, !0);
    (m.dl_src, m.dl_dst) = ([!0; 6], [!0; 6]);
    (m, vec![DpAction::Output(DpPort(2))])
}

fn stateful(k: &PacketKey) -> (PacketKey, Vec<DpAction>) {
    let ct = |commit| DpAction::Ct(Box::new(CtRequest { commit, ..CtRequest::default() }));
    let mut m = PacketKey::ZERO;
    if k.recirc_id == 0 {
        return (m, vec![ct(false), DpAction::Recirc(RecircId(1))]);
    }
    m.ct_state = ct_state::NEW | ct_state::EST;
    (m.dl_src, m.dl_dst) = ([!0; 6], [!0; 6]);
    let to = DpAction::Output(DpPort(3 - k.in_port));
    (m, if k.ct_state & ct_state::NEW != 0 { vec![ct(true), to] } else { vec![to] })
}

fn main() {
    let seconds = std::env::args().nth(1).and_then(|s| s.parse().ok()).unwrap_or(0.5);
    let time = Duration::from_secs_f64(seconds);
    println!("{:<44} {:>10} {:>8}  connection/exact/megaflow/miss", "", "ns/packet", "Mpps");
    for n in [1u32, 10_000, 100_000] {
        run(&format!("in_port -> output, {n} UDP flows"), forward, true, n, false, time);
    }
    for n in [1, 1_000, 10_000, 100_000] {
        run(&format!("5-tuple megaflows, {n}"), exact, true, n, false, time);
    }
    for udp in [true, false] {
        let name = if udp { "UDP" } else { "TCP" };
        for n in [1, 10_000, 100_000] {
            let text = format!("stateful policy, {n} {name} connections");
            run(&text, stateful, udp, n, true, time);
        }
    }
}

/// With the connection cache and without it.
fn run(name: &str, policy: Policy, udp: bool, n_flows: u32, both: bool, time: Duration) {
    if std::env::args().nth(2).is_some_and(|word| !name.contains(&word)) {
        return;
    }
    let with = Config::default().conn_cache;
    run_with(name, policy, udp, n_flows, both, with, time);
    run_with("  without the connection cache", policy, udp, n_flows, both, 0, time);
}

fn run_with(
    name: &str,
    policy: Policy,
    udp: bool,
    n_flows: u32,
    both: bool,
    conn_cache: usize,
    time: Duration,
) {
    let config = Config {
        n_threads: 0,
        secret: HashKey([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]),
        conn_cache,
        ..Config::default()
    };
    let clock: datapath::Clock = Arc::new(|| Instant::ZERO);
    let dp = Datapath::new(&config, Arc::new(Slow(policy)), clock, Arc::new(|_| ()));
    let dp = dp.expect("no threads, no failure");
    if both && !udp {
        // Handshakes, so that connections are established.
        let port = |n, flags: u8, reply| {
            let frames: Vec<_> = (0..n_flows).map(|i| frame(i, false, reply, flags)).collect();
            let mut p = Memory::new(frames);
            dp.add_port(DpPort(n), &mut p).expect("fresh number");
        };
        for (n, flags, reply) in [(1, 2, false), (2, 0x12, true)] {
            port(n, flags, reply);
            let (mut sent, other) = (0, 3 - n);
            let mut quiet = Memory::new(Vec::new());
            let _ = dp.add_port(DpPort(other), &mut quiet);
            while sent < n_flows as usize {
                sent += dp.poll(Instant::from_secs(1));
            }
            dp.remove_port(DpPort(1));
            dp.remove_port(DpPort(2));
        }
    }
    for (n, reply) in [(1, false), (2, true)] {
        let frames: Vec<_> = match both || n == 1 {
            true => (0..n_flows).map(|i| frame(i, udp, reply, 0x10)).collect(),
            false => Vec::new(),
        };
        let mut p = Memory::new(frames);
        dp.add_port(DpPort(n), &mut p).expect("fresh number");
    }
    let now = |i: u64| Instant::from_secs(2) + Duration::from_micros(i);
    let mut i = 0;
    // Until the caches have grown.
    let warm = 60 * n_flows as usize / BATCH + 1000;
    for _ in 0..warm {
        dp.poll(now(0));
    }
    let before = dp.stats();
    let start = Wall::now();
    while start.elapsed() < time {
        for _ in 0..64 {
            i += 1;
            dp.poll(now(i));
        }
    }
    let ns = start.elapsed().as_nanos() as f64;
    let s = dp.stats();
    let packets = s.packets - before.packets;
    let per = ns / packets as f64;
    let dropped: u64 = s.drops.iter().sum::<u64>() - before.drops.iter().sum::<u64>();
    println!(
        "{name:<44} {per:>10.1} {:>8.2}  {}/{}/{}/{}{}",
        1000.0 / per,
        s.hit_conn - before.hit_conn,
        s.hit_exact - before.hit_exact,
        s.hit_megaflow - before.hit_megaflow,
        s.missed - before.missed,
        if dropped > 0 { format!("  dropped {dropped}!") } else { String::new() },
    );
}

impl Memory {
    fn new(frames: Vec<PacketBuf>) -> Memory {
        Memory { frames: Some(frames.into()), next: 0, state: Arc::new(PortState::new(0)) }
    }
}
