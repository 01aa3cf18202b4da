//! Lookups per second with 10,000 rules in 30 subtables: `cargo run --release --example bench`.
//!
//! The same shape as `ovstest test-classifier benchmark 10000 2 30 1`: random masks over a dozen
//! fields, two priorities, packets drawn from the rules' own values.

use std::time::Instant;

use classifier::Classifier;
use flow::{FlowKey, Match};

/// xorshift64*: the run is the same each time.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn key(rng: &mut Rng) -> FlowKey {
    let mut k = FlowKey::ZERO;
    k.metadata = rng.below(2);
    k.pkt.tunnel.tun_id = rng.below(2);
    k.pkt.in_port = rng.below(2) as u32;
    k.pkt.dl_type = [0x0800, 0x86dd][rng.below(2) as usize];
    k.pkt.vlans[0].tci = [0x1065, 0x1066][rng.below(2) as usize];
    k.pkt.dl_src[5] = rng.below(4) as u8;
    k.pkt.dl_dst[5] = rng.below(4) as u8;
    k.pkt.nw_src = 0xc0a8_0000 | rng.below(256) as u32;
    k.pkt.nw_dst = 0xc0a8_0000 | rng.below(256) as u32;
    k.pkt.nw_proto = [6, 17][rng.below(2) as usize];
    k.pkt.tp_src = rng.below(256) as u16;
    k.pkt.tp_dst = rng.below(256) as u16;
    k
}

fn mask(rng: &mut Rng) -> FlowKey {
    let mut m = FlowKey::ZERO;
    let bits = rng.next();
    let on = |i: u32| bits >> i & 1 != 0;
    m.metadata = if on(0) { u64::MAX } else { 0 };
    m.pkt.tunnel.tun_id = if on(1) { u64::MAX } else { 0 };
    m.pkt.in_port = if on(2) { u32::MAX } else { 0 };
    m.pkt.dl_type = 0xffff;
    m.pkt.vlans[0].tci = if on(4) { 0xffff } else { 0 };
    m.pkt.dl_src = if on(5) { [0xff; 6] } else { [0; 6] };
    m.pkt.dl_dst = if on(6) { [0xff; 6] } else { [0; 6] };
    m.pkt.nw_src = if on(7) { u32::MAX << (bits >> 40 & 7) } else { 0 };
    m.pkt.nw_dst = if on(8) { u32::MAX << (bits >> 44 & 7) } else { 0 };
    m.pkt.nw_proto = if on(9) { 0xff } else { 0 };
    m.pkt.tp_src = if on(10) { 0xffff } else { 0 };
    m.pkt.tp_dst = if on(11) { 0xffff } else { 0 };
    m
}

fn main() {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let masks: Vec<FlowKey> = (0..30).map(|_| mask(&mut rng)).collect();
    let mut cls = Classifier::default();
    let t = Instant::now();
    let mut tries = 0;
    while cls.len() < 10_000 && tries < 1_000_000 {
        tries += 1;
        let mask = masks[rng.below(30) as usize];
        let m = Match { key: &key(&mut rng) & &mask, mask };
        cls.insert(&m, rng.below(2) as i32, tries);
    }
    println!("{} rules, {} subtables, {:?}", cls.len(), cls.n_subtables(), t.elapsed());
    let packets: Vec<FlowKey> = (0..4096).map(|_| key(&mut rng)).collect();
    for wildcards in [false, true] {
        let (rounds, t) = (200, Instant::now());
        let mut hits = 0u64;
        for _ in 0..rounds {
            for p in &packets {
                let mut wc = FlowKey::ZERO;
                let found = cls.lookup(p, wildcards.then_some(&mut wc));
                hits += u64::from(found.is_some());
                std::hint::black_box(&wc);
            }
        }
        let n = rounds * packets.len() as u64;
        let secs = t.elapsed().as_secs_f64();
        println!(
            "wildcards {wildcards}: {:.2} M lookups/s, {} % hit",
            n as f64 / secs / 1e6,
            hits * 100 / n
        );
    }
}
