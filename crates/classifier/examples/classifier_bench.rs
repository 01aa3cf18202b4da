//! Lookups per second, on the kind of tables and packets that
//! `ovstest test-classifier benchmark 10000 2 30 1 10000000` has:
//! `cargo run --release -p sekisho-classifier --example classifier_bench [N_LOOKUPS [CASE]]`.
//!
//! Thirteen fields have two values each; a packet has one value of each; a rule's values and its
//! priority, one of two, are random. The draws are that program's (Marsaglia's 32-bit xorshift,
//! seed 1) but for those that its hash tables take in between.
//!
//! `ovstest` draws thirty masks and then uses none: all its rules match all thirteen fields, in
//! one subtable. That is the table `one mask` (CASE 0 without wildcards, 1 with them). In
//! `30 masks` (2 and 3) each rule matches the fields of its mask, as was meant; `ovstest` with a
//! line that skips the other fields measures the same.

use std::time::Instant;

use classifier::{Classifier, Conjunctive};
use flow::{FlowKey, Match};

/// G. Marsaglia, "Xorshift RNGs", 2003.
struct Rng(u32);

impl Rng {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }
}

/// The rules are found, not used.
struct Rule {
    _id: u32,
}

impl Conjunctive for Rule {}

type Put = fn(&mut FlowKey, usize);

/// How a field gets its first or second value, or all ones (2), in the order of a rule's draw.
const FIELDS: [Put; 13] = [
    |k, i| k.pkt.tunnel.tun_id = [0, 0xfedc_ba98_7654_3210, u64::MAX][i],
    |k, i| k.metadata = [0, 0xfedc_ba98_7654_3210, u64::MAX][i],
    |k, i| k.pkt.nw_src = [0xc0a8_0001, 0xc0a0_4455, u32::MAX][i],
    |k, i| k.pkt.nw_dst = [0xc0a8_0002, 0xc0a0_4455, u32::MAX][i],
    |k, i| k.pkt.in_port = [1, 0xfffe, u32::MAX][i],
    |k, i| k.pkt.vlans[0].tci = [101, 0, u16::MAX][i],
    |k, i| k.pkt.dl_type = [0x800, 0x806, u16::MAX][i],
    |k, i| k.pkt.tp_src = [49362, 80, u16::MAX][i],
    |k, i| k.pkt.tp_dst = [6667, 22, u16::MAX][i],
    |k, i| {
        k.pkt.dl_src =
            [[0, 2, 0xe3, 0xf, 0x80, 0xa4], [0x5e, 0x33, 0x7f, 0x5f, 0x1e, 0x99], [0xff; 6]][i]
    },
    |k, i| k.pkt.dl_dst = [[0x4a, 0x27, 0x71, 0xae, 0x64, 0xc1], [0xff; 6], [0xff; 6]][i],
    |k, i| k.pkt.nw_proto = [6, 1, 0xff][i],
    |k, i| k.pkt.nw_tos = [48, 0, 0xfc][i],
];

/// The fields in the order of a packet's draw.
const PACKET_ORDER: [usize; 13] = [2, 3, 0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Packets to draw from; twice what twelve fields can give.
const N_PACKETS: u32 = 8192;

fn build(use_masks: bool) -> (Classifier<Rule>, Vec<FlowKey>) {
    let mut rng = Rng(1);
    let mut masks: Vec<u32> = Vec::new();
    while masks.len() < 30 {
        let m = rng.next() & 0x1fff;
        if !masks.contains(&m) {
            masks.push(m);
        }
    }
    let mut priorities = [0, 129];
    let i = rng.below(2) as usize;
    priorities.swap(0, i);

    let packet = |mut x: u32| {
        let mut k = FlowKey::ZERO;
        for f in PACKET_ORDER {
            FIELDS[f](&mut k, (x & 1) as usize);
            x >>= 1;
        }
        k
    };
    let packets = (0..N_PACKETS).map(|_| packet(rng.below(4096))).collect();

    let mut cls = Classifier::default();
    let t = Instant::now();
    for id in 0..10_000 {
        let priority = priorities[rng.below(2) as usize];
        let mask = masks[rng.below(30) as usize];
        let values = rng.next();
        let mut m = Match::ANY;
        for (i, put) in FIELDS.iter().enumerate() {
            if !use_masks || mask >> i & 1 != 0 {
                put(&mut m.key, (values >> i & 1) as usize);
                put(&mut m.mask, 2);
            }
        }
        if cls.get(&m, priority).is_none() {
            cls.insert(&m, priority, Rule { _id: id });
        }
    }
    println!("{} rules, {} masks, {:?}", cls.len(), cls.n_subtables(), t.elapsed());
    (cls, packets)
}

/// Lookups of randomly drawn packets: seconds and hits.
fn run(cls: &Classifier<Rule>, packets: &[FlowKey], n: u32, wildcards: bool) -> (f64, u32) {
    let mut rng = Rng(1);
    let (mut hits, t) = (0u32, Instant::now());
    for _ in 0..n {
        let p = &packets[rng.below(N_PACKETS) as usize];
        let found = if wildcards {
            let mut wc = FlowKey::ZERO;
            let found = cls.lookup(p, Some(&mut wc));
            std::hint::black_box(&wc);
            found
        } else {
            cls.lookup(p, None)
        };
        hits += u32::from(std::hint::black_box(found).is_some());
    }
    (t.elapsed().as_secs_f64(), hits)
}

fn main() {
    let n: u32 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(10_000_000);
    let only: Option<usize> = std::env::args().nth(2).and_then(|a| a.parse().ok());
    for (name, use_masks) in [("one mask", false), ("30 masks", true)] {
        print!("{name}: ");
        let (cls, packets) = build(use_masks);
        for wildcards in [false, true] {
            let case = usize::from(use_masks) * 2 + usize::from(wildcards);
            if only.is_some_and(|o| o != case) {
                continue;
            }
            // Other programs disturb: the best of a hundred slices counts.
            let runs = (0..100).map(|_| run(&cls, &packets, n / 100, wildcards));
            let (secs, hits) = runs.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
            let rate = f64::from(n / 100) / secs / 1e6;
            let how = if wildcards { "with" } else { "without" };
            println!(
                "  {how} wildcards: {rate:.1} M lookups/s, {} % hits",
                hits as u64 * 100 / u64::from(n / 100)
            );
        }
    }
}
